//! How fast vectors are written and read: `cargo run --release -p mediant-artifact --example throughput -- FOLDER`.

#![expect(clippy::print_stdout, reason = "an example prints")]

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use mediant_artifact::{Artifact, ArtifactWriter, DType, Kind, VectorSpec};

const ROWS: u64 = 1 << 18;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    for width in [64, 768, 4096] {
        for dtype in DType::ALL {
            let dir = tempfile::tempdir_in(&folder)?;
            let rows = ROWS.min((1 << 30) / (width as u64 * 4));
            report(dir.path(), rows, width, dtype)?;
        }
    }
    Ok(())
}

fn report(dir: &std::path::Path, rows: u64, width: usize, dtype: DType) -> Result<(), Box<dyn Error>> {
    // One batch of a model's activations at a time.
    let batch: Vec<f32> = (0..4096 * width).map(|i| (i as f32).sin()).collect();
    let bytes = rows as f64 * (width * dtype.size()) as f64;
    let speed = |start: Instant| bytes / start.elapsed().as_secs_f64() / 1e9;

    let start = Instant::now();
    let writer = ArtifactWriter::create(dir, Kind::Table)?;
    let mut vectors = writer.vectors("v", VectorSpec::new(dtype, [width]))?;
    for _ in 0..rows / 4096 {
        vectors.write_f32(&batch)?;
    }
    vectors.close()?;
    writer.finish(&())?;
    let write = speed(start);

    let artifact = Artifact::open(dir)?;
    let mut out = vec![0.0; 4096 * width];
    let mut read = [0.0; 2];
    for speed_of in &mut read {
        let start = Instant::now();
        let vectors = artifact.vectors("v")?;
        for from in (0..rows).step_by(4096) {
            vectors.range_f32(from..from + 4096, &mut out)?;
        }
        *speed_of = speed(start);
    }
    let start = Instant::now();
    let vectors = artifact.vectors("v")?;
    for from in (0..rows).step_by(4096) {
        // An odd step visits every row once.
        let some: Vec<u64> = (from..from + 4096).map(|i| i.wrapping_mul(40_503) % rows).collect();
        vectors.gather_f32(&some, &mut out)?;
    }
    let gather = speed(start);
    let start = Instant::now();
    let decoded: usize = artifact.batches("v")?.map(|batch| batch.map_or(0, |batch| batch.num_rows())).sum();
    let decode = speed(start);
    assert_eq!(decoded as u64, rows);
    println!(
        "{rows} x {width} {dtype}: write {write:.2} GB/s, range {:.2} then {:.2}, gather {gather:.2}, Parquet's reader {decode:.2}",
        read[0], read[1]
    );
    Ok(())
}

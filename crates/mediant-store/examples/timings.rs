//! How long the store's own work takes: `cargo run --release -p mediant-store --example timings [DIR [syncs]]`.
//! With `syncs`, only what waits for the disk.

#![expect(clippy::print_stdout, reason = "the output of the example")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use mediant_store::{ActionRecord, FileEntry, Id, ObjectState, OutputRecord, RawJson, StatIndex, Store};

const COUNT: usize = 10_000;
const TIMED: usize = 200;
const MANIFEST: &str = "manifest.json";

fn main() -> Result<(), Box<dyn Error>> {
    let place = match std::env::args_os().nth(1) {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let root = place.path().join("store");
    let (_, elapsed) = timed(|| Store::open(&root))?;
    println!("open a new store                       {elapsed}");
    let (store, elapsed) = timed(|| Store::open(&root))?;
    println!("open it again                          {elapsed}");

    let mut syncing = Vec::new();
    for n in 0..TIMED {
        let path = place.path().join(n.to_string());
        fs::write(&path, [7; 3000])?;
        syncing.push(timed(|| fs::File::open(&path).and_then(|file| file.sync_all()))?.1);
    }
    println!("sync a small file, for comparison      {}  median of {TIMED}", median(syncing));

    let mut publishing = Vec::new();
    let mut recording = Vec::new();
    let mut locking = Vec::new();
    for n in 0..TIMED {
        let (lock, elapsed) = timed(|| store.lock_action(key(n), || ()))?;
        locking.push(elapsed);
        let staging = store.stage_dir("timing")?;
        let (output, elapsed) = timed(|| publish(&store, &staging.path().join("out"), n))?;
        publishing.push(elapsed);
        let record = record(output)?;
        recording.push(timed(|| store.write_action(key(n), &record))?.1);
        drop(lock);
    }
    println!("lock an action, median                 {}", median(locking));
    println!("write and publish a small object       {}  median of {TIMED}", median(publishing));
    println!("write its action record                {}  median of {TIMED}", median(recording));

    if std::env::args_os().nth(2).is_some() {
        return Ok(());
    }
    for n in TIMED..COUNT {
        let staging = store.stage_dir("timing")?;
        let output = publish(&store, &staging.path().join("out"), n)?;
        store.write_action(key(n), &record(output)?)?;
    }
    for pass in ["", ", again"] {
        let (records, elapsed) =
            timed(|| (0..COUNT).map(|n| store.read_action(key(n))).collect::<Result<Vec<_>, _>>())?;
        let records: Vec<ActionRecord> = records.into_iter().flatten().collect();
        println!("read {} action records{pass:<14}{elapsed}", records.len());
    }
    let records: Vec<ActionRecord> =
        (0..COUNT).filter_map(|n| store.read_action(key(n)).transpose()).collect::<Result<_, _>>()?;
    let stats = StatIndex::load(&store);
    println!("check {COUNT} objects by reading        {}", check_all(&store, &stats, &records)?);
    println!("check {COUNT} objects by stat           {}", check_all(&store, &stats, &records)?);
    let ((), elapsed) = timed(|| stats.save())?;
    println!("save a stat index of {:<18}{elapsed}", 2 * COUNT);
    let (stats, elapsed) = timed(|| Ok::<_, Box<dyn Error>>(StatIndex::load(&store)))?;
    println!("load it                                {elapsed}");
    println!("check {COUNT} objects by stat, again    {}", check_all(&store, &stats, &records)?);
    let (plan, elapsed) = timed(|| store.plan_gc(&mediant_store::GcOptions::default()))?;
    println!("plan gc over {} objects             {elapsed}", plan.kept_objects);

    let large = place.path().join("large");
    fs::write(&large, vec![7; 1 << 30])?;
    std::thread::sleep(Duration::from_millis(50));
    println!("digest 1 GiB                           {}", timed(|| stats.digest_file(&large))?.1);
    println!("digest it again                        {}", timed(|| stats.digest_file(&large))?.1);
    Ok(())
}

fn publish(store: &Store, dir: &Path, n: usize) -> Result<OutputRecord, Box<dyn Error>> {
    fs::create_dir(dir)?;
    let part = vec![n as u8; 3000];
    let entry = FileEntry { name: "rows-00000.parquet".to_owned(), bytes: 3000, blake3: Id::of(&part) };
    fs::write(dir.join(&entry.name), part)?;
    fs::write(dir.join(MANIFEST), format!("{{\"n\":{n},\"pad\":\"{}\"}}", "x".repeat(800)))?;
    let object = store.publish(dir, MANIFEST)?;
    Ok(OutputRecord { kind: "table".to_owned(), object, logical: key(n), files: vec![entry] })
}

fn record(output: OutputRecord) -> Result<ActionRecord, Box<dyn Error>> {
    let preimage: BTreeMap<String, f64> = (0..30).map(|n| (format!("an_option_of_the_stage_{n}"), 0.1)).collect();
    Ok(ActionRecord {
        stage: "timing".to_owned(),
        preimage: RawJson::new(&preimage)?,
        inputs: vec![key(1), key(2)],
        content: key(3),
        outputs: BTreeMap::from([("out".to_owned(), output)]),
        provenance: RawJson::new(&preimage)?,
        cacheable: true,
    })
}

fn check_all(store: &Store, stats: &StatIndex, records: &[ActionRecord]) -> Result<Took, Box<dyn Error>> {
    let ((), took) = timed(|| {
        for output in records.iter().flat_map(|record| record.outputs.values()) {
            let state = store.check(output.object, MANIFEST, &output.files, stats)?;
            if state != ObjectState::Intact {
                return Err(Box::<dyn Error>::from(format!("{state:?}")));
            }
        }
        Ok(())
    })?;
    Ok(took)
}

fn key(n: usize) -> Id {
    Id::of(&n.to_le_bytes())
}

/// What a piece of work took by the clock, and of this thread's time: on a busy machine the second is the sturdier.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Took {
    wall: Duration,
    cpu: Duration,
}

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>10.2?} (CPU {:>8.2?})", self.wall, self.cpu)
    }
}

fn timed<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<(T, Took), E> {
    let (start, cpu) = (Instant::now(), cpu());
    Ok((work()?, Took { wall: start.elapsed(), cpu: self::cpu() - cpu }))
}

fn cpu() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|nanoseconds| nanoseconds.parse().ok()).unwrap_or(0))
}

fn median(mut times: Vec<Took>) -> Took {
    times.sort_unstable();
    times[times.len() / 2]
}

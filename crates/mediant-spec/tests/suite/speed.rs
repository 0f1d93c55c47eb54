//! How long large files take. Run it alone, for the memory: `cargo test --release -p mediant-spec -- --ignored --nocapture speed`.

#![expect(clippy::print_stdout, reason = "a measurement that prints")]

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use mediant_spec::{expand, parse};

use super::support::Catalogue;

/// Layers of ten stages, each reading two of the layer above.
fn lattice(stages: usize) -> String {
    let mut text = String::from("mediant: 1\nname: lattice\nseed: 0\nstages:\n");
    for stage in 0..stages {
        let (layer, place) = (stage / 10, stage % 10);
        writeln!(text, "  s{stage}:\n    uses: command").unwrap();
        if layer > 0 {
            let above = (layer - 1) * 10;
            writeln!(text, "    inputs: {{ a: s{}, b: s{} }}", above + place, above + (place + 1) % 10).unwrap();
        }
        writeln!(text, "    with: {{ argv: [sh, -c, \"echo {stage} > out\"] }}").unwrap();
    }
    text
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

#[test]
#[ignore = "a measurement"]
fn lattices() {
    for stages in [1_000, 10_000, 100_000] {
        let text = lattice(stages);
        let before = peak_kib();
        let start = Instant::now();
        let pipeline = parse(Path::new("lattice.yaml"), &text, &[]).unwrap();
        let parsed = start.elapsed();
        let expansion = expand(&pipeline, &Catalogue).unwrap();
        let expanded = start.elapsed() - parsed;
        assert_eq!(expansion.instances.len(), stages);
        println!(
            "{stages:6} stages, {:5} KiB: parse {parsed:.1?}, expand {expanded:.1?}; peak memory {before} -> {} KiB",
            text.len() / 1024,
            peak_kib()
        );
    }
}

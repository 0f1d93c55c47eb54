//! What actions took, from the provenance in their records.

use std::collections::BTreeSet;

use mediant_report::{Cost, InstanceRun};
use mediant_store::ActionRecord;
use serde::Deserialize;

/// The part of the provenance that a report shows.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Provenance {
    mediant: String,
    device: String,
    machine: Machine,
    threads: u64,
    started: String,
    seconds: f64,
    peak_memory: u64,
    actions_together: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Machine {
    cpu: String,
    cpu_features: String,
}

pub(super) fn cost(record: &ActionRecord) -> Cost {
    let made: Provenance = record.provenance.parse().unwrap_or_default();
    let machine = [made.machine.cpu, made.machine.cpu_features].into_iter().filter(|part| !part.is_empty());
    Cost {
        seconds: made.seconds,
        peak_memory: made.peak_memory,
        together: made.actions_together,
        device: made.device,
        machine: machine.collect::<Vec<_>>().join(", "),
        threads: made.threads,
        started: seconds_of(&made.started),
        mediant: made.mediant,
    }
}

/// A time in RFC 3339 without parts of seconds.
fn seconds_of(time: &str) -> String {
    match (time.split_once('.'), time.ends_with('Z')) {
        (Some((whole, _)), true) => format!("{whole}Z"),
        _ => time.to_owned(),
    }
}

/// When the first and the last of the results were begun, and on what.
pub(super) fn times(instances: &[InstanceRun]) -> Vec<(String, String)> {
    let costs = || instances.iter().filter_map(|instance| instance.cost.as_ref());
    let starts: BTreeSet<&str> = costs().map(|cost| cost.started.as_str()).filter(|at| !at.is_empty()).collect();
    let distinct = |of: fn(&Cost) -> String| costs().map(of).filter(|text| !text.is_empty()).collect::<BTreeSet<_>>();
    let mut found = Vec::new();
    if let (Some(first), Some(last)) = (starts.first(), starts.last()) {
        found.push((
            "results begun".to_owned(),
            if first == last { (*first).to_owned() } else { format!("{first} to {last}") },
        ));
    }
    let lists = [
        (
            "made by",
            distinct(|cost| if cost.mediant.is_empty() { String::new() } else { format!("Mediant {}", cost.mediant) }),
        ),
        ("device", distinct(|cost| cost.device.clone())),
        ("processor", distinct(|cost| cost.machine.clone())),
    ];
    for (name, values) in lists {
        if !values.is_empty() {
            found.push((name.to_owned(), values.into_iter().collect::<Vec<_>>().join("; ")));
        }
    }
    found
}

//! The last lines of a run: what its last stages found, and counts.

use mediant_artifact::{Artifact, Kind, read_metrics, read_scores};
use mediant_engine::{Known, Outcome, Plan, output_name};
use petgraph::Direction;
use petgraph::graph::NodeIndex;

const MOST_TABLES: usize = 3;
const MOST_NAMES: usize = 12;
const MOST_ROWS: usize = 40;
const MOST_SCORES: usize = 20;

/// Prints the summary of a run to standard output.
pub(crate) fn summary(plan: &Plan, outcome: &Outcome) {
    let last: Vec<usize> = (0..plan.instances.len())
        .filter(|index| plan.graph.neighbors_directed(NodeIndex::new(*index), Direction::Outgoing).next().is_none())
        .collect();
    // More than a few tables are no summary.
    let mut tables: Vec<(String, String)> = last.iter().filter_map(|index| table(plan, *index, outcome)).collect();
    let rest = tables.split_off(tables.len().min(MOST_TABLES));
    for (label, table) in tables {
        anstream::println!("{label}\n{table}");
    }
    if !rest.is_empty() {
        let rest: Vec<&str> = rest.iter().take(MOST_NAMES).map(|(label, _)| label.as_str()).collect();
        anstream::println!("`mediant show` has more results: {}\n", rest.join(", "));
    }
    let mut parts = vec![format!("{} ran", outcome.ran), format!("{} cached", outcome.cached)];
    if outcome.failed > 0 {
        parts.push(format!("{} failed", outcome.failed));
    }
    if outcome.skipped > 0 {
        parts.push(format!("{} skipped", outcome.skipped));
    }
    anstream::println!("{} in {}", parts.join(", "), super::time(outcome.seconds));
}

/// The label and the default output of an instance, if it is a table, scores or metrics.
fn table(plan: &Plan, index: usize, outcome: &Outcome) -> Option<(String, String)> {
    let known: &Known = outcome.known.get(index)?.as_ref()?;
    let instance = &plan.instances[index];
    let (output, key) = instance.artifacts().next()?;
    let found = known.output(&output_name(&output.name, key))?;
    let artifact = Artifact::open(&plan.store.object_path(found.object)).ok()?;
    let table = match output.kind {
        Kind::Table => mediant_report::head(&artifact, mediant_report::main_table(Kind::Table), MOST_ROWS).ok(),
        Kind::Scores => read_scores(&artifact).ok().map(|(_, rows)| mediant_report::scores_table(&rows, MOST_SCORES)),
        Kind::Metrics => read_metrics(&artifact).ok().map(|rows| mediant_report::metrics_table(&rows, MOST_ROWS)),
        _ => None,
    };
    Some((instance.label.clone(), table?.to_terminal(super::terminal())))
}

//! The last lines of a run: what its last stages found, and counts.

use mediant_artifact::{Artifact, Kind, read_metrics, read_scores};
use mediant_engine::{Known, Outcome, Plan, output_name};
use petgraph::Direction;
use petgraph::graph::NodeIndex;

const MOST_TABLES: usize = 3;
const MOST_ROWS: usize = 40;
const MOST_SCORES: usize = 20;

/// Prints the summary of a run to standard output.
pub(crate) fn summary(plan: &Plan, outcome: &Outcome) {
    let last: Vec<usize> = (0..plan.instances.len())
        .filter(|index| plan.graph.neighbors_directed(NodeIndex::new(*index), Direction::Outgoing).next().is_none())
        .collect();
    // More than a few tables are no summary; `mediant show` has them all.
    for index in last.into_iter().take(MOST_TABLES) {
        if let Some(known) = outcome.known.get(index).and_then(Option::as_ref) {
            show(plan, index, known);
        }
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

/// Shows the default output of an instance, if it is a table, scores or metrics.
fn show(plan: &Plan, index: usize, known: &Known) {
    let instance = &plan.instances[index];
    let Some((output, key)) = instance.artifacts().next() else { return };
    let Some(found) = known.output(&output_name(&output.name, key)) else { return };
    let Ok(artifact) = Artifact::open(&plan.store.object_path(found.object)) else { return };
    let table = match output.kind {
        Kind::Table => mediant_report::head(&artifact, mediant_report::main_table(Kind::Table), MOST_ROWS).ok(),
        Kind::Scores => read_scores(&artifact).ok().map(|(_, rows)| mediant_report::scores_table(&rows, MOST_SCORES)),
        Kind::Metrics => read_metrics(&artifact).ok().map(|rows| mediant_report::metrics_table(&rows, MOST_ROWS)),
        _ => None,
    };
    if let Some(table) = table {
        anstream::println!("{}\n{}", instance.label, table.to_terminal(super::terminal()));
    }
}

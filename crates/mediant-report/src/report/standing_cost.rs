//! What searches that are compared found, beside what finding and measuring it took.

use mediant_artifact::{EffectsMeta, Kind, MetricRow, read_metrics};

use super::document::{Block, Data, Section, Sheet};
use super::run::{InstanceRun, Run};
use crate::error::Result;
use crate::table::{Cell, TextTable};

/// The stage that compares, and its ports and those of what it compares that lead back to a search.
const COMPARES: &str = "compare_mediators";
const MEASURED: &[&str] = &["effects"];
const FOUND: &[&str] = &["mediators", "directions", "mask"];
/// The numbers that a search is compared by.
const SCORES: [&str; 2] = ["cpr_signed", "iia"];
const COLUMNS: [&str; 13] = [
    "comparison",
    "mediator",
    "search",
    "of",
    "score",
    "value",
    "low",
    "high",
    "passes",
    "search, s",
    "search, memory",
    "evaluation, s",
    "evaluation, memory",
];

/// One row a score; none where nothing is compared.
pub(super) fn section(run: &Run, most: usize) -> Result<Option<Section>> {
    let mut table = TextTable::new(COLUMNS);
    for (node, _) in run.graph.nodes().iter().enumerate().filter(|(_, stage)| stage.uses == COMPARES) {
        for comparison in run.of(node) {
            let metrics = comparison.results.iter().find(|result| result.artifact.kind() == Kind::Metrics);
            let Some(metrics) = metrics else { continue };
            for row in read_metrics(&metrics.artifact)?.iter().filter(|row| SCORES.contains(&row.name.as_str())) {
                table.push(cells(run, node, comparison, row)?);
            }
        }
    }
    if table.is_empty() {
        return Ok(None);
    }
    let mut section = Section::new("Scores and their cost");
    let text = "What every search that is compared reached, beside what the search and its evaluation took. Passes are equivalents of forward passes over the prompts.";
    section.blocks.push(Block::Text(text.to_owned()));
    let shown = table.clone().limited(most);
    section.blocks.push(Block::Sheet(Sheet {
        title: "Scores and their cost".to_owned(),
        shown,
        data: Data::own(table),
    }));
    Ok(Some(section))
}

fn cells(run: &Run, node: usize, comparison: &InstanceRun, row: &MetricRow) -> Result<Vec<Cell>> {
    let measured = measured(run, node, comparison, row)?;
    let evaluation = measured.as_ref().map(|(instance, _)| *instance);
    let search = evaluation.and_then(|instance| {
        let of_axes = |search: &&InstanceRun| agree(search, &instance.axes);
        producers(run, instance.node, FOUND).find(of_axes)
    });
    let tag = |name: &str| row.tags.get(name).cloned().unwrap_or_default();
    let others = row.tags.iter().filter(|(name, _)| !["mediator", "search"].contains(&name.as_str()));
    let others: Vec<String> = others.map(|(name, value)| format!("{name}={value}")).collect();
    let seconds = |instance: Option<&InstanceRun>| {
        Cell::or_empty(instance.and_then(InstanceRun::own_seconds), |s| Cell::Float((s * 1000.0).round() / 1000.0))
    };
    let memory = |instance: Option<&InstanceRun>| {
        Cell::or_empty(instance.and_then(|instance| instance.cost.as_ref()), |cost| Cell::Bytes(cost.peak_memory))
    };
    let passes = measured.as_ref().and_then(|(_, meta)| meta.settings.get("search_passes")?.parse::<f64>().ok());
    Ok(vec![
        Cell::text(&comparison.label),
        Cell::text(tag("mediator")),
        Cell::text(tag("search")),
        Cell::text(others.join(",")),
        Cell::text(&row.name),
        Cell::Float(row.value),
        Cell::or_empty(row.low, Cell::Float),
        Cell::or_empty(row.high, Cell::Float),
        Cell::or_empty(passes, Cell::Float),
        seconds(search),
        memory(search),
        seconds(evaluation),
        memory(evaluation),
    ])
}

/// The instance whose effects a score is of: that of the same mediator, search and labels.
fn measured<'r>(
    run: &'r Run,
    node: usize,
    comparison: &InstanceRun,
    row: &MetricRow,
) -> Result<Option<(&'r InstanceRun, EffectsMeta)>> {
    for instance in producers(run, node, MEASURED) {
        let labelled = |(axis, label): &(String, String)| row.tags.get(axis).is_none_or(|own| own == label);
        if !agree(instance, &comparison.axes) || !instance.axes.iter().all(labelled) {
            continue;
        }
        for effects in instance.results.iter().filter(|result| result.artifact.kind() == Kind::Effects) {
            let meta: EffectsMeta = effects.artifact.meta()?;
            // A control may come from an instance of the same stage.
            let control = meta.settings.get("shuffled_labels").is_some_and(|shuffled| shuffled == "true");
            let same = |name: &&str| meta.settings.get(*name) == row.tags.get(*name);
            if !control && ["mediator", "search"].iter().all(same) {
                return Ok(Some((instance, meta)));
            }
        }
    }
    Ok(None)
}

/// The instances whose results come to some ports of a stage.
fn producers<'r>(run: &'r Run, node: usize, ports: &'r [&str]) -> impl Iterator<Item = &'r InstanceRun> {
    let edges = run.graph.edges().iter().filter(move |edge| edge.to == node && ports.contains(&edge.port.as_str()));
    edges.flat_map(|edge| run.of(edge.from))
}

/// Whether an instance has no other label on an axis than these.
fn agree(instance: &InstanceRun, axes: &[(String, String)]) -> bool {
    instance.axes.iter().all(|(axis, label)| axes.iter().all(|(other, own)| other != axis || own == label))
}

//! Faithfulness against the size of the set.

use std::collections::BTreeSet;

use mediant_artifact::ArtifactWriter;
use mediant_engine::StageError;
use mediant_methods::standings::{Origin, Standing};

use super::columns::{counts, labelled, numbers, texts, write};

/// One row a set on a curve, with the columns that the report draws.
pub(super) fn write_curves(
    artifact: ArtifactWriter,
    axes: &[&str],
    seeds: &[String],
    standings: &[Standing<'_>],
) -> Result<(), StageError> {
    let points: Vec<_> =
        standings.iter().flat_map(|standing| standing.points.iter().map(move |point| (standing, point))).collect();
    let rows: Vec<&Origin> = points.iter().map(|(standing, _)| &standing.entry.origin).collect();
    let plain: Vec<&str> = axes.iter().copied().filter(|axis| !seeds.iter().any(|seed| seed == axis)).collect();
    let mut columns = labelled(&plain, &rows);
    // The report takes curves that differ in `seed` alone for repetitions.
    let repetitions: Vec<Vec<&String>> =
        rows.iter().map(|row| seeds.iter().filter_map(|axis| row.search.labels.get(axis)).collect()).collect();
    if repetitions.iter().any(|labels| !labels.is_empty()) {
        columns.push(counts("seed", numbered(&repetitions).into_iter()));
    }
    let share = |kept: u32, of: u32| f64::from(kept) / f64::from(of.max(1));
    columns.extend([
        texts("selection", points.iter().map(|(_, point)| Some(point.selection.name()))),
        numbers("fraction", points.iter().map(|(_, point)| Some(share(point.budget.kept, point.budget.of)))),
        counts("size", points.iter().map(|(_, point)| u64::from(point.budget.kept))),
        numbers("size_bits", points.iter().map(|(_, point)| Some(point.bits))),
        numbers("size_weighted_edges", points.iter().map(|(_, point)| point.budget.weighted_edges)),
        numbers("faithfulness", points.iter().map(|(_, point)| Some(point.faithfulness.value))),
        numbers("low", points.iter().map(|(_, point)| point.faithfulness.interval.map(|(low, _)| low))),
        numbers("high", points.iter().map(|(_, point)| point.faithfulness.interval.map(|(_, high)| high))),
        numbers("own", points.iter().map(|(_, point)| Some(point.own))),
        numbers("completeness", points.iter().map(|(_, point)| point.completeness)),
        numbers("random_low", points.iter().map(|(_, point)| point.random.map(|(low, ..)| low))),
        numbers("random_high", points.iter().map(|(_, point)| point.random.map(|(_, high, _)| high))),
        numbers("random_mean", points.iter().map(|(_, point)| point.random.map(|(.., mean)| mean))),
    ]);
    let description = "F of the sets that each search chooses; own: from the family's own nothing to its own everything, completeness: F of everything else, \
                       random_low to random_high: the central 95 percent of random sets of that size.";
    write(artifact, columns, "Faithfulness", description)
}

/// A number for each repetition: its seed where one axis has whole numbers, else its place among the different ones.
fn numbered(repetitions: &[Vec<&String>]) -> Vec<u64> {
    let seeds: Option<Vec<u64>> = repetitions
        .iter()
        .map(|labels| match labels[..] {
            [label] => label.parse().ok(),
            _ => None,
        })
        .collect();
    let different: BTreeSet<_> = repetitions.iter().collect();
    let place = |labels: &Vec<&String>| different.iter().take_while(|other| **other < labels).count() as u64;
    seeds.unwrap_or_else(|| repetitions.iter().map(place).collect())
}

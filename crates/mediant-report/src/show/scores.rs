//! Scores: what they are, the largest ones, heat maps.

use mediant_artifact::{Artifact, ScoreRow, read_scores};

use super::effects::{method, settings};
use super::heat::{HeatMaps, heat_maps};
use super::rows::more;
use crate::error::Result;
use crate::number::plural;
use crate::page::Page;
use crate::table::{Cell, TextTable};

pub(super) fn show(artifact: &Artifact, limit: usize, page: &mut Page) -> Result<()> {
    let (meta, rows) = read_scores(artifact)?;
    let method = method(&meta.method, &meta.metric, &meta.unit, meta.contrast, meta.counterfactual.as_deref());
    let counts = [
        ("scores", Cell::Count(meta.scores)),
        ("passes", Cell::Float(meta.passes)),
        ("seed of the bootstrap", Cell::Int(meta.seed.into())),
    ];
    page.facts("Scores", method.into_iter().chain(counts));
    settings(&meta.settings, page);
    page.table("Largest scores", scores_table(&rows, limit));
    let HeatMaps { maps, hidden } = heat_maps(&rows);
    for (heading, map) in &maps {
        page.table(&format!("Heat map {heading}"), map.table());
    }
    if hidden > 0 {
        page.text("More heat maps", format!("{} not shown.", plural(hidden, "heat map")));
    }
    Ok(())
}

/// One row a score, the largest in size first and those that are no numbers last: mediator, kind, value, interval, n,
/// numerator and denominator. The first `limit` scores, and how many more there are.
pub fn scores_table(rows: &[ScoreRow], limit: usize) -> TextTable {
    let mut sorted: Vec<&ScoreRow> = rows.iter().collect();
    // Stable, so that equal scores keep the order of writing.
    sorted.sort_by(|a, b| size(b.value).total_cmp(&size(a.value)));
    let mut table = TextTable::new(["mediator", "kind", "span", "value", "interval", "n", "numerator", "denominator"]);
    for row in sorted.into_iter().take(limit) {
        table.push([
            Cell::text(&row.mediator.name),
            Cell::text(&row.mediator.kind),
            Cell::or_empty(row.mediator.span.as_ref(), Cell::text),
            Cell::Float(row.value),
            Cell::or_empty(row.low.zip(row.high), |(low, high)| Cell::Interval(low, high)),
            Cell::Count(row.n),
            Cell::Float(row.numerator),
            Cell::Float(row.denominator),
        ]);
    }
    more(&mut table, rows.len() as u64, "score");
    table.without_empty_columns(&["mediator", "value"])
}

/// What scores are sorted by: NaN below everything.
pub(crate) fn size(value: f64) -> f64 {
    if value.is_nan() { -1.0 } else { value.abs() }
}

//! Directions: how they were found, a row a subspace.

use mediant_artifact::{Artifact, read_directions, subspaces};

use super::effects::settings;
use crate::error::Result;
use crate::page::Page;
use crate::table::{Cell, TextTable};

pub(super) fn show(artifact: &Artifact, page: &mut Page) -> Result<()> {
    let (meta, rows) = read_directions(artifact)?;
    page.facts(
        "Directions",
        [
            ("method", Cell::text(&meta.method)),
            ("vectors", Cell::Count(meta.directions)),
            ("bases", Cell::text(if meta.nested { "nested: the first r vectors are rank r" } else { "one a rank" })),
            ("model", Cell::or_empty(meta.model, |digest| Cell::Digest(digest.to_string()))),
            ("prompts", Cell::or_empty(meta.prompts, |digest| Cell::Digest(digest.to_string()))),
            ("counterfactual", Cell::or_empty(meta.counterfactual.as_ref(), Cell::text)),
            ("seed", Cell::or_empty(meta.seed, |seed| Cell::Int(seed.into()))),
            ("passes", Cell::Float(meta.passes)),
        ],
    );
    settings(&meta.settings, page);
    let value = meta.value.as_deref().unwrap_or("value");
    let (first, last) = (format!("first {value}"), format!("last {value}"));
    let mut table = TextTable::new(["hook", "positions", "rank", "width", &first, &last]);
    for subspace in subspaces(&rows) {
        let [first, .., last] = subspace else {
            let [only] = subspace else { continue };
            table.push(cells(only, only.value, None));
            continue;
        };
        table.push(cells(first, first.value, last.value));
    }
    page.table("Subspaces", table.without_empty_columns(&["hook", "positions", "rank", "width"]));
    Ok(())
}

fn cells(row: &mediant_artifact::DirectionRow, first: Option<f64>, last: Option<f64>) -> [Cell; 6] {
    [
        Cell::text(&row.hook),
        Cell::text(&row.positions),
        Cell::Count(row.rank.into()),
        Cell::Count(row.vector.len() as u64),
        Cell::or_empty(first, Cell::Float),
        Cell::or_empty(last, Cell::Float),
    ]
}

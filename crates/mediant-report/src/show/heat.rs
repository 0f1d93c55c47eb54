//! Heat maps of scores: layers down, heads, spans or positions across.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;
use mediant_artifact::{Mediator, ScoreRow};

use super::scores::size;
use super::tensors::pattern;
use crate::number::count;
use crate::report::HeatMap;
use crate::table::{Cell, TextTable};

/// Most columns of a map: those with the largest scores are shown.
const MOST_COLUMNS: usize = 24;
/// Most maps on a page, where heads are scored at every position.
const MOST_MAPS: usize = 12;

/// What goes across. Spans are named after what they are, so they stand before bare positions.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Column {
    Number(u32),
    Span(String),
}

impl Column {
    fn name(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Span(span) => span.clone(),
        }
    }
}

/// The mediators that one map shows.
#[derive(PartialEq, Eq, Hash)]
struct Site {
    kind: String,
    /// The hook point with `*` for the layer.
    hook: Option<String>,
    /// `head`, `span` or `position`.
    across: String,
    /// Where every mediator of the map is, where that is not what goes across.
    at: Option<String>,
}

impl Site {
    /// Where a mediator belongs; none if it has no place in a map.
    fn of(mediator: &Mediator) -> Option<(Self, u32, Column)> {
        let layer = mediator.layer.filter(|_| mediator.source.is_none() && mediator.target.is_none())?;
        let place = mediator.span.clone().map(Column::Span).or(mediator.position.map(Column::Number));
        let (across, column, at) = match (mediator.unit, place) {
            (Some(unit), place) => (mediator.kind.as_str(), Column::Number(unit), place.map(|place| place.name())),
            (None, Some(place @ Column::Span(_))) => ("span", place, None),
            (None, Some(place)) => ("position", place, None),
            (None, None) => return None,
        };
        let hook = mediator.hook.as_deref().map(pattern);
        Some((Self { kind: mediator.kind.clone(), hook, across: across.to_owned(), at }, layer, column))
    }

    fn heading(&self) -> String {
        let mut heading = self.kind.clone();
        if let Some(hook) = &self.hook {
            heading.push_str(&format!(" {hook}"));
        }
        if let Some(at) = &self.at {
            heading.push_str(&format!(" at {at}"));
        }
        heading
    }
}

/// The maps that scores form, with their headings, and how many more there are.
pub(crate) struct HeatMaps {
    pub(crate) maps: Vec<(String, Map)>,
    pub(crate) hidden: u64,
}

/// The maps that these scores form.
pub(crate) fn heat_maps(rows: &[ScoreRow]) -> HeatMaps {
    let mut maps: IndexMap<Site, Map> = IndexMap::new();
    for row in rows {
        if let Some((site, layer, column)) = Site::of(&row.mediator) {
            let across = site.across.clone();
            let map = maps.entry(site).or_insert_with(|| Map { across, ..Map::default() });
            map.insert(layer, column, row.value);
        }
    }
    maps.retain(|_, map| map.is_grid());
    let hidden = maps.len().saturating_sub(MOST_MAPS) as u64;
    let maps = maps.into_iter().take(MOST_MAPS).map(|(site, map)| (site.heading(), map));
    HeatMaps { maps: maps.collect(), hidden }
}

/// The scores of a map.
#[derive(Default)]
pub(crate) struct Map {
    /// `head`, `span` or `position`.
    across: String,
    cells: BTreeMap<u32, BTreeMap<Column, f64>>,
    columns: BTreeMap<Column, f64>,
    /// Whether two scores have the same place, which no map can show.
    crowded: bool,
}

impl Map {
    fn insert(&mut self, layer: u32, column: Column, value: f64) {
        let largest = self.columns.entry(column.clone()).or_insert(-1.0);
        *largest = largest.max(size(value));
        self.crowded |= self.cells.entry(layer).or_default().insert(column, value).is_some();
    }

    /// Whether a map says more than the list of scores does.
    fn is_grid(&self) -> bool {
        !self.crowded && self.cells.len() > 1 && self.columns.len() > 1
    }

    /// The columns with the largest scores, in order.
    fn shown(&self) -> BTreeSet<&Column> {
        let mut largest: Vec<(&Column, f64)> = self.columns.iter().map(|(column, size)| (column, *size)).collect();
        largest.sort_by(|a, b| b.1.total_cmp(&a.1));
        largest.into_iter().take(MOST_COLUMNS).map(|(column, _)| column).collect()
    }

    /// As a picture has it.
    pub(crate) fn drawn(&self) -> HeatMap {
        let shown = self.shown();
        let cells = self.cells.values().map(|cells| shown.iter().map(|column| cells.get(*column).copied()).collect());
        HeatMap {
            down: "layer".to_owned(),
            across: self.across.clone(),
            rows: self.cells.keys().map(u32::to_string).collect(),
            columns: shown.iter().map(|column| column.name()).collect(),
            cells: cells.collect(),
        }
    }

    pub(super) fn table(&self) -> TextTable {
        let shown = self.shown();
        let names = shown.iter().map(|column| column.name());
        let mut table = TextTable::new(["layer".to_owned()].into_iter().chain(names));
        for (layer, cells) in &self.cells {
            let values = shown.iter().map(|column| Cell::or_empty(cells.get(*column).copied(), Cell::Float));
            table.push([Cell::Int((*layer).into())].into_iter().chain(values));
        }
        table.note(format!("a column is a {}", self.across));
        let left = self.columns.len() - shown.len();
        if left > 0 {
            let (most, all) = (count(MOST_COLUMNS as u64), count(self.columns.len() as u64));
            table.note(format!("the {most} of {all} columns with the largest scores; {left} are left out"));
        }
        table
    }
}

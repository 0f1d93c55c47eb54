//! Scores: what they are, the largest with their intervals, heat maps.

use mediant_artifact::{ScoreRow, ScoresMeta, read_scores};

use super::{Member, artifacts, pictured};
use crate::error::Result;
use crate::number::count;
use crate::report::document::{Block, Data, Figure, Sheet};
use crate::report::plot::{AxisName, Mark, Row, heat_map, intervals};
use crate::report::series::short;
use crate::show::heat::{HeatMaps, heat_maps};
use crate::show::scores::size;
use crate::table::{Cell, TextTable};

/// Scores in the table, of each member in a picture, members with pictures, heat maps.
const MOST_ROWS: usize = 100;
const MOST_MARKS: usize = 16;
const MOST_PICTURES: usize = 6;

pub(super) fn blocks(members: &[Member<'_>]) -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    let mut all: Vec<(usize, ScoreRow)> = Vec::new();
    let (mut metas, mut figures) = (Vec::new(), Vec::new());
    let pictured = &pictured(members, &mut blocks)[..members.len().min(MOST_PICTURES)];
    for (number, member) in members.iter().enumerate() {
        let (meta, rows) = read_scores(member.artifact)?;
        metas.push(meta);
        if number < pictured.len() {
            let axis = AxisName::new("score", "");
            figures.extend(largest(member, &axis, &rows));
            figures.extend(maps(member, &axis, &rows));
        }
        all.extend(rows.into_iter().map(|row| (number, row)));
    }
    blocks.extend(about(&metas));
    if pictured.len() < members.len() {
        blocks.push(Block::Text(format!("Pictures show the first {} of {} instances.", pictured.len(), members.len())));
    }
    if !figures.is_empty() {
        blocks.push(Block::Figures(figures));
    }
    let sheet = Block::Sheet(sheet(members, &mut all));
    let summary = format!("Table of {} scores", count(all.len() as u64));
    blocks.push(if all.len() > 20 { Block::Folded(summary, vec![sheet]) } else { sheet });
    Ok(blocks)
}

/// What is measured and how, as far as it is the same of all members.
fn about(metas: &[ScoresMeta]) -> Vec<Block> {
    let method = |meta: &ScoresMeta| {
        let counterfactual = meta.counterfactual.as_deref();
        crate::show::effects::method(&meta.method, &meta.metric, &meta.unit, meta.contrast, counterfactual)
    };
    let Some(first) = metas.first() else { return Vec::new() };
    let facts = method(first).into_iter().filter(|fact| metas.iter().all(|meta| method(meta).contains(fact)));
    let mut settings = first.settings.clone();
    settings.retain(|name, value| metas.iter().all(|meta| meta.settings.get(name) == Some(value)));
    let settings = settings.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ");
    let settings = ("settings", if settings.is_empty() { Cell::Empty } else { Cell::text(settings) });
    let facts = facts.chain([settings]).filter(|(_, cell)| *cell != Cell::Empty);
    vec![Block::Facts(facts.map(|(name, cell)| (name.to_owned(), cell)).collect())]
}

fn named(member: &Member<'_>, what: &str) -> String {
    let label = member.label();
    if label.is_empty() { what.to_owned() } else { format!("{what}, {label}") }
}

fn data<'r>(rows: impl IntoIterator<Item = (Cell, &'r ScoreRow)>) -> TextTable {
    let names = [
        "instance",
        "mediator",
        "kind",
        "hook",
        "layer",
        "unit",
        "position",
        "span",
        "value",
        "low",
        "high",
        "n",
        "numerator",
        "denominator",
    ];
    let mut table = TextTable::new(names);
    for (instance, row) in rows {
        let mediator = &row.mediator;
        let number = |number: Option<u32>| Cell::or_empty(number, |number| Cell::Int(number.into()));
        let float = |value: Option<f64>| Cell::or_empty(value, Cell::Float);
        table.push([
            instance,
            Cell::text(&mediator.name),
            Cell::text(&mediator.kind),
            Cell::or_empty(mediator.hook.as_ref(), Cell::text),
            number(mediator.layer),
            number(mediator.unit),
            number(mediator.position),
            Cell::or_empty(mediator.span.as_ref(), Cell::text),
            Cell::Float(row.value),
            float(row.low),
            float(row.high),
            Cell::Count(row.n),
            Cell::Float(row.numerator),
            Cell::Float(row.denominator),
        ]);
    }
    table
}

/// Sorts by size, the largest first.
fn sheet(members: &[Member<'_>], all: &mut [(usize, ScoreRow)]) -> Sheet {
    all.sort_by(|a, b| size(b.1.value).total_cmp(&size(a.1.value)));
    let mut shown = TextTable::new(["instance", "mediator", "kind", "value", "interval", "n"]);
    for (number, row) in all.iter().take(MOST_ROWS) {
        shown.push([
            members[*number].cell(),
            Cell::text(&row.mediator.name),
            Cell::text(&row.mediator.kind),
            Cell::Float(row.value),
            Cell::or_empty(row.low.zip(row.high), |(low, high)| Cell::Interval(low, high)),
            Cell::Count(row.n),
        ]);
    }
    if shown.len() < all.len() {
        shown.note(format!("the {} largest of {} scores", shown.len(), count(all.len() as u64)));
    }
    let rows = data(all.iter().map(|(number, row)| (members[*number].cell(), row)));
    let shown = shown.without_empty_columns(&["mediator", "value"]);
    Sheet { title: "Largest scores".to_owned(), shown, data: Data::new(rows, artifacts(members), "scores") }
}

/// The largest scores of a member with their intervals.
fn largest(member: &Member<'_>, axis: &AxisName, rows: &[ScoreRow]) -> Option<Figure> {
    let mut sorted: Vec<&ScoreRow> = rows.iter().filter(|row| row.value.is_finite()).collect();
    sorted.sort_by(|a, b| size(b.value).total_cmp(&size(a.value)));
    sorted.truncate(MOST_MARKS);
    let mark = |row: &&ScoreRow| Row::new(short(&row.mediator.name), row.value, row.low.zip(row.high));
    let marks: Vec<Row> = sorted.iter().map(mark).collect();
    let picture = intervals(&named(member, "Largest scores"), "mediator", axis, Mark::Bar, &marks)?;
    let rows = data(sorted.into_iter().map(|row| (member.cell(), row)));
    Some(Figure { picture, data: Data::new(rows, [member.artifact], "scores") })
}

fn maps(member: &Member<'_>, axis: &AxisName, rows: &[ScoreRow]) -> Vec<Figure> {
    let HeatMaps { maps, hidden: _ } = heat_maps(rows);
    let figure = |(heading, map): (String, crate::show::heat::Map)| {
        let drawn = map.drawn();
        let mut table = TextTable::new([drawn.down.as_str(), &drawn.across, "score"]);
        for (row, cells) in drawn.rows.iter().zip(&drawn.cells) {
            for (column, value) in drawn.columns.iter().zip(cells) {
                table.push([Cell::text(row), Cell::text(column), Cell::or_empty(*value, Cell::Float)]);
            }
        }
        let picture = heat_map(&named(member, &format!("Heat map {heading}")), axis, &drawn);
        Figure { picture, data: Data::new(table, [member.artifact], "scores") }
    };
    maps.into_iter().map(figure).collect()
}

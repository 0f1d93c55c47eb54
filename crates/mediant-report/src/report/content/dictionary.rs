//! Dictionaries: how their training went.

use indexmap::IndexMap;
use mediant_artifact::DictionaryReader;

use super::{Member, artifacts, pictured};
use crate::error::Result;
use crate::report::document::{Block, Data, Figure, Sheet};
use crate::report::plot::{AxisName, Line, Run, lines};
use crate::table::{Cell, TextTable};

/// Dictionaries that the table lists.
const MOST_ROWS: usize = 200;
/// Pictures at once.
const MOST_OPEN: usize = 3;

/// A member by its number, with steps and what was measured at them.
type Course = (usize, Vec<(f64, f64)>);

pub(super) fn blocks(members: &[Member<'_>]) -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    let mut about = TextTable::new(["instance", "architecture", "reads", "writes", "d_in", "d_sae"]);
    for member in members.iter().take(MOST_ROWS) {
        let meta = DictionaryReader::open(member.artifact)?.meta;
        about.push([
            member.cell(),
            Cell::text(&meta.architecture),
            Cell::text(&meta.hook),
            Cell::or_empty(meta.hook_out, Cell::text),
            Cell::Count(meta.d_in as u64),
            Cell::Count(meta.d_sae as u64),
        ]);
    }
    if about.len() < members.len() {
        about.note(format!("the first {} of {} dictionaries", about.len(), members.len()));
    }
    let about = about.without_empty_columns(&["architecture"]);
    let data = Data::new(about.clone(), artifacts(members), "tensors");
    blocks.push(Block::Sheet(Sheet { title: "Dictionaries".to_owned(), shown: about, data }));
    let shown = pictured(members, &mut blocks);
    let mut figures = curves(shown)?;
    let more = figures.split_off(figures.len().min(MOST_OPEN));
    if !figures.is_empty() {
        blocks.push(Block::Figures(figures));
    }
    if !more.is_empty() {
        blocks.push(Block::Folded(format!("{} more training curves", more.len()), vec![Block::Figures(more)]));
    }
    Ok(blocks)
}

/// A picture of everything that was measured during training and changed; losses first.
fn curves(members: &[Member<'_>]) -> Result<Vec<Figure>> {
    let mut measures: IndexMap<String, Vec<Course>> = IndexMap::new();
    for (number, member) in members.iter().enumerate() {
        for row in DictionaryReader::open(member.artifact)?.curve()? {
            let lines = measures.entry(row.name).or_default();
            if lines.last().is_none_or(|(of, _)| *of != number) {
                lines.push((number, Vec::new()));
            }
            if let Some((_, points)) = lines.last_mut() {
                points.push((row.step as f64, row.value));
            }
        }
    }
    let mut measures: Vec<_> = measures.into_iter().filter(|(_, lines)| moves(lines)).collect();
    measures.sort_by_key(|(name, _)| match name.as_str() {
        "loss" => 0,
        name if name.starts_with("ev") => 1,
        name if name.starts_with("l0") => 2,
        _ => 3,
    });
    Ok(measures.iter().filter_map(|(name, lines)| curve(members, name, lines)).collect())
}

/// Whether a measure ever changes.
fn moves(lines: &[Course]) -> bool {
    let mut values = lines.iter().flat_map(|(_, points)| points.iter().map(|(_, value)| value.to_bits()));
    let first = values.next();
    values.any(|value| Some(value) != first)
}

fn curve(members: &[Member<'_>], name: &str, all: &[Course]) -> Option<Figure> {
    let mut data = TextTable::new(["instance", "step", name]);
    let mut drawn = Vec::new();
    for (number, points) in all {
        let member = &members[*number];
        drawn.push(Line { group: member.group(), points: points.clone(), band: Vec::new() });
        for (step, value) in points {
            data.push([member.cell(), Cell::Float(*step), Cell::Float(*value)]);
        }
    }
    let (x, y) = (AxisName::new("step", "updates"), AxisName::new(name, ""));
    let picture = lines(&format!("Training: {name}"), &x, &y, Run::Auto, &drawn)?;
    let artifacts = all.iter().map(|(number, _)| members[*number].artifact);
    Some(Figure { picture, data: Data::new(data, artifacts, "curve") })
}

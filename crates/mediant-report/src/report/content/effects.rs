//! Effects: how the metric comes out in the clean and in the counterfactual run, over the examples.

use mediant_artifact::Effects;

use super::{Member, pictured};
use crate::error::Result;
use crate::number::plural;
use crate::report::document::{Block, Data, Figure};
use crate::report::plot::{AxisName, Bins, histogram};
use crate::table::{Cell, TextTable};

/// Members with a picture.
const MOST_PICTURES: usize = 6;

pub(super) fn blocks(members: &[Member<'_>]) -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    let shown = &pictured(members, &mut blocks)[..members.len().min(MOST_PICTURES)];
    let mut figures = Vec::new();
    for member in shown {
        figures.extend(figure(member)?);
    }
    if shown.len() < members.len() {
        blocks.push(Block::Text(format!("Pictures show the first {} of {} instances.", shown.len(), members.len())));
    }
    if !figures.is_empty() {
        blocks.push(Block::Figures(figures));
    }
    Ok(blocks)
}

/// Clean and counterfactual values of each example. Every mediator's effect repeats them, so the first of each example does.
fn figure(member: &Member<'_>) -> Result<Option<Figure>> {
    let effects = Effects::open(member.artifact)?;
    let examples = effects.examples.len();
    let mut found: Vec<Option<(f64, Option<f64>)>> = vec![None; examples];
    let mut missing = examples;
    for effect in effects.rows()? {
        let effect = effect?;
        if let Some(place @ None) = found.get_mut(effect.example as usize) {
            *place = Some((effect.clean, effect.counterfactual));
            missing -= 1;
        }
        if missing == 0 {
            break;
        }
    }
    let found: Vec<(f64, Option<f64>)> = found.into_iter().flatten().collect();
    let clean: Vec<f64> = found.iter().map(|(clean, _)| *clean).collect();
    let other: Vec<f64> = found.iter().filter_map(|(_, other)| *other).collect();
    let Some(edges) = Bins::edges(clean.iter().chain(&other).copied()) else { return Ok(None) };
    let mut all = vec![Bins::of("clean", &clean, &edges)];
    if !other.is_empty() {
        let name = effects.meta.counterfactual.as_deref().unwrap_or("counterfactual");
        all.push(Bins::of(name, &other, &edges));
    }
    let mut data = TextTable::new(["example", "clean", "counterfactual"]);
    for (example, (clean, other)) in found.iter().enumerate() {
        data.push([Cell::Int(example as i128), Cell::Float(*clean), Cell::or_empty(*other, Cell::Float)]);
    }
    let meta = &effects.meta;
    let label = member.label();
    let title = format!("{} without a change, {}", meta.metric, plural(meta.examples, "example"));
    let title = if label.is_empty() { title } else { format!("{title}, {label}") };
    let picture = histogram(&title, &AxisName::new(&meta.metric, &meta.unit), ["examples", "not finite"], &all);
    Ok(picture.map(|picture| Figure { picture, data: Data::new(data, [member.artifact], "effects") }))
}

//! Mediators: the parts of a model that effects and scores are about, and their columns.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::{DataType, Field};

use super::column::{column, nullable, required};
use crate::Result;

/// Mediators written at a time.
pub(super) const BATCH: usize = 1024;

/// A part of a model that an effect goes through: its name and, in columns of their own, the parts of its address; or a set of
/// such parts, with its size.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mediator {
    /// A name that no other mediator of the artifact has: `blocks.2.attn.hook_z[3]@7`.
    pub name: String,
    /// What it is: `residual`, `attn_out`, `mlp_out`, `head`, `neuron`, `edge`, `latent`, `component`, ...
    pub kind: String,
    /// The hook point.
    pub hook: Option<String>,
    /// The layer.
    pub layer: Option<u32>,
    /// Head, neuron or latent.
    pub unit: Option<u32>,
    /// Token position.
    pub position: Option<u32>,
    /// Named span of the prompts.
    pub span: Option<String>,
    /// Of an edge, where it starts.
    pub source: Option<String>,
    /// Of an edge, where it ends.
    pub target: Option<String>,
    /// Of a set, how large it is.
    pub budget: Option<Budget>,
}

/// The size of a set of mediators.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Budget {
    /// Mediators in the set.
    pub kept: u32,
    /// Mediators that it is chosen from.
    pub of: u32,
    /// Edges of the graph of EAP that the set has, each weighted by the share of its source that is in the set (MIB's weighted
    /// edge count); none where the set is not of that graph.
    pub weighted_edges: Option<f64>,
    /// Of a set that was drawn, which draw it is.
    pub draw: Option<u32>,
}

/// The columns of a mediator.
pub(super) fn fields() -> Vec<Field> {
    let text = |name| Field::new(name, DataType::Utf8, true);
    let number = |name| Field::new(name, DataType::UInt32, true);
    vec![
        required("name", DataType::Utf8),
        required("kind", DataType::Utf8),
        text("hook"),
        number("layer"),
        number("unit"),
        number("position"),
        text("span"),
        text("source"),
        text("target"),
        number("kept"),
        number("of"),
        Field::new("weighted_edges", DataType::Float64, true),
        number("draw"),
    ]
}

/// These mediators as columns.
pub(super) fn columns<'a, I>(mediators: I) -> Vec<ArrayRef>
where
    I: Iterator<Item = &'a Mediator> + Clone,
{
    let required = |value: fn(&Mediator) -> &String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(mediators.clone().map(value)))
    };
    let text = |value: fn(&Mediator) -> &Option<String>| -> ArrayRef {
        Arc::new(mediators.clone().map(|mediator| value(mediator).as_deref()).collect::<StringArray>())
    };
    let number = |value: fn(&Mediator) -> Option<u32>| -> ArrayRef {
        Arc::new(mediators.clone().map(value).collect::<UInt32Array>())
    };
    vec![
        required(|mediator| &mediator.name),
        required(|mediator| &mediator.kind),
        text(|mediator| &mediator.hook),
        number(|mediator| mediator.layer),
        number(|mediator| mediator.unit),
        number(|mediator| mediator.position),
        text(|mediator| &mediator.span),
        text(|mediator| &mediator.source),
        text(|mediator| &mediator.target),
        number(|mediator| Some(mediator.budget?.kept)),
        number(|mediator| Some(mediator.budget?.of)),
        Arc::new(mediators.clone().map(|mediator| mediator.budget?.weighted_edges).collect::<Float64Array>()),
        number(|mediator| mediator.budget?.draw),
    ]
}

/// The mediators of a batch.
pub(super) fn read(batch: &RecordBatch) -> Result<Vec<Mediator>> {
    let required = |name| column::<StringArray>(batch, name);
    let text = |name| nullable::<StringArray>(batch, name);
    let number = |name| nullable::<UInt32Array>(batch, name);
    let (name, kind, hook) = (required("name")?, required("kind")?, text("hook")?);
    let (layer, unit, position) = (number("layer")?, number("unit")?, number("position")?);
    let (span, source, target) = (text("span")?, text("source")?, text("target")?);
    let (kept, of, draw) = (number("kept")?, number("of")?, number("draw")?);
    let weighted_edges = nullable::<Float64Array>(batch, "weighted_edges")?;
    let words = |array: &StringArray, i| array.is_valid(i).then(|| array.value(i).to_owned());
    let count = |array: &UInt32Array, i| array.is_valid(i).then(|| array.value(i));
    let budget = |i| {
        Some(Budget {
            kept: count(kept, i)?,
            of: count(of, i)?,
            weighted_edges: weighted_edges.is_valid(i).then(|| weighted_edges.value(i)),
            draw: count(draw, i),
        })
    };
    let mediator = |i| Mediator {
        name: name.value(i).to_owned(),
        kind: kind.value(i).to_owned(),
        hook: words(hook, i),
        layer: count(layer, i),
        unit: count(unit, i),
        position: count(position, i),
        span: words(span, i),
        source: words(source, i),
        target: words(target, i),
        budget: budget(i),
    };
    Ok((0..batch.num_rows()).map(mediator).collect())
}

/// Checks that every mediator has a name and a kind, and that no two share a name.
pub(super) fn check<'a>(mediators: impl Iterator<Item = &'a Mediator>) -> Result<(), String> {
    let mut names = HashSet::new();
    for mediator in mediators {
        if mediator.name.is_empty() || mediator.kind.is_empty() {
            return Err(format!("mediator `{}` has no name or no kind", mediator.name));
        }
        if !names.insert(&mediator.name) {
            return Err(format!("there are two mediators `{}`", mediator.name));
        }
    }
    Ok(())
}

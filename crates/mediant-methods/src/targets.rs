//! What is patched or ablated: the activations at hook points, divided into mediators.

use mediant_artifact::{HookFact, Mediator};
use mediant_lm::{HookPoint, Positions, Select, Site};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Pairs, Result};

/// What the activations at a hook point are divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// Each head alone.
    Head,
    /// Each number along the width alone: neurons at `mlp.hook_post`, dimensions elsewhere.
    Neuron,
    /// Each position alone, counted from the start.
    Position,
    /// Each named span of the prompts alone.
    Span,
}

/// A mediator, and where in a pass it is.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its address.
    pub mediator: Mediator,
    /// The hook point.
    pub point: HookPoint,
    /// What of the activation there it is.
    pub select: Select,
}

/// Why activations at these points cannot be divided so; none if they can.
pub fn misfit(by: &[By], positions: &Positions, hooks: &[HookFact]) -> Option<String> {
    let has = |part| by.contains(&part);
    if *positions != Positions::All && (has(By::Position) || has(By::Span)) {
        return Some("`positions` chooses what is divided by position or span already".to_owned());
    }
    if has(By::Position) && has(By::Span) {
        return Some("positions and spans exclude each other".to_owned());
    }
    if has(By::Head) && has(By::Neuron) {
        return Some("heads and neurons exclude each other".to_owned());
    }
    let headless = hooks.iter().find(|hook| hook.shape.len() < 2);
    match headless {
        Some(hook) if has(By::Head) => Some(format!("`{}` has no heads", hook.name)),
        _ => None,
    }
}

/// What a hook's activations are divided by unless the user says otherwise: heads where there are heads, else positions.
pub fn usual_division(hook: &HookFact) -> Vec<By> {
    if hook.shape.len() > 1 { vec![By::Head] } else { vec![By::Position] }
}

/// The mediators at some hook points, in the order of the forward pass. `positions` limits all of them; `spans` are those of
/// the prompts.
///
/// # Errors
/// [`Error::Data`] for a name that is no hook point.
pub fn targets(
    hooks: &[HookFact],
    by: Option<&[By]>,
    positions: &Positions,
    spans: &[String],
    pairs: &Pairs,
) -> Result<Vec<Target>> {
    let mut all = Vec::new();
    for hook in hooks {
        let point: HookPoint =
            hook.name.parse().map_err(|_| Error::Data(format!("`{}` is no hook point", hook.name)))?;
        let division = by.map_or_else(|| usual_division(hook), <[By]>::to_vec);
        let whole = Target {
            mediator: Mediator {
                name: hook.name.clone(),
                kind: kind(point).to_owned(),
                hook: Some(hook.name.clone()),
                layer: layer(point),
                ..Mediator::default()
            },
            point,
            select: Select::at(positions.clone()),
        };
        let mut parts = vec![whole];
        for part in division {
            parts = parts.iter().flat_map(|whole| divide(whole, part, hook, spans, pairs)).collect();
        }
        all.append(&mut parts);
    }
    Ok(all)
}

fn divide(whole: &Target, by: By, hook: &HookFact, spans: &[String], pairs: &Pairs) -> Vec<Target> {
    let unit = |index: usize, select: Select| {
        let mut part = Target { select, ..whole.clone() };
        part.mediator.name = format!("{}[{index}]", whole.mediator.name);
        part.mediator.unit = Some(index as u32);
        part
    };
    match by {
        By::Head => (0..hook.shape[0])
            .map(|head| unit(head, Select { heads: Some(vec![head]), ..whole.select.clone() }))
            .collect(),
        By::Neuron => (0..hook.shape[hook.shape.len() - 1])
            .map(|neuron| {
                let mut part = unit(neuron, Select { numbers: Some(vec![neuron]), ..whole.select.clone() });
                if whole.point.site() == Some(Site::MlpPost) {
                    part.mediator.kind = "neuron".to_owned();
                }
                part
            })
            .collect(),
        By::Position => (0..pairs.longest())
            .map(|position| {
                let mut part = whole.clone();
                part.select.positions = Positions::At(vec![position as i32]);
                part.mediator.name = format!("{}@{position}", whole.mediator.name);
                part.mediator.position = Some(position as u32);
                part
            })
            .collect(),
        By::Span => spans
            .iter()
            .map(|span| {
                let mut part = whole.clone();
                part.select.positions = Positions::Span(span.clone());
                part.mediator.name = format!("{}@{span}", whole.mediator.name);
                part.mediator.span = Some(span.clone());
                part
            })
            .collect(),
    }
}

/// The layer of a hook point in a block.
pub fn layer(point: HookPoint) -> Option<u32> {
    match point {
        HookPoint::Block(layer, _) => Some(layer as u32),
        _ => None,
    }
}

/// What a mediator at a hook point is called.
pub fn kind(point: HookPoint) -> &'static str {
    match point.site() {
        Some(Site::ResidPre | Site::ResidMid | Site::ResidPost) => "residual",
        Some(Site::AttnOut) => "attn_out",
        Some(Site::MlpOut) => "mlp_out",
        Some(Site::Z | Site::Result) => "head",
        Some(Site::MlpPre | Site::MlpPreLinear | Site::MlpPost) => "mlp",
        Some(Site::Q | Site::RotQ | Site::QInput) => "query",
        Some(Site::K | Site::RotK | Site::KInput) => "key",
        Some(Site::V | Site::VInput) => "value",
        Some(Site::AttnScores | Site::Pattern) => "attention",
        None if matches!(point, HookPoint::Embed | HookPoint::PosEmbed) => "embed",
        _ => "activation",
    }
}

use std::fmt;

use mediant_artifact::Mediator;
use mediant_lm::{HookPoint, Positions};

use crate::layer;

/// A hook point and some positions of the prompts. Where there are heads, an activation is the vectors of all of them one beside
/// the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The hook point.
    pub point: HookPoint,
    /// Which positions.
    pub positions: Positions,
}

impl Site {
    /// The mediator that one feature of the activations here is, such as a `dimension`, a `direction` or a `latent`.
    pub fn feature(&self, kind: &str, unit: usize) -> Mediator {
        let of = if kind == "dimension" { String::new() } else { format!("{kind} ") };
        Mediator {
            name: format!("{}[{of}{unit}]{}", self.point, self.at()),
            kind: kind.to_owned(),
            hook: Some(self.point.to_string()),
            layer: layer(self.point),
            unit: Some(unit as u32),
            span: match &self.positions {
                Positions::Span(name) => Some(name.clone()),
                _ => None,
            },
            ..Mediator::default()
        }
    }

    /// The share of a pass over all blocks that comes to this hook point.
    pub fn depth(&self, layers: usize) -> f64 {
        match self.point {
            HookPoint::Embed | HookPoint::PosEmbed => 0.0,
            HookPoint::Block(layer, _) => (layer + 1) as f64 / layers as f64,
            _ => 1.0,
        }
    }

    fn at(&self) -> String {
        match &self.positions {
            Positions::All => String::new(),
            Positions::Span(name) => format!("@{name}"),
            other => format!("@{other}"),
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.point, self.at())
    }
}

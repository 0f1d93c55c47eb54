//! Transformers whose circuit is known by construction, prompts for them, and which edges are the circuit.
//!
//! - `induction` and `indirect_object` are wired by hand, `compiled` programs by a small compiler in the manner of tracr.
//! - `wiring` says what a model reads and writes where; `weights` makes parameters of it in closed form, `interpreter` runs it without
//!   a model, `truth` tells the edges of the circuit.
//! - `pairs` draws prompts, each beside a counterfactual of the same distribution.

mod compiled;
mod indirect_object;
mod induction;
mod interpreter;
mod pairs;
mod truth;
mod weights;
mod wiring;

use std::collections::BTreeSet;

use mediant_artifact::ScoreRow;
use mediant_lm::{LmConfig, Model, Parameter};
use mediant_tensor::Compute;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use compiled::Program;
use pairs::Draw;
use wiring::Wiring;

use crate::Result;

/// Name of the counterfactual.
pub const RESAMPLED: &str = "resampled";

/// A model with a known circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CircuitKind {
    /// `… A B … A` goes on with `B`. The letters of a counterfactual differ at every place.
    Induction,
    /// The name of two that is not repeated. No name is in both prompts of a pair.
    IndirectObject,
    /// A program, compiled.
    Compiled {
        /// Which.
        program: Program,
    },
}

impl CircuitKind {
    /// The name of its task.
    pub fn name(self) -> &'static str {
        match self {
            Self::Induction => "induction",
            Self::IndirectObject => "indirect_object",
            Self::Compiled { program } => program.name(),
        }
    }

    fn wiring(self, coldness: f64) -> Wiring {
        match self {
            Self::Induction => induction::wiring(coldness),
            Self::IndirectObject => indirect_object::wiring(coldness),
            Self::Compiled { program } => program.wiring(coldness),
        }
    }

    fn draw(self, rng: &mut ChaCha8Rng) -> Draw {
        match self {
            Self::Induction => induction::draw(rng),
            Self::IndirectObject => indirect_object::draw(rng),
            Self::Compiled { program } => program.draw(rng),
        }
    }

    /// Whether two prompts may be a pair, as far as that is said of their words.
    fn apart(self, a: &Draw, b: &Draw) -> bool {
        match self {
            Self::Induction => a.words.iter().zip(&b.words).all(|(a, b)| a != b),
            Self::IndirectObject => indirect_object::apart(a, b),
            Self::Compiled { program } => program.apart(a, b),
        }
    }
}

/// A model with its circuit.
pub struct KnownCircuit {
    kind: CircuitKind,
    wiring: Wiring,
    config: LmConfig,
}

impl KnownCircuit {
    /// Attention prefers what it looks for by `coldness` nats, and BOS by half of that.
    ///
    /// # Errors
    /// None that a kind can give: its sizes are those of a model.
    pub fn new(kind: CircuitKind, coldness: f64) -> Result<Self> {
        let wiring = kind.wiring(coldness);
        Ok(Self { kind, config: wiring.config()?, wiring })
    }

    /// What the model is made of.
    pub fn config(&self) -> &LmConfig {
        &self.config
    }

    /// The `config.json` that it comes with: of a GPT-2, whose norms are gone.
    pub fn config_json(&self) -> Value {
        self.wiring.config_json()
    }

    /// `tokenizer.json` and `tokenizer_config.json`.
    pub fn tokenizer_files(&self) -> [(&'static str, Vec<u8>); 2] {
        self.wiring.tokenizer_files()
    }

    /// The model.
    ///
    /// # Errors
    /// None that a kind can give.
    pub fn model<C: Compute>(&self, device: &C::Device) -> Result<Model<C>> {
        let parameter = |slot: mediant_lm::Slot| {
            let values = self.wiring.parameter(&self.config, slot);
            Ok((slot, Parameter::new(values, &slot.shape(&self.config), device)?))
        };
        let parameters = self.config.slots().into_iter().map(parameter).collect::<Result<Vec<_>>>()?;
        Ok(Model::new(self.config.clone(), parameters)?)
    }

    /// Tokens of every prompt, BOS included.
    pub fn longest(&self) -> usize {
        self.wiring.context
    }

    /// Names of the spans of every prompt, sorted.
    pub fn spans(&self) -> Vec<String> {
        let draw = self.kind.draw(&mut mediant_tensor::random::stream(0, "names of spans"));
        draw.spans.into_iter().map(|(name, _)| name.to_owned()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Names of the variables on the way to the answer that differ within the pairs.
    pub fn variables(&self) -> Vec<&str> {
        self.wiring.on_the_way().into_iter().map(|var| self.wiring.name(var)).collect()
    }

    /// Every edge of [`Graph`](crate::Graph): 1 if it carries a variable that differs within the pairs and is needed for the answer, or
    /// else 0. `pairs` is what is written as their number.
    ///
    /// # Errors
    /// None that a kind can give.
    pub fn truth(&self, pairs: u64) -> Result<Vec<ScoreRow>> {
        self.wiring.truth(pairs)
    }
}

#[cfg(test)]
mod tests;

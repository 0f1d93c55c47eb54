//! Changes of activations during a pass, as options of the stages that run a model.

mod check;
mod resolve;

use mediant_artifact::Kind;
use mediant_engine::Port;
use mediant_lm::Positions;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::direction::Along;

pub(crate) use check::{Scene, check};
pub(crate) use resolve::resolve;

/// Where means and resampled activations come from.
pub(crate) const ACTIVATIONS: Port = Port::optional(
    "activations",
    &[Kind::Activations],
    "Activations whose means, or single rows, `interventions` put in; of `cache_activations`.",
);

/// A change of activations during a pass.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Intervention {
    /// A hook point by its TransformerLens name, or a glob: `blocks.*.attn.hook_z`.
    at: String,
    /// What is done there.
    #[serde(rename = "do")]
    action: Action,
    /// At which positions of each text.
    #[serde(default, skip_serializing_if = "everywhere")]
    positions: Positions,
    /// In which heads; all if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    heads: Option<Vec<usize>>,
    /// Which numbers along the width, such as neurons at `mlp.hook_post`; all if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    neurons: Option<Vec<usize>>,
    /// Of the draws of `noise` and `resample`; the stage's own seed if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
}

fn everywhere(positions: &Positions) -> bool {
    *positions == Positions::All
}

/// What is done with an activation.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Action {
    /// Zeros come in its place.
    Zero,
    /// A direction is added.
    Add(Addition),
    /// What lies along a direction is taken out.
    ProjectOut(Removal),
    /// The mean of the input `activations` comes in its place.
    Mean,
    /// The mean of the input `activations` at the same position comes in its place.
    MeanByPosition,
    /// A row of the input `activations` comes in its place, drawn for each position.
    Resample,
    /// The activation of the prompt's counterfactual comes in its place; in `intervene`.
    Patch,
    /// Gaussian noise is added.
    Noise(Spread),
    /// Queries at `positions` no longer attend to keys; at `attn.hook_attn_scores`.
    KnockOut(Keys),
    /// A norm's scale stays what it is without interventions; at `hook_scale`.
    FreezeScale,
    /// What an autoencoder makes of it comes in its place.
    Splice(Spliced),
}

/// What is added.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Addition {
    /// The direction.
    direction: Along,
    /// How many times it is added; negative to steer away.
    #[serde(default = "once")]
    strength: f64,
    /// Bring the direction to length 1 first.
    #[serde(default)]
    normalize: bool,
}

/// What is taken out.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Removal {
    /// The direction.
    direction: Along,
}

fn once() -> f64 {
    1.0
}

/// How much noise.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Spread {
    /// Standard deviation.
    std: f64,
}

/// What is no longer attended to.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Keys {
    /// Positions of the keys.
    keys: Positions,
}

/// How an autoencoder is spliced in.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Spliced {
    /// What becomes of what the autoencoder does not reconstruct.
    error: ErrorTerm,
    /// Latents that are set to zero.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    zero_latents: Vec<usize>,
}

/// What becomes of what an autoencoder does not reconstruct.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum ErrorTerm {
    /// It is added to what comes in the place of the activation.
    Keep,
    /// The reconstruction stands alone.
    Drop,
}

impl Intervention {
    /// The positions at which it is made.
    pub(crate) fn positions(&self) -> &Positions {
        &self.positions
    }

    /// Whether it makes a pass of its own over each text.
    pub(crate) fn makes_a_pass(&self) -> bool {
        matches!(self.action, Action::Patch | Action::FreezeScale)
    }

    /// Whether it puts in what the prompts' counterfactuals have.
    pub(crate) fn patches(&self) -> bool {
        matches!(self.action, Action::Patch)
    }
}

impl Action {
    /// The name in YAML.
    fn name(&self) -> &'static str {
        match self {
            Self::Zero => "zero",
            Self::Add(_) => "add",
            Self::ProjectOut(_) => "project_out",
            Self::Mean => "mean",
            Self::MeanByPosition => "mean_by_position",
            Self::Resample => "resample",
            Self::Patch => "patch",
            Self::Noise(_) => "noise",
            Self::KnockOut(_) => "knock_out",
            Self::FreezeScale => "freeze_scale",
            Self::Splice(_) => "splice",
        }
    }

    fn uses_activations(&self) -> bool {
        matches!(self, Self::Mean | Self::MeanByPosition | Self::Resample)
    }

    fn uses_dictionary(&self) -> bool {
        matches!(
            self,
            Self::Splice(_)
                | Self::ProjectOut(Removal { direction: Along::Latent(_) })
                | Self::Add(Addition { direction: Along::Latent(_), .. })
        )
    }

    fn draws(&self) -> bool {
        matches!(self, Self::Noise(_) | Self::Resample)
    }

    /// Whether it may be limited to some heads.
    fn by_head(&self) -> bool {
        !matches!(self, Self::ProjectOut(_) | Self::FreezeScale | Self::Splice(_))
    }

    /// Whether it may be limited to some numbers along the width.
    fn by_neuron(&self) -> bool {
        self.by_head() && !matches!(self, Self::KnockOut(_))
    }
}

/// `details` of a stage's docs, with those of its option `interventions`.
macro_rules! with_interventions {
    ($details:literal) => {
        concat!(
            $details,
            "

**Interventions** change activations on the way, in the order of the pass, several at one hook point in the order of the list: `{ at, do, \
positions, heads, neurons, seed }`. `at` is a hook point or a glob; `positions`, `heads` and `neurons` (numbers along the width) limit what is \
changed. With x the activation at a position, `do` is

- `zero`; `{ noise: { std } }`: x + ε, ε normal; `{ add: { direction, strength, normalize } }`: x + s d (Turner et al. 2023, \
  arXiv:2308.10248); `{ project_out: { direction } }`: x − (x · d) d with d of length 1 (Arditi et al. 2024, arXiv:2406.11717). A direction is `{ latent: N }`, the decoder \
  row of the autoencoder at the input `dictionary`, or `{ unembedding: { of, less } }`, `W_U[:, of] − W_U[:, less]` of two tokens as text;
- `mean`, `mean_by_position`, `resample`: from the input `activations`, which must hold the hook point: the mean of its rows, of its rows at the same \
  position, or a row drawn for each position;
- `{ knock_out: { keys } }`, at `attn.hook_attn_scores`: queries at `positions` no longer see these keys (Geva et al. 2023, arXiv:2304.14767);
- `freeze_scale`, at a `hook_scale`: the norm's scale stays what it is in a pass over the same tokens without interventions;
- `{ splice: { error: keep | drop, zero_latents } }`: the autoencoder at `dictionary` in the place of x, with these latents set to zero and \
  what it does not reconstruct added (`keep`) or not (`drop`).

Draws of noise and resampling depend on seed, hook point, text and position alone."
        )
    };
}
pub(crate) use with_interventions;

//! Directions of the residual stream and other activations that options name.

use mediant_artifact::{Artifact, HookFact, Kind, ModelReader, ModelTokenizer};
use mediant_engine::{InputFacts, Port, Problems, RunContext, StageError};
use mediant_lm::Model;
use mediant_lm::text::Tokenizer;
use mediant_methods::unembedding_difference;
use mediant_tensor::Compute;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sae_input::written;

/// Where decoder rows come from.
pub(crate) const DICTIONARY: Port =
    Port::optional("dictionary", &[Kind::Dictionary], "An autoencoder or transcoder, whose latents have directions.");

/// A direction that the model or a dictionary has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Along {
    /// The decoder row of this latent of the dictionary.
    Latent(usize),
    /// The unembedding of one token less that of another.
    Unembedding(Tokens),
}

impl Along {
    /// Whether there is such a direction at this hook point. `field` is the option that holds this.
    pub(crate) fn check(&self, field: &str, hook: &HookFact, inputs: &InputFacts) -> Result<(), Problems> {
        match self {
            Self::Latent(latent) => check_latent(&format!("{field}.latent"), *latent, hook, inputs),
            Self::Unembedding(tokens) => tokens.check(&format!("{field}.unembedding"), hook, inputs),
        }
    }

    /// Its numbers.
    pub(crate) fn direction<C: Compute, T>(
        &self,
        cx: &RunContext<'_, T>,
        model: &Model<C>,
    ) -> Result<Vec<f32>, StageError> {
        match self {
            Self::Latent(latent) => latent_direction(cx, *latent),
            Self::Unembedding(tokens) => tokens.direction(&cx.input("model")?, model),
        }
    }
}

/// Two tokens as text, each exactly one token of the model's tokenizer, a leading space included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tokens {
    /// The token that the direction points to.
    of: String,
    /// The token that it points away from.
    less: String,
}

impl Tokens {
    /// Whether the unembedding has a direction at this hook point. `field` is the option that names the tokens.
    pub(crate) fn check(&self, field: &str, hook: &HookFact, inputs: &InputFacts) -> Result<(), Problems> {
        let mut problems = Problems::none();
        if self.of == self.less {
            problems.push(Problems::config(field, "a token less itself is no direction"));
        }
        if let Some(model) = inputs.model("model") {
            if model.tokenizer == ModelTokenizer::Absent {
                problems.push(Problems::input("model", "this model has no tokenizer, and tokens are given as text"));
            }
            if hook.shape != [model.d_model] {
                let (name, shape, d_model) = (&hook.name, &hook.shape, model.d_model);
                let message = format!("the unembedding reads vectors of {d_model}, `{name}` has shape {shape:?}");
                problems.push(Problems::config(field, message));
            }
        }
        problems.finish()
    }

    /// `W_U[:, of] − W_U[:, less]`.
    pub(crate) fn direction<C: Compute>(&self, artifact: &Artifact, model: &Model<C>) -> Result<Vec<f32>, StageError> {
        let tokenizer = Tokenizer::from_files(&ModelReader::open(artifact)?.files)?;
        let tokenizer = tokenizer.ok_or_else(|| StageError::new("this model has no tokenizer"))?;
        let token = |text: &str| match tokenizer.encode(text)?.ids[..] {
            [id] => Ok(id),
            ref ids => Err(StageError::new(format!("{text:?} is {} tokens of this tokenizer, not one", ids.len()))),
        };
        Ok(unembedding_difference(model, token(&self.of)?, token(&self.less)?)?)
    }

    /// The direction in words.
    pub(crate) fn describe(&self) -> String {
        format!("W_U[{:?}] − W_U[{:?}]", self.of, self.less)
    }
}

/// Whether the dictionary that is connected has this latent, and its decoder row fits the hook point. `field` is the option that names
/// it.
pub(crate) fn check_latent(field: &str, latent: usize, hook: &HookFact, inputs: &InputFacts) -> Result<(), Problems> {
    if inputs.many("dictionary").is_empty() {
        let problem = Problems::config(field, "a latent's direction comes from a dictionary, and none is connected");
        return Err(problem.help("connect an autoencoder to the input `dictionary`"));
    }
    let Some(dictionary) = inputs.dictionary("dictionary") else { return Ok(()) };
    let mut problems = Problems::none();
    if latent >= dictionary.d_sae {
        let message = format!("there is no latent {latent}; the dictionary has {}", dictionary.d_sae);
        problems.push(Problems::config(field, message));
    }
    let (_, width) = written(dictionary);
    if hook.width() != width {
        let (name, shape) = (&hook.name, &hook.shape);
        let message = format!("it has directions of {width} numbers, `{name}` has shape {shape:?}");
        problems.push(Problems::input("dictionary", message));
    }
    problems.finish()
}

/// The decoder row of a latent.
pub(crate) fn latent_direction<T>(cx: &RunContext<'_, T>, latent: usize) -> Result<Vec<f32>, StageError> {
    let (sae, _) = mediant_dict::artifact::read(&cx.input("dictionary")?)?;
    let weights = sae.weights();
    let row = weights.w_dec.get(latent * weights.d_out..(latent + 1) * weights.d_out);
    let missing = || StageError::new(format!("there is no latent {latent}; the dictionary has {}", weights.d_sae));
    Ok(row.ok_or_else(missing)?.to_vec())
}

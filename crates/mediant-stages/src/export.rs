//! `export`: a dictionary as the files of another tool, a model as a folder.

use mediant_artifact::{
    Artifact, ArtifactWriter, DictionaryFacts, Facts, FilesMeta, HookFact, Kind, ModelFacts, ModelReader, NormFacts,
    Norms, Processing, write_files,
};
use mediant_dict::format::{self, Held, fold_refusal, refusal};
use mediant_engine::{
    Docs, InputFacts, Output, Port, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_lm::fold_norms;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct Export;

/// Options of `export`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The format to write.
    format: Format,
    /// Decoder rows of norm 1, their norms moved into the encoder; refused where that would change what the dictionary
    /// computes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    fold_decoder_norms: bool,
}

/// A format.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Format {
    /// A dictionary for SAELens 6: `cfg.json` and `sae_weights.safetensors`.
    Saelens,
    /// A dictionary for EleutherAI's sparsify: `cfg.json` and `sae.safetensors`.
    Sparsify,
    /// A dictionary as Gemma Scope has them: `params.npz`.
    GemmaScope,
    /// A dictionary for dictionary_learning: `ae.pt` and `config.json`.
    DictionaryLearning,
    /// A model for transformers: `config.json`, `model.safetensors`, the tokenizer's files.
    Transformers,
    /// A model whose frozen norms become part of its weights, in a layout of our own.
    Folded,
}

/// What a format is for.
enum Target {
    Dictionary(format::Format),
    Model,
}

impl Format {
    fn target(self) -> Target {
        match self {
            Self::Saelens => Target::Dictionary(format::Format::Saelens),
            Self::Sparsify => Target::Dictionary(format::Format::Sparsify),
            Self::GemmaScope => Target::Dictionary(format::Format::GemmaScope),
            Self::DictionaryLearning => Target::Dictionary(format::Format::DictionaryLearning),
            Self::Transformers | Self::Folded => Target::Model,
        }
    }

    fn name(self) -> &'static str {
        match self.target() {
            Target::Dictionary(format) => format.name(),
            Target::Model if self == Self::Folded => "folded",
            Target::Model => "transformers",
        }
    }
}

const PORTS: &[Port] = &[
    Port::optional("dictionary", &[Kind::Dictionary], "What is written, in a format of dictionaries."),
    Port::optional("model", &[Kind::Model], "What is written, in a format of models."),
];

impl Stage for Export {
    type Config = Config;
    const NAME: &'static str = "export";
    const VERSION: u32 = 1;

    fn docs(&self) -> Docs {
        Docs {
            summary: "A dictionary as files that SAELens, sparsify, dictionary_learning or the readers of Gemma Scope load; a model for transformers or folded",
            details: DETAILS,
            example: "saelens:\n  uses: export\n  inputs: { dictionary: sae }\n  with: { format: saelens }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![Output::new("files", Kind::Files, "The files, as the other tool reads them.")]
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        match config.format.target() {
            Target::Model if config.fold_decoder_norms => {
                Err(Problems::config("fold_decoder_norms", format!("`{}` is a format of models", config.format.name())))
            }
            _ => Ok(()),
        }
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let (dictionary, model) = (inputs.dictionary("dictionary"), inputs.model("model"));
        let name = config.format.name();
        match (config.format.target(), dictionary, model) {
            (Target::Dictionary(_), _, Some(_)) => {
                return Err(Problems::input("model", format!("`{name}` is a format of dictionaries")));
            }
            (Target::Model, Some(_), _) => {
                return Err(Problems::input("dictionary", format!("`{name}` is a format of models")));
            }
            (Target::Dictionary(_), None, None) => {
                return Err(Problems::input("dictionary", "there is no dictionary to write"));
            }
            (Target::Model, None, None) => return Err(Problems::input("model", "there is no model to write")),
            (Target::Dictionary(format), Some(dictionary), None) => {
                check_dictionary(format, config.fold_decoder_norms, dictionary)?;
            }
            (Target::Model, None, Some(model)) => check_model(config.format, model)?,
        }
        Ok(vec![("files".to_owned(), Facts::Files)])
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        Resources { gpus: 0, ..Resources::all_cpus() }
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let &Config { format, fold_decoder_norms } = cx.config();
        let meta = FilesMeta { format: format.name().to_owned() };
        if let Target::Dictionary(format) = format.target() {
            let dictionary = cx.input("dictionary")?;
            write_files(cx.output("files")?, &meta, |folder| {
                mediant_dict::artifact::export(&dictionary, format, fold_decoder_norms, folder)
                    .map_err(StageError::from)
            })?;
            return Ok(());
        }
        let mut model = cx.input("model")?;
        if format == Format::Folded && has_norms(&model)? {
            let folder = cx.scratch()?.join("folded");
            std::fs::create_dir_all(&folder)?;
            fold_norms(&model, ArtifactWriter::create(&folder, Kind::Model)?)?;
            model = Artifact::open(&folder)?;
        }
        write_files(cx.output("files")?, &meta, |folder| mediant_lm::export(&model, folder).map_err(StageError::from))?;
        Ok(())
    }
}

fn has_norms(model: &Artifact) -> Result<bool, StageError> {
    Ok(ModelReader::open(model)?.meta.norms != Norms::Absent)
}

/// Whether a format has a place for the dictionary, and folding leaves it what it is.
fn check_dictionary(format: format::Format, fold: bool, dictionary: &DictionaryFacts) -> Result<(), Problems> {
    let held = Held {
        architecture: &dictionary.architecture,
        d_in: dictionary.d_in,
        d_out: dictionary.hook_out.as_ref().map(HookFact::width),
        skips: dictionary.skips,
        input_norm: dictionary.input_norm.as_deref(),
    };
    if let Some((why, help)) = refusal(format, held) {
        return Err(Problems::config("format", why).help(help));
    }
    let refused = fold_refusal(&dictionary.architecture, dictionary.plain_topk);
    match refused.filter(|_| fold) {
        Some((why, help)) => Err(Problems::config("fold_decoder_norms", why).help(help)),
        None => Ok(()),
    }
}

/// Whether a format has a place for the model's norms.
fn check_model(format: Format, model: &ModelFacts) -> Result<(), Problems> {
    let live = "freeze the others too: `remove_layernorm`";
    match (format, &model.norms) {
        (Format::Folded, NormFacts::Live | NormFacts::PartlyFrozen(_)) => {
            let why =
                "norms of this model are live: what they divide by depends on the input, and no weight can hold it";
            Err(Problems::input("model", why).help(live))
        }
        (Format::Folded, _) => Ok(()),
        (_, NormFacts::PartlyFrozen(_)) => {
            let why = "some norms of this model are frozen and others live, and stock code has one epsilon for all";
            Err(Problems::input("model", why).help(live))
        }
        (_, NormFacts::Absent) => {
            let why = "the norms of this model are part of its weights, and stock code computes no model without norms";
            Err(Problems::input("model", why).help("`format: folded`"))
        }
        _ if model.processing != Processing::default() => {
            let why = "the weights of this model were processed, and the layout of transformers has no place for what that adds";
            Err(Problems::input("model", why).help("export the model of a `load_model` without `processing`"))
        }
        _ => Ok(()),
    }
}

const DETAILS: &str = "\
| `format` | files | what it holds |
| --- | --- | --- |
| `saelens` | `cfg.json`, `sae_weights.safetensors` | every architecture but `top_afa`, in SAELens 6's inference form, with hook points, context and the options of the training; of transcoders `relu` and `jumprelu`; it alone has a place for vectors normalised one by one (`layer_norm`, `constant_norm_rescale`) |
| `sparsify` | `cfg.json`, `sae.safetensors` | `topk` alone; transcoders if they write vectors as wide as they read |
| `gemma_scope` | `params.npz` | `jumprelu`, and `relu` with thresholds of 0; transcoders without a skip connection; no hook point |
| `dictionary_learning` | `ae.pt`, `config.json` | `relu` (AutoEncoder; AutoEncoderNew where b_dec is not subtracted), `gated`, `topk`, and `jumprelu`, `batchtopk` among them, as JumpReluAutoEncoder; with hook point, layer, learning rate, steps and seed |

What a format has no place for is refused, before anything runs where the architecture says so. Where a format always, or never, subtracts \
b_dec from the input and the dictionary does not, or does, the encoder's bias takes the difference over: `x W + b = (x − b_dec) W + (b + b_dec W)`. \
Sparsify and dictionary_learning choose by pre-activations as they are, so decoder norms are folded into a `topk` that chooses by activation times norm. \
No format has a place for `top_afa`.

`ae.pt` is what `torch.load(weights_only=True)` reads: a zip archive of tensors and the pickle that names them, the same bytes for the same dictionary. \
A hook point at the end of a block, or of its attention or MLP, has in `submodule_name` the name that the demos of dictionary_learning give it \
(`resid_post_layer_3`), any other its own; `lm_name` is null. What `config.json` said of a dictionary that was loaded from this format is kept.

`fold_decoder_norms: true` gives the decoder rows norm 1: `W_enc`, its biases and thresholds are multiplied by the norms. That leaves what a \
`relu`, `gated` or `jumprelu` dictionary computes as it is (its features are scaled), and a `topk` with `rescale_acts_by_decoder_norm: true`. \
It is refused for a plain `topk`, whose k largest pre-activations would be others, and for `matching_pursuit`, whose encoder is the decoder.

**Models.** `transformers` writes a model with live norms as it came. One whose norms are all frozen (`remove_layernorm`) is written in \
float32 so that stock code computes it (Baroni et al. 2025, arXiv:2507.02559): the epsilon of the norms is 1e12, so that they divide by 1e6 \
whatever the activations are, and their gains are `γ · 1e6/σ`, with σ the frozen scale. Values read the norm before attention at σ_v, queries and keys at \
σ_qk; its gain takes σ_v, and with r = σ_v/σ_qk the columns W of queries and keys become `r W`, their bias `b + (1 − r) Wᵀβ`. The scales stand in \
`config.json` as `mediant_norm_scales`, which transformers passes over; `load_model` knows the epsilon and makes the frozen model of it again \
(without the field, of a folder from elsewhere, all scales are 1). A model with some norms frozen is refused.

`folded` writes a model without norms: with W, b what reads a norm, `b + Wᵀβ` and `diag(γ/σ) W`, after a LayerNorm less its mean over the inputs; \
embedding and unembedding are two matrices. Stock code has no such model, so the layout is our own, and `load_model` reads it: a `config.json` with \
`model_type: mediant_folded`, the model's own config under `base`; `model.safetensors` in float32 with projections stored [in, out]: `embed.weight`, \
`pos_embed.weight`, `blocks.0.attn.qkv.weight` (queries, keys, values side by side), `blocks.0.attn.qkv.bias`, `blocks.0.attn.out.weight`, \
`blocks.0.mlp.up.weight`, `blocks.0.mlp.down.weight`, …, `unembed.weight` [vocabulary, d_model], `unembed.bias`. Each part reads the residual stream as it is: \
`x W + b`. A model that never had norms (modular addition, see `load_model`) is written as it came.

**Where the files are.** The output is a folder of plain files in the store: complete or not there at all, and never changed. A `uses: command` \
stage that has it as an input finds the files in the folder it is given, `mediant status` names the folder, and `mediant export FILE STAGE DIR` \
copies them out.";

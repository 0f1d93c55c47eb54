//! `load_model`: a Hugging Face folder to a model artifact.

use mediant_artifact::{Facts, Kind, Processing};
use mediant_engine::{
    Docs, InputFacts, Output, Ports, Problems, RunContext, Source, SourceKind, SourcePaths, Stage, StageError,
};
use mediant_lm::{Error, HfFolder, facts_from_dir, import};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct LoadModel;

/// Options of `load_model`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// A folder in Hugging Face layout: `config.json`, `model.safetensors` or shards with their index, and the tokenizer's files.
    /// Local, or `hf://owner/name[@revision]` on the Hugging Face hub.
    source: String,
    /// Weight processing, as TransformerLens' `from_pretrained` does it: other weights for the same log-probabilities.
    #[serde(default, skip_serializing_if = "Steps::are_none")]
    processing: Steps,
}

/// Steps of weight processing.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Steps {
    /// Gains and biases of the norms move into the projections that read them, which LayerNorm's readers then have centred.
    fold_ln: bool,
    /// Embeddings and what attention and MLP add get mean 0 over `d_model`; of models with LayerNorm alone.
    center_writing_weights: bool,
    /// The unembedding gets mean 0 over the vocabulary; not where logits are soft-capped.
    center_unembed: bool,
    /// The biases of values move into the bias of attention's output.
    fold_value_biases: bool,
}

impl Steps {
    fn are_none(&self) -> bool {
        *self == Self::default()
    }
}

impl From<Steps> for Processing {
    fn from(steps: Steps) -> Self {
        let Steps { fold_ln, center_writing_weights, center_unembed, fold_value_biases } = steps;
        Self { fold_ln, center_writing_weights, center_unembed, fold_value_biases }
    }
}

/// The files that are read, as far as they exist.
const FILES: &[&str] = &[
    "*.safetensors",
    "model.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
];

impl Stage for LoadModel {
    type Config = Config;
    const NAME: &'static str = "load_model";
    const VERSION: u32 = 1;

    fn docs(&self) -> Docs {
        Docs {
            summary: "A language model from a folder in Hugging Face layout",
            details: DETAILS,
            example: "model:\n  uses: load_model\n  with: { source: ../datasets/models/tiny-gpt2 }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(&[])
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![Output::new("model", Kind::Model, "The model with its tokenizer.")]
    }

    fn sources(&self, config: &Config) -> Vec<Source> {
        vec![Source { field: "source".to_owned(), path: config.source.clone(), what: SourceKind::Folder(FILES) }]
    }

    fn infer(&self, config: &Config, _: &InputFacts, sources: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let folder = sources.get("source").ok_or_else(|| Problems::config("source", "is not known"))?;
        let facts = facts_from_dir(folder, config.processing.into()).map_err(|error| match &error {
            Error::Processing { step, .. } => Problems::config(format!("processing.{step}"), error.to_string()),
            _ => Problems::config("source", error.to_string()),
        })?;
        Ok(vec![("model".to_owned(), Facts::Model(facts))])
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let folder = HfFolder::open(cx.source("source")?)?;
        import(&folder, cx.config().processing.into(), cx.output("model")?, |done, total| {
            cx.progress(done, total, "tensors");
            cx.check_cancelled()
        })?;
        Ok(())
    }
}

const DETAILS: &str = "\
**Architectures**, by `model_type`:

| `model_type` | models | what is particular |
| --- | --- | --- |
| `gpt2` | GPT-2 | learned positions, LayerNorm, biases, `gelu_new` |
| `gpt_neo` | GPT-Neo, TinyStories | GPT-2 with windows in some layers, unscaled scores, no biases on queries, keys and values |
| `gpt_neox` | Pythia, GPT-NeoX | attention and MLP side by side (or one after the other), rotary positions on a part of each head |
| `llama` | Llama 1 to 3 | RMSNorm, rotary positions, grouped queries, SwiGLU |
| `qwen2` | Qwen2, Qwen2.5 | Llama with biases on queries, keys and values; windows |
| `gemma2` | Gemma 2 | Llama with norms after each part too, soft caps, windows, scaled embeddings, GeGLU |

`config.json` gives sizes, epsilon, positions, windows, caps and whether the unembedding is tied; the tensors of the names that \
transformers writes are read, with and without the prefix of the bare model. Weights in float32, float16 or bfloat16, mixed or not, in \
one safetensors file or in shards; they are kept in their format and computed with in float32. The points that can be read and changed \
are in [the table of hook points](../hooks.md).

**Nothing in `config.json` is passed over**: a field that would change the numbers and is not built (scaled rotary positions, another \
activation function, quantisation, a field that is not known) is an error that names it. So are missing and unexpected tensors, \
shapes that disagree with the config, keys that stand twice, values that are not finite numbers, and damaged files. All but the values \
are checked before anything runs.

**Frozen norms.** An epsilon of 1e12 says that the norms are frozen, as the paper on removing LayerNorm publishes them (see `export`): each divides by a constant, which \
`config.json` gives as `mediant_norm_scales` and which is 1 without that field, the gains taking it over. A folder with `model_type: mediant_folded`, which `export` writes with `format: folded`, is a model \
without norms. `mediant show` says which norms are live, frozen or absent.

**Modular addition.** A `config.json` without `model_type` and with `attn_coeff` is of a model of Zhong et al. 2023 (\"The Clock and the Pizza\", arXiv:2306.17844), in the files that their code saves: \
put `config_RUN.json` and `model_RUN.safetensors` into a folder as `config.json` and `model.safetensors`. Two numbers go in, and the sum is read after the second; no position is hidden from another; attention is \
`attn_coeff · softmax + (1 − attn_coeff)`, a weight for each of both positions; no norms, ReLU, biases in the MLP alone. Its tokens are the numbers, so without a `tokenizer.json` it gets one of its own: \
`3 5` is 3 and 5, with `prepend_bos: false`. Such a model predicts nothing but what follows the last position: losses and `generate` are errors.

**On the hub.** `hf://owner/name@revision` (or `hf://owner/name@revision/folder`) is fetched when the pipeline is planned, into the cache that \
Python's `huggingface_hub` uses, and what is there already is not fetched again; HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE \
mean what they mean there. Only the files that are read here come, by commit, checked against the digests that the hub names; an interrupted \
file goes on where it ended. A branch or tag, `main` if none is named, is taken to a commit once, and the lock file beside the pipeline keeps it: \
later runs, here and elsewhere, take the same, until its line there is deleted. Results depend on the files alone, so a local folder with the same \
ones gives the same keys.

**Processing.** Without it, activations are those of transformers, and of TransformerLens' `from_pretrained_no_processing`. Its steps \
are those of TransformerLens' `from_pretrained`, which does all four, in this order, and leave the log-probabilities what they are. \
With γ and β the gain and bias of a norm, and W stored [in, out]:

1. `fold_ln`: for every norm and each projection that reads it (queries, keys, values; the MLP's first, and its gate; the unembedding) \
`b ← b + Wᵀβ`, `W ← diag(γ) W`, and, after a LayerNorm, `W ← W − mean over in`; then γ = 1, β = 0. Biases appear where a family has \
none. Gemma 2's norms after a part stay.
2. `center_writing_weights`: `W_E`, `W_pos`, the output weights and biases of attention and MLP lose their mean over `d_model`, and \
with it every `hook_resid_*` its own. An error with RMSNorm, which would see the difference.
3. `center_unembed`: `W_U` and its bias lose their mean over the vocabulary: logits change by one number a position. An error where \
logits are soft-capped (Gemma 2), which would see the difference.
4. `fold_value_biases`: `b_O ← b_O + Σ b_V[head] · W_O[head]` over the heads, then `b_V = 0`; a model without such biases stays as it is.

A tied unembedding becomes a matrix of its own with any of the first three. Sums are in float64, the result is float32, under names of \
our own (`blocks.0.attn.qkv.weight`); `export` to the Hugging Face layout is refused. The model and all activations from it record the \
steps: what was learned on one kind of weights does not carry over to the other.";

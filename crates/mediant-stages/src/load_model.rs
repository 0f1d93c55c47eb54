//! `load_model`: a Hugging Face folder to a model artifact.

use mediant_artifact::{Facts, Kind};
use mediant_engine::{
    Docs, InputFacts, Output, Ports, Problems, RunContext, Source, SourceKind, SourcePaths, Stage, StageError,
};
use mediant_lm::{HfFolder, facts_from_dir, import};
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
    source: String,
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

    fn infer(&self, _: &Config, _: &InputFacts, sources: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let folder = sources.get("source").ok_or_else(|| Problems::config("source", "is not known"))?;
        let facts = facts_from_dir(folder).map_err(|error| Problems::config("source", error.to_string()))?;
        Ok(vec![("model".to_owned(), Facts::Model(facts))])
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let folder = HfFolder::open(cx.source("source")?)?;
        import(&folder, cx.output("model")?, |done, total| {
            cx.progress(done, total, "tensors");
            cx.check_cancelled()
        })?;
        Ok(())
    }
}

const DETAILS: &str = "\
Architectures: `gpt2` (names with and without `transformer.`) and the `llama` family (grouped queries, RMSNorm, rotary positions, \
SwiGLU). Weights in float32, float16 or bfloat16, in one safetensors file or in shards; they are kept in their format and computed \
with in float32. No weight processing is done: activations are those of transformers, and of TransformerLens without processing.

Nothing in `config.json` is passed over: a field that would change the numbers and is not built (scaled rotary positions, another \
activation function, quantisation, a field that is not known) is an error that names it. So are missing and unexpected tensors, \
shapes that disagree with the config, values that are not finite numbers, and damaged files. All but the values are checked before \
anything runs.";

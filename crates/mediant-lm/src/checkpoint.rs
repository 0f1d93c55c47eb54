//! A model in Hugging Face layout on disk: `config.json`, safetensors files, tokenizer files. Opening one reads the config
//! and the headers, and checks them against each other; values are read when asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mediant_artifact::{DType, Digest, HookFact, ModelFacts, ModelTokenizer, Processing};
use serde::Deserialize;
use serde_json::Value;

use crate::json::{self, Limits};
use crate::shard::Shard;
use crate::{Error, LmConfig, Result, Slot, folded};

/// A folder in Hugging Face layout.
#[derive(Debug)]
pub struct HfFolder {
    /// None of a checkpoint in memory, which has no other files.
    folder: Option<PathBuf>,
    config: LmConfig,
    config_json: Value,
    shards: Vec<Shard>,
    /// Where each tensor that the model needs is, by canonical name: shard and name there.
    tensors: BTreeMap<String, (usize, String)>,
}

/// The files that a model brings besides its weights, where they exist. Patterns as [`Stage::sources`] takes them.
///
/// [`Stage::sources`]: ../mediant_engine/trait.Stage.html#method.sources
pub const CARRIED_FILES: [&str; 11] = [
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

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

impl HfFolder {
    /// Opens a folder: every tensor that the config needs must be there once, in its shape and a float format, and no
    /// other, but for buffers that are known to carry nothing.
    ///
    /// # Errors
    /// One for the first thing that is missing, damaged, or does not fit.
    pub fn open(folder: &Path) -> Result<Self> {
        let config_json = json::read(&folder.join("config.json"), Limits::CONFIG)?;
        let config = LmConfig::from_json(&config_json)?;
        Self::new(Some(folder.to_owned()), config_json, config, open_shards(folder)?)
    }

    /// The same of a `config.json` and a `model.safetensors` in memory.
    ///
    /// # Errors
    /// As [`HfFolder::open`].
    pub fn in_memory(config: &[u8], weights: Vec<u8>) -> Result<Self> {
        let config_json = json::parse(config, Limits::CONFIG).map_err(Error::json("config.json".as_ref()))?;
        let config = LmConfig::from_json(&config_json)?;
        Self::new(None, config_json, config, vec![Shard::held(SINGLE.as_ref(), weights)?])
    }

    fn new(folder: Option<PathBuf>, config_json: Value, config: LmConfig, shards: Vec<Shard>) -> Result<Self> {
        let config_json = folded::base(config_json);
        let mut this = Self { folder, config, config_json, shards, tensors: BTreeMap::new() };
        this.tensors = this.match_tensors()?;
        Ok(this)
    }

    /// What the model is made of.
    pub fn config(&self) -> &LmConfig {
        &self.config
    }

    /// The `config.json` in Hugging Face layout: of a model whose norms are part of its weights, that of the model before.
    pub fn config_json(&self) -> &Value {
        &self.config_json
    }

    /// What is known of the model, its weights processed, without reading its values.
    ///
    /// # Errors
    /// If `tokenizer.json` exists and cannot be read; and as [`LmConfig::processed`].
    pub fn facts(&self, processing: Processing) -> Result<ModelFacts> {
        let config = self.config.processed(processing)?;
        let tokenizer = self.file("tokenizer.json")?.map(|bytes| Digest::of(&bytes));
        Ok(model_facts(&config, tokenizer.map_or(ModelTokenizer::Absent, ModelTokenizer::Known)))
    }

    /// Names and contents of the [`CARRIED_FILES`] that exist.
    ///
    /// # Errors
    /// If one exists and cannot be read.
    pub fn files(&self) -> Result<Vec<(&'static str, Vec<u8>)>> {
        let file = |name| Ok(self.file(name)?.map(|bytes| (name, bytes)));
        CARRIED_FILES.into_iter().filter_map(|name| file(name).transpose()).collect()
    }

    /// A file beside the weights, if it exists; the tokenizer of a model whose tokens are numbers does.
    fn file(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.folder.as_ref().map(|folder| folder.join(name)).filter(|path| path.exists());
        let made =
            || (name == "tokenizer.json").then(|| self.config.architecture.tokenizer_json(&self.config)).flatten();
        match path {
            Some(path) => fs::read(&path).map(Some).map_err(Error::io(&path)),
            None => Ok(made()),
        }
    }

    /// Format and bytes of a tensor by its canonical name, mapped from its file.
    pub(crate) fn tensor(&self, name: &str) -> Result<(DType, &[u8])> {
        let (shard, stored) = self.tensors.get(name).ok_or_else(|| Error::Weights(format!("no tensor `{name}`")))?;
        let tensor = self.shards[*shard].tensor(stored);
        let found = tensor.and_then(|tensor| Some((tensor.dtype()?, tensor.bytes)));
        found.ok_or_else(|| self.shards[*shard].error(format!("tensor `{stored}` cannot be read")))
    }

    /// Tells the system that a tensor is not needed for now, so that the file's pages in memory do not add up.
    pub(crate) fn release(&self, name: &str) {
        if let Some((shard, stored)) = self.tensors.get(name) {
            self.shards[*shard].release(stored);
        }
    }

    fn match_tensors(&self) -> Result<BTreeMap<String, (usize, String)>> {
        let architecture = self.config.architecture;
        let mut found: BTreeMap<String, (usize, String)> = BTreeMap::new();
        for (index, shard) in self.shards.iter().enumerate() {
            for stored in shard.names().filter(|name| !architecture.buffers.iter().any(|end| name.ends_with(end))) {
                let name = (architecture.canonical)(stored).into_owned();
                if let Some((_, twin)) = found.insert(name, (index, stored.to_owned())) {
                    return Err(Error::Weights(format!("tensors `{twin}` and `{stored}` are the same parameter")));
                }
            }
        }
        self.drop_tied_copy(&mut found)?;
        let mut unexpected: BTreeSet<&String> = found.keys().collect();
        let mut missing = Listed::default();
        for piece in self.config.each_slot().flat_map(|slot| self.config.pieces(slot)) {
            match found.get(&piece.tensor) {
                Some((shard, stored)) => self.check_tensor(*shard, stored, &piece.shape)?,
                None => missing.add(&piece.tensor),
            }
            unexpected.remove(&piece.tensor);
        }
        if missing.count > 0 {
            return Err(Error::Weights(format!("the checkpoint lacks {missing}")));
        }
        if !unexpected.is_empty() {
            let mut names = Listed::default();
            unexpected.into_iter().for_each(|name| names.add(name));
            return Err(Error::Weights(format!("the config has no place for {names}")));
        }
        Ok(found)
    }

    /// Some tied checkpoints store the unembedding a second time; an equal copy is left out.
    fn drop_tied_copy(&self, found: &mut BTreeMap<String, (usize, String)>) -> Result<()> {
        let (Some(copy), true) = (found.get("lm_head.weight").cloned(), self.config.tied) else {
            return Ok(());
        };
        let embed = self.config.pieces(Slot::Embed).remove(0).tensor;
        let bytes = |(shard, stored): &(usize, String)| self.shards[*shard].tensor(stored).map(|tensor| tensor.bytes);
        if found.get(&embed).and_then(bytes) != bytes(&copy) {
            return Err(Error::config("tie_word_embeddings", "is true, but lm_head.weight differs from the embedding"));
        }
        found.remove("lm_head.weight");
        Ok(())
    }

    fn check_tensor(&self, shard: usize, stored: &str, expected: &[usize]) -> Result<()> {
        let shard = &self.shards[shard];
        let Some(tensor) = shard.tensor(stored) else {
            return Err(shard.error(format!("tensor `{stored}` lies outside the file")));
        };
        if tensor.shape != expected {
            let shape = tensor.shape;
            return Err(shard.error(format!("tensor `{stored}` has shape {shape:?}, but the config says {expected:?}")));
        }
        if tensor.dtype().is_none() {
            return Err(shard.error(format!("tensor `{stored}` is {}; F32, F16 and BF16 are built", tensor.format)));
        }
        Ok(())
    }
}

/// What is known of a model at plan time from the `config.json` of a folder, its headers and its tokenizer.
///
/// # Errors
/// As [`HfFolder::open`] and [`LmConfig::processed`].
pub fn facts_from_dir(folder: &Path, processing: Processing) -> Result<ModelFacts> {
    HfFolder::open(folder)?.facts(processing)
}

/// The facts of a model.
pub fn model_facts(config: &LmConfig, tokenizer: ModelTokenizer) -> ModelFacts {
    let hooks: Arc<[HookFact]> = config
        .hooks()
        .into_iter()
        .map(|point| HookFact { name: point.to_string(), shape: point.shape(config, config.context) })
        .collect();
    ModelFacts {
        architecture: config.architecture.model_type.to_owned(),
        n_layers: config.n_layers,
        d_model: config.d_model,
        n_heads: config.n_heads,
        n_kv_heads: config.n_kv_heads,
        d_head: config.d_head,
        d_mlp: config.d_mlp,
        vocab_size: config.vocab_size,
        context: config.context,
        tokenizer,
        parameters: config.parameters(),
        hooks,
        norms: config.norm_facts(),
        processing: config.processing,
    }
}

/// The weight files of a folder: one, or the shards that an index lists.
fn open_shards(folder: &Path) -> Result<Vec<Shard>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let single = folder.join(SINGLE);
    if single.exists() {
        return Ok(vec![Shard::open(&single)?]);
    }
    let path = folder.join(INDEX);
    if !path.exists() {
        return Err(Error::safetensors(
            folder,
            format!("holds neither {SINGLE} nor {INDEX}; other weight files are not read"),
        ));
    }
    let index: Index = json::read(&path, Limits::INDEX)?;
    let names: BTreeSet<&str> = index.weight_map.values().map(String::as_str).collect();
    if let Some(name) = names.iter().find(|name| Path::new(name).file_name() != Some(name.as_ref())) {
        return Err(Error::safetensors(&path, format!("`{name}` is not the name of a file beside it")));
    }
    let shards = names.iter().map(|name| Shard::open(&folder.join(name))).collect::<Result<Vec<_>>>()?;
    for (name, shard) in names.iter().zip(&shards) {
        let listed: BTreeSet<&str> =
            index.weight_map.iter().filter(|(_, file)| file == name).map(|(t, _)| t.as_str()).collect();
        let held: BTreeSet<&str> = shard.names().collect();
        if let Some(tensor) = listed.symmetric_difference(&held).next() {
            return Err(Error::safetensors(&path, format!("and {name} do not agree on tensor `{tensor}`")));
        }
    }
    Ok(shards)
}

/// The first names of a list, which may be as long as a config claims, and how many more there are.
#[derive(Default)]
struct Listed {
    first: String,
    count: usize,
}

impl Listed {
    const SHOWN: usize = 3;

    fn add(&mut self, name: &str) {
        if self.count < Self::SHOWN {
            let comma = if self.count == 0 { "" } else { ", " };
            self.first.push_str(&format!("{comma}`{name}`"));
        }
        self.count += 1;
    }
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count.saturating_sub(Self::SHOWN) {
            0 => f.write_str(&self.first),
            more => write!(f, "{} and {more} more tensors", self.first),
        }
    }
}

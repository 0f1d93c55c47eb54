//! Reads a `config.json` so that nothing in it is ignored: a field is read, or must have the one value that is built, or
//! is known not to change what the model computes.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::{Error, Result};

/// The fields of a `config.json`, and which of them have been accounted for.
pub(crate) struct Fields<'a> {
    object: &'a Map<String, Value>,
    seen: RefCell<BTreeSet<&'a str>>,
}

/// Fields of transformers' `PretrainedConfig` that do not change a causal model's numbers at inference: names, ids of
/// special tokens, defaults of `generate`, initialisation, and how the original library runs it.
const HARMLESS: &[&str] = &[
    "_attn_implementation_autoset",
    "_commit_hash",
    "_from_model_config",
    "_name_or_path",
    "_num_labels",
    "architectures",
    "attn_implementation",
    "begin_suppress_tokens",
    "bos_token_id",
    "chunk_size_feed_forward",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "id2label",
    "initializer_range",
    "is_decoder",
    "label2id",
    "length_penalty",
    "max_length",
    "min_length",
    "model_type",
    "name_or_path",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "output_scores",
    "pad_token_id",
    "prefix",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "use_bfloat16",
    "use_cache",
    "bad_words_ids",
];

impl<'a> Fields<'a> {
    pub(crate) fn new(object: &'a Map<String, Value>) -> Self {
        let fields = Self { object, seen: RefCell::default() };
        fields.harmless(HARMLESS);
        fields
    }

    /// The value of a field, unless it is absent or null; the field counts as accounted for.
    fn get(&self, name: &str) -> Option<&'a Value> {
        let (key, value) = self.object.get_key_value(name)?;
        self.seen.borrow_mut().insert(key);
        Some(value).filter(|value| !value.is_null())
    }

    /// Accounts for fields that change nothing.
    pub(crate) fn harmless(&self, names: &[&str]) {
        for name in names {
            self.get(name);
        }
    }

    fn needed(name: &str) -> Error {
        Error::config(name, "is missing")
    }

    /// A text.
    pub(crate) fn text(&self, name: &str) -> Result<&'a str> {
        self.get(name).ok_or_else(|| Self::needed(name))?.as_str().ok_or_else(|| Error::config(name, "is not a text"))
    }

    /// A whole number.
    pub(crate) fn size(&self, name: &str) -> Result<usize> {
        self.optional_size(name)?.ok_or_else(|| Self::needed(name))
    }

    /// A whole number that may be absent or null.
    pub(crate) fn optional_size(&self, name: &str) -> Result<Option<usize>> {
        self.get(name)
            .map(|value| {
                let size = value.as_u64().and_then(|n| usize::try_from(n).ok());
                size.ok_or_else(|| Error::config(name, format!("is {}, not a whole number", shown(value))))
            })
            .transpose()
    }

    /// The number of layers. It is limited here, as lists with an entry a layer are made before the sizes are checked.
    pub(crate) fn layers(&self, name: &str) -> Result<usize> {
        const LIMIT: usize = 4096;
        let layers = self.size(name)?;
        if layers > LIMIT {
            return Err(Error::config(
                name,
                format!("is {layers}, more than the {LIMIT} layers that a model may have"),
            ));
        }
        Ok(layers)
    }

    /// A number above zero.
    pub(crate) fn positive(&self, name: &str) -> Result<f64> {
        self.optional_positive(name)?.ok_or_else(|| Self::needed(name))
    }

    /// A number above zero that may be absent or null.
    pub(crate) fn optional_positive(&self, name: &str) -> Result<Option<f64>> {
        self.get(name).map(|value| positive(name, value)).transpose()
    }

    /// A yes or no, with the value that stands for an absent field.
    pub(crate) fn flag(&self, name: &str, absent: bool) -> Result<bool> {
        self.get(name).map_or(Ok(absent), |value| {
            value.as_bool().ok_or_else(|| Error::config(name, format!("is {}, not true or false", shown(value))))
        })
    }

    /// A value of any type that may be absent or null.
    pub(crate) fn value(&self, name: &str) -> Option<&'a Value> {
        self.get(name)
    }

    /// A list with one of two words for each layer, as whether it is the first of them; absent or null is none.
    pub(crate) fn layer_types(&self, name: &str, yes: &str, no: &str, layers: usize) -> Result<Option<Vec<bool>>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let word = |value: &Value| match value.as_str() {
            Some(word) if word == yes => Some(true),
            Some(word) if word == no => Some(false),
            _ => None,
        };
        let words: Option<Vec<bool>> = value.as_array().and_then(|list| list.iter().map(word).collect());
        match words {
            Some(words) if words.len() == layers => Ok(Some(words)),
            Some(words) => Err(Error::config(name, format!("names {} layers, but there are {layers}", words.len()))),
            None => Err(Error::config(name, format!("is {}, not a list of `{yes}` and `{no}`", shown(value)))),
        }
    }

    /// A mapping that may be absent or null.
    pub(crate) fn mapping(&self, name: &str) -> Result<Option<&'a Map<String, Value>>> {
        self.get(name).map(|value| value.as_object().ok_or_else(|| Error::config(name, "is not a mapping"))).transpose()
    }

    /// A field that may be absent or null, or else must be the one value that is built.
    pub(crate) fn only(&self, name: &str, built: impl Into<Value>) -> Result<()> {
        let built = built.into();
        match self.get(name) {
            Some(value) if !same(value, &built) => {
                Err(Error::config(name, format!("is {}, but only {built} is built", shown(value))))
            }
            _ => Ok(()),
        }
    }

    /// Refuses the fields that nobody asked for.
    pub(crate) fn finish(&self) -> Result<()> {
        let seen = self.seen.borrow();
        match self.object.iter().find(|(name, value)| !seen.contains(name.as_str()) && !value.is_null()) {
            Some((name, value)) => Err(Error::config(
                name.as_str(),
                format!(
                    "({}) is unknown here and may change the numbers; if it does not, remove it from the file",
                    shown(value)
                ),
            )),
            None => Ok(()),
        }
    }
}

/// The beginning of a value, for a message.
pub(crate) fn shown(value: &Value) -> String {
    const LIMIT: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// A number above zero.
pub(crate) fn positive(name: &str, value: &Value) -> Result<f64> {
    let number = value.as_f64().filter(|x| x.is_finite() && *x > 0.0);
    number.ok_or_else(|| Error::config(name, format!("is {}, not a number above zero", shown(value))))
}

/// Equal, where 0 and 0.0 are.
fn same(a: &Value, b: &Value) -> bool {
    a == b || a.as_f64().is_some_and(|a| b.as_f64() == Some(a))
}

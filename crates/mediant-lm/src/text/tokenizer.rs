//! A tokenizer in the format of Hugging Face's `tokenizer.json`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mediant_artifact::{Digest, Files};
use serde_json::Value;

use crate::{Error, Result};

/// Turns text into token ids and back.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    digest: Digest,
    vocab_size: usize,
    bos: Option<u32>,
    eos: Option<u32>,
}

/// The tokens of a text, without special tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids.
    pub ids: Vec<u32>,
    /// For each token the bytes of the text it stands for, `start..end`. Whether a leading space belongs to them is the
    /// tokenizer's choice (`trim_offsets`).
    pub spans: Vec<(u32, u32)>,
}

/// Names that begin a text in common tokenizers, for those that come without a config. One token often does both.
const COMMON_BOS: [&str; 4] = ["<|endoftext|>", "<s>", "<bos>", "<|begin_of_text|>"];
const COMMON_EOS: [&str; 4] = ["<|endoftext|>", "</s>", "<eos>", "<|end_of_text|>"];

impl Tokenizer {
    /// Reads `tokenizer.json`. Which tokens begin and end a text is said by `tokenizer_config.json` (`bos_token`, `eos_token`),
    /// else by the names that common tokenizers use.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the file is not one, or the config names a token that it does not have.
    pub fn new(tokenizer_json: &[u8], tokenizer_config: Option<&[u8]>) -> Result<Self> {
        // The library panics on some files that are JSON but no tokenizer.
        let mut inner = catch_unwind(AssertUnwindSafe(|| tokenizers::Tokenizer::from_bytes(tokenizer_json)))
            .map_err(|_| Error::Tokenizer("tokenizer.json: not a tokenizer".to_owned()))?
            .map_err(|error| Error::Tokenizer(format!("tokenizer.json: {error}")))?;
        // Cutting and padding are the caller's business; neither may happen because a file asks for it.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| Error::Tokenizer(format!("tokenizer.json: {error}")))?;
        let config = match tokenizer_config {
            None => Value::Null,
            Some(bytes) => serde_json::from_slice(bytes)
                .map_err(|error| Error::Tokenizer(format!("tokenizer_config.json: {error}")))?,
        };
        let largest = inner.get_vocab(true).into_values().max();
        Ok(Self {
            bos: special(&inner, &config, "bos_token", &COMMON_BOS)?,
            eos: special(&inner, &config, "eos_token", &COMMON_EOS)?,
            digest: Digest::of(tokenizer_json),
            vocab_size: largest.map_or(0, |id| id as usize + 1),
            inner,
        })
    }

    /// The tokenizer among the files of a model or a tokenizer artifact, if there is one.
    ///
    /// # Errors
    /// As [`Tokenizer::new`].
    pub fn from_files(files: &Files) -> Result<Option<Self>> {
        let read = |json| Self::new(json, files.get("tokenizer_config.json"));
        files.get("tokenizer.json").map(read).transpose()
    }

    /// Digest of `tokenizer.json`.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// One more than the largest id.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The tokens of a text. Special tokens are neither added nor looked for beyond what the tokenizer itself does.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the tokenizer has no token for a part of the text.
    pub fn encode(&self, text: &str) -> Result<Encoded> {
        let encoding = self.inner.encode(text, false).map_err(|error| Error::Tokenizer(error.to_string()))?;
        let spans = encoding.get_offsets().iter().map(|&(start, end)| (start as u32, end as u32)).collect();
        Ok(Encoded { ids: encoding.get_ids().to_vec(), spans })
    }

    /// The text of tokens; special tokens are left out.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the tokenizer cannot decode. An id outside the vocabulary stands for nothing.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner.decode(ids, true).map_err(|error| Error::Tokenizer(error.to_string()))
    }

    /// The text of one token as the vocabulary holds it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }
}

/// The token that a config names under `key`, as a string or an object with `content`; else the first common name there is.
fn special(inner: &tokenizers::Tokenizer, config: &Value, key: &str, common: &[&str]) -> Result<Option<u32>> {
    let named = match &config[key] {
        Value::Object(token) => token.get("content").and_then(Value::as_str),
        other => other.as_str(),
    };
    match named {
        None => Ok(common.iter().find_map(|name| inner.token_to_id(name))),
        Some(name) => inner.token_to_id(name).map(Some).ok_or_else(|| {
            Error::Tokenizer(format!("tokenizer_config.json: `{key}` is {name:?}, which is not in the vocabulary"))
        }),
    }
}

//! What the ids of a model or a tokenizer mean.

use mediant_artifact::{Artifact, ModelReader, TokenizerReader};
use mediant_engine::StageError;
use mediant_lm::text::Tokenizer;

/// What ids mean.
pub(crate) struct Vocabulary {
    pub(crate) tokenizer: Option<Tokenizer>,
    /// Every id is below this.
    pub(crate) size: Option<usize>,
    bos: Option<u32>,
    eos: Option<u32>,
}

impl Vocabulary {
    pub(crate) fn open(model: Option<&Artifact>, tokenizer: Option<&Artifact>) -> Result<Self, StageError> {
        let model = model.map(ModelReader::open).transpose()?;
        let tokenizer = match (&model, tokenizer) {
            (Some(model), _) => Tokenizer::from_files(&model.files)?,
            (None, Some(tokenizer)) => Tokenizer::from_files(&TokenizerReader::open(tokenizer)?.files)?,
            (None, None) => None,
        };
        let config = model.as_ref().map(|model| &model.meta.config);
        let number =
            |field: &str| config.and_then(|config| config[field].as_u64()).and_then(|id| u32::try_from(id).ok());
        let special = |own: fn(&Tokenizer) -> Option<u32>, field: &str| match &tokenizer {
            Some(tokenizer) => own(tokenizer),
            None => number(field),
        };
        let size = config.and_then(|config| config["vocab_size"].as_u64()).map(|size| size as usize);
        Ok(Self {
            bos: special(Tokenizer::bos, "bos_token_id"),
            eos: special(Tokenizer::eos, "eos_token_id"),
            size: size.or(tokenizer.as_ref().map(Tokenizer::vocab_size)),
            tokenizer,
        })
    }

    /// The token that begins a text, which `option` asks for.
    pub(crate) fn bos(&self, option: &str) -> Result<u32, StageError> {
        self.needed(self.bos, option, "a BOS token")
    }

    /// The token that ends a text, which `option` asks for.
    pub(crate) fn eos(&self, option: &str) -> Result<u32, StageError> {
        self.needed(self.eos, option, "an EOS token")
    }

    fn needed(&self, token: Option<u32>, option: &str, name: &str) -> Result<u32, StageError> {
        match (token, self.size) {
            (None, _) => Err(StageError::new(format!("`{option}: true` needs {name}, and none is known"))),
            (Some(id), Some(size)) if id as usize >= size => {
                let problem = format!("`{option}: true` needs {name}; it is {id}, but there are {size} tokens");
                Err(StageError::new(format!("{problem}; set `{option}: false`")))
            }
            (Some(id), _) => Ok(id),
        }
    }
}

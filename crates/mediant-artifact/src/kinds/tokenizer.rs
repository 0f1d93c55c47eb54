//! The `tokenizer` kind: table `files`.

use serde::{Deserialize, Serialize};

use super::model::TOKENIZER_JSON;
use crate::{Artifact, ArtifactWriter, Digest, Error, FileTableWriter, Files, Kind, Manifest, Result};

/// What is known of a tokenizer besides its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerMeta {
    /// One more than the largest token id.
    pub vocab_size: usize,
    /// Digest of `tokenizer.json`.
    pub digest: Digest,
}

/// Writes a tokenizer from its files, `tokenizer.json` among them.
///
/// # Errors
/// If there is no `tokenizer.json`, a name occurs twice, or writing fails.
pub fn write_tokenizer(artifact: ArtifactWriter, vocab_size: usize, files: &[(&str, &[u8])]) -> Result<Manifest> {
    artifact.expect(Kind::Tokenizer)?;
    let mut table = FileTableWriter::new(&artifact)?;
    files.iter().try_for_each(|(name, bytes)| table.file(name, bytes))?;
    let digest =
        table.digest(TOKENIZER_JSON).ok_or_else(|| Error::Invalid("a tokenizer needs a tokenizer.json".to_owned()))?;
    table.close()?;
    artifact.finish(&TokenizerMeta { vocab_size, digest })
}

/// Reads a tokenizer.
pub struct TokenizerReader {
    /// The description.
    pub meta: TokenizerMeta,
    /// The files.
    pub files: Files,
}

impl TokenizerReader {
    /// Opens a tokenizer.
    ///
    /// # Errors
    /// If the artifact is of another kind or damaged.
    pub fn open(artifact: &Artifact) -> Result<Self> {
        artifact.expect(Kind::Tokenizer)?;
        Ok(Self { meta: artifact.meta()?, files: Files::read(artifact)? })
    }

    /// The bytes of `tokenizer.json`.
    ///
    /// # Errors
    /// If the artifact has none.
    pub fn tokenizer_json(&self) -> Result<&[u8]> {
        self.files
            .get(TOKENIZER_JSON)
            .ok_or_else(|| Error::Invalid("this tokenizer artifact has no tokenizer.json".to_owned()))
    }
}

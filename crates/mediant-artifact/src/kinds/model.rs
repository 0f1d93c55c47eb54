//! The `model` kind: tables `tensors` and `files`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Artifact, ArtifactWriter, DType, Digest, Error, Kind, Manifest, Norms, Processing, Result};
use crate::{FileTableWriter, Files, TensorTableWriter, Tensors};

/// What is known of a model besides its tensors and files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelMeta {
    /// The `model_type` of the Hugging Face config: `gpt2`, `llama`, ...
    pub architecture: String,
    /// The Hugging Face config.
    pub config: Value,
    /// State of the normalisation layers.
    pub norms: Norms,
    /// What was done to the weights after loading.
    pub processing: Processing,
    /// Digest of `tokenizer.json`, if the model has one.
    pub tokenizer: Option<Digest>,
    /// Number of parameters.
    pub parameters: u64,
}

/// Writes a model.
pub struct ModelWriter {
    artifact: ArtifactWriter,
    tensors: TensorTableWriter,
    files: FileTableWriter,
}

impl ModelWriter {
    /// Starts a model in an empty folder.
    ///
    /// # Errors
    /// If the writer is not of kind [`Kind::Model`] or a file cannot be created.
    pub fn new(artifact: ArtifactWriter) -> Result<Self> {
        artifact.expect(Kind::Model)?;
        let tensors = TensorTableWriter::new(&artifact)?;
        let files = FileTableWriter::new(&artifact)?;
        Ok(Self { artifact, tensors, files })
    }

    /// Adds a tensor: little-endian, row-major.
    ///
    /// # Errors
    /// If the bytes do not fit the shape, the name was used before, or writing fails.
    pub fn tensor(&mut self, name: &str, dtype: DType, shape: &[usize], bytes: &[u8]) -> Result<()> {
        self.tensors.tensor(name, dtype, shape, bytes)
    }

    /// Adds a file by name: `config.json`, `tokenizer.json`, ...
    ///
    /// # Errors
    /// If the name was used before or writing fails.
    pub fn file(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.files.file(name, bytes)
    }

    /// Writes the manifest.
    ///
    /// # Errors
    /// If `meta.tokenizer` is not the digest of the `tokenizer.json` added, or writing fails.
    pub fn finish(self, meta: &ModelMeta) -> Result<Manifest> {
        if meta.tokenizer != self.files.digest(TOKENIZER_JSON) {
            return Err(Error::Invalid("the model's tokenizer digest is not that of its tokenizer.json".to_owned()));
        }
        self.tensors.close()?;
        self.files.close()?;
        self.artifact.finish(meta)
    }
}

/// The file that defines a tokenizer.
pub(crate) const TOKENIZER_JSON: &str = "tokenizer.json";

/// Reads a model: tensors one at a time, files whole.
pub struct ModelReader {
    /// The description.
    pub meta: ModelMeta,
    /// The tensors.
    pub tensors: Tensors,
    /// The files.
    pub files: Files,
}

impl ModelReader {
    /// Opens a model.
    ///
    /// # Errors
    /// If the artifact is of another kind or damaged.
    pub fn open(artifact: &Artifact) -> Result<Self> {
        artifact.expect(Kind::Model)?;
        Ok(Self { meta: artifact.meta()?, tensors: Tensors::open(artifact)?, files: Files::read(artifact)? })
    }
}

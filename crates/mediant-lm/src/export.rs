//! From a `model` artifact to a folder that transformers loads.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use mediant_artifact::{Artifact, DType, ModelReader, Processing, TensorInfo};
use serde_json::{Map, Value, json};

use crate::{Error, Result};

/// Writes `config.json`, `model.safetensors` and the files that came with the model into `folder`, which is created. The
/// same artifact gives the same bytes; one tensor at a time is in memory.
///
/// # Errors
/// If the artifact is no model, its weights were processed, or a file cannot be written.
pub fn export(artifact: &Artifact, folder: &Path) -> Result<()> {
    let model = ModelReader::open(artifact)?;
    if model.meta.processing != Processing::default() {
        let why = "the weights of this model were processed, and the Hugging Face layout has no place for what processing \
                   adds (biases, an unembedding of its own); export the model of a `load_model` without `processing`";
        return Err(Error::Weights(why.to_owned()));
    }
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    for name in model.files.names() {
        // The names were written by an import or a training stage; those of a damaged artifact must not lead elsewhere.
        let path = folder.join(Path::new(name).file_name().unwrap_or_default());
        fs::write(&path, model.files.get(name).unwrap_or_default()).map_err(Error::io(&path))?;
    }
    let path = folder.join("model.safetensors");
    let file = File::create(&path).map_err(Error::io(&path))?;
    write_tensors(&model, &mut BufWriter::new(file), &path)
}

fn write_tensors(model: &ModelReader, file: &mut BufWriter<File>, path: &Path) -> Result<()> {
    // As the safetensors library orders them: wider formats first, so that all values are aligned, then by name.
    let mut tensors: Vec<&TensorInfo> = model.tensors.infos().collect();
    tensors.sort_by_key(|tensor| (std::cmp::Reverse(tensor.dtype.size()), &tensor.name));
    let mut header = Map::from_iter([("__metadata__".to_owned(), json!({"format": "pt"}))]);
    let mut end = 0;
    for tensor in &tensors {
        let start = end;
        end += tensor.shape.iter().product::<usize>() * tensor.dtype.size();
        let dtype = match tensor.dtype {
            DType::F32 => "F32",
            DType::F16 => "F16",
            DType::BF16 => "BF16",
        };
        header
            .insert(tensor.name.clone(), json!({"dtype": dtype, "shape": tensor.shape, "data_offsets": [start, end]}));
    }
    let mut text = Value::from(header).to_string();
    text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
    file.write_all(&(text.len() as u64).to_le_bytes()).map_err(Error::io(path))?;
    file.write_all(text.as_bytes()).map_err(Error::io(path))?;
    for tensor in tensors {
        file.write_all(&model.tensors.get(&tensor.name)?.bytes).map_err(Error::io(path))?;
    }
    file.flush().map_err(Error::io(path))
}

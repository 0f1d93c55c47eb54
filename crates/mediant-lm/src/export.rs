//! From a `model` artifact to a folder: one that transformers loads, or one of a model whose norms are part of its weights.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use mediant_artifact::{Artifact, DType, ModelReader, Processing};
use serde_json::{Map, Value, json};

use crate::artifact::{stored, width};
use crate::layout::cut;
use crate::{Error, LmConfig, NormStates, Piece, Result, Slot, folded, stock};

/// Writes `config.json`, `model.safetensors` and the files that came with the model into `folder`, which is created. The
/// same artifact gives the same bytes; one parameter at a time is in memory.
///
/// A model whose norms are all frozen is written in float32 so that stock code computes it, with an epsilon of 1e12. One whose
/// norms are part of its weights is written under our own names of its parameters, `[in, out]`, with a `config.json` that stock
/// code does not take for another model's; [`HfFolder`](crate::HfFolder) opens both.
///
/// # Errors
/// If the artifact is no model, its weights were processed, some of its norms are frozen and others live, or a file cannot be
/// written.
pub fn export(artifact: &Artifact, folder: &Path) -> Result<()> {
    let model = ModelReader::open(artifact)?;
    let config = LmConfig::of_artifact(&model.meta)?;
    let (json, tensors) = match &config.norms {
        NormStates::Absent if config.processing == Processing::default() => {
            (model.meta.config.clone(), stored_tensors(&model))
        }
        NormStates::Absent => (folded::config_json(&model.meta.config, config.processing), stored_tensors(&model)),
        NormStates::Present(_) if config.processing != Processing::default() => {
            let why = "the weights of this model were processed, and the Hugging Face layout has no place for what \
                       processing adds (biases, an unembedding of its own); export the model of a `load_model` without \
                       `processing`";
            return Err(Error::Weights(why.to_owned()));
        }
        NormStates::Present(frozen) if frozen.is_empty() => (model.meta.config.clone(), stored_tensors(&model)),
        NormStates::Present(frozen) => {
            config.check_stock()?;
            let scales = frozen.iter().map(|(site, scale)| (site.to_string(), *scale)).collect();
            (stock_json(&config, &model.meta.config, scales), stock_tensors(&config))
        }
    };
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    for name in model.files.names().filter(|name| *name != "config.json") {
        // The names were written by an import or a training stage; those of a damaged artifact must not lead elsewhere.
        let path = folder.join(Path::new(name).file_name().unwrap_or_default());
        fs::write(&path, model.files.get(name).unwrap_or_default()).map_err(Error::io(&path))?;
    }
    let path = folder.join("config.json");
    let unchanged = model.files.get("config.json").filter(|_| json == model.meta.config);
    let text = match unchanged {
        Some(bytes) => bytes.to_vec(),
        None => serde_json::to_vec_pretty(&json).map_err(Error::json(&path))?,
    };
    fs::write(&path, text).map_err(Error::io(&path))?;
    let path = folder.join("model.safetensors");
    let mut file = BufWriter::new(File::create(&path).map_err(Error::io(&path))?);
    let bytes = |tensor: &Tensor| match &tensor.of {
        None => Ok(model.tensors.get(&tensor.name)?.bytes),
        Some((slot, piece, column)) => {
            let values = config.to_stock(*slot, |slot| stored(&model, &config, slot))?;
            Ok(bytemuck::cast_slice(&cut(piece, &values, width(*slot, &config), *column)).to_vec())
        }
    };
    write_tensors(tensors, bytes, &mut file, &path)
}

/// A tensor of the file.
struct Tensor {
    name: String,
    dtype: DType,
    shape: Vec<usize>,
    /// The parameter that it is a part of, from this column on, where it is not written as it is stored.
    of: Option<(Slot, Piece, usize)>,
}

fn stored_tensors(model: &ModelReader) -> Vec<Tensor> {
    let tensors = model.tensors.infos();
    tensors
        .map(|info| Tensor { name: info.name.clone(), dtype: info.dtype, shape: info.shape.clone(), of: None })
        .collect()
}

fn stock_tensors(config: &LmConfig) -> Vec<Tensor> {
    let mut tensors = Vec::new();
    for slot in config.slots() {
        let mut column = 0;
        for piece in config.pieces(slot) {
            let width = piece.width();
            let (name, shape) = (piece.tensor.clone(), piece.shape.clone());
            tensors.push(Tensor { name, dtype: DType::F32, shape, of: Some((slot, piece, column)) });
            column += width;
        }
    }
    tensors
}

fn stock_json(config: &LmConfig, json: &Value, scales: BTreeMap<String, f32>) -> Value {
    let mut json = json.clone();
    json[config.architecture.norm_eps] = json!(stock::EPS);
    json[stock::SCALES] = json!(scales);
    for field in ["torch_dtype", "dtype"] {
        if json.get(field).is_some() {
            json[field] = json!("float32");
        }
    }
    json
}

fn write_tensors(
    mut tensors: Vec<Tensor>,
    bytes: impl Fn(&Tensor) -> Result<Vec<u8>>,
    file: &mut BufWriter<File>,
    path: &Path,
) -> Result<()> {
    // As the safetensors library orders them: wider formats first, so that all values are aligned, then by name.
    tensors.sort_by(|a, b| (b.dtype.size(), &a.name).cmp(&(a.dtype.size(), &b.name)));
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
    for tensor in &tensors {
        file.write_all(&bytes(tensor)?).map_err(Error::io(path))?;
    }
    file.flush().map_err(Error::io(path))
}

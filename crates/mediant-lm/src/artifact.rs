//! Models as artifacts: from a Hugging Face folder or from a device, and back to a device.

use std::borrow::Cow;

use mediant_artifact::{
    Artifact, ArtifactWriter, DType, Digest, Manifest, ModelMeta, ModelReader, ModelWriter, Processing,
};
use mediant_tensor::Compute;
use serde_json::Value;

use crate::checkpoint::HfFolder;
use crate::layout::{cut, place};
use crate::processing::process;
use crate::{Error, LmConfig, Model, NormStates, Parameter, Piece, Result, Slot};

/// Copies a Hugging Face folder into an artifact: tensors one at a time in their own formats, and the files beside them.
/// With weight processing the parameters are in f32 and under names of our own ([`LmConfig::pieces`]), and one block is in
/// memory at a time. `progress` hears how many tensors of how many are done, and may stop the work with an error.
///
/// # Errors
/// [`Error::Weights`] for a value that is not a finite number, what [`LmConfig::processed`] says, and whatever writing gives.
pub fn import<E: From<Error>>(
    folder: &HfFolder,
    processing: Processing,
    artifact: ArtifactWriter,
    mut progress: impl FnMut(u64, u64) -> Result<(), E>,
) -> Result<Manifest, E> {
    let config = folder.config().processed(processing)?;
    let mut writer = ModelWriter::new(artifact).map_err(Error::from)?;
    let total = all_pieces(&config).len() as u64;
    let mut done = 0;
    let mut write = |piece: &Piece, dtype, bytes: &[u8]| {
        check_finite(&piece.tensor, dtype, bytes)?;
        writer.tensor(&piece.tensor, dtype, &piece.shape, bytes).map_err(Error::from)?;
        done += 1;
        progress(done, total)
    };
    if processing == Processing::default() {
        for slot in config.slots() {
            // The checkpoint of a model with frozen norms has them in another form.
            let own = is_stock(&config, slot).then(|| own_form(folder, slot)).transpose()?;
            let mut column = 0;
            for piece in config.pieces(slot) {
                match &own {
                    Some(values) => {
                        let tensor = cut(&piece, values, width(slot, &config), column);
                        write(&piece, DType::F32, bytemuck::cast_slice(&tensor))?;
                    }
                    None => {
                        let (dtype, bytes) = folder.tensor(&piece.tensor)?;
                        write(&piece, dtype, bytes)?;
                        folder.release(&piece.tensor);
                    }
                }
                column += piece.width();
            }
        }
    } else {
        let read = |slot| unprocessed(folder, slot, &config);
        process(folder.config(), &config, read, |slot, values| {
            let pieces = config.pieces(slot);
            pieces.iter().try_for_each(|piece| write(piece, DType::F32, bytemuck::cast_slice(values)))
        })?;
    }
    Ok(finish(writer, &config, folder.config_json(), &folder.files()?)?)
}

/// Whether a parameter of a checkpoint in Hugging Face layout has another form than our own.
fn is_stock(config: &LmConfig, slot: Slot) -> bool {
    matches!(&config.norms, NormStates::Present(frozen) if !frozen.is_empty()) && config.differs_in_stock(slot)
}

/// A parameter of a model before processing: the embedding for an unembedding that it does not have, zeros for a bias.
fn unprocessed(folder: &HfFolder, slot: Slot, processed: &LmConfig) -> Result<Vec<f32>> {
    let config = folder.config();
    let slot = if slot == Slot::Unembed && config.tied { Slot::Embed } else { slot };
    if !config.has(slot) {
        return Ok(vec![0.0; slot.shape(processed).iter().product()]);
    }
    own_form(folder, slot)
}

/// A parameter that a checkpoint has.
fn own_form(folder: &HfFolder, slot: Slot) -> Result<Vec<f32>> {
    let config = folder.config();
    let read = |slot| {
        let values = assemble(config, slot, |piece| {
            let (dtype, bytes) = folder.tensor(&piece.tensor)?;
            check_finite(&piece.tensor, dtype, bytes)?;
            Ok((dtype, Cow::Borrowed(bytes)))
        })?;
        config.pieces(slot).iter().for_each(|piece| folder.release(&piece.tensor));
        Ok(values)
    };
    if is_stock(config, slot) { config.undo_stock(slot, read) } else { read(slot) }
}

pub(crate) fn width(slot: Slot, config: &LmConfig) -> usize {
    slot.shape(config).last().copied().unwrap_or(1)
}

/// Writes a model from a device, in f32 and under the names of [`LmConfig::pieces`]. `config_json` is what its config was read
/// from; `files` are the tokenizer's and others, without the `config.json`.
///
/// # Errors
/// Whatever writing gives.
pub fn save<C: Compute>(
    model: &Model<C>,
    config_json: &Value,
    files: &[(&str, Vec<u8>)],
    artifact: ArtifactWriter,
) -> Result<Manifest> {
    let config = model.config();
    let mut writer = ModelWriter::new(artifact)?;
    for (slot, parameter) in model.parameters() {
        let values = parameter.into_values();
        let mut column = 0;
        for piece in config.pieces(slot) {
            let tensor = cut(&piece, &values, width(slot, config), column);
            writer.tensor(&piece.tensor, DType::F32, &piece.shape, bytemuck::cast_slice(&tensor))?;
            column += piece.width();
        }
    }
    let text = serde_json::to_vec_pretty(config_json).map_err(Error::json("config.json".as_ref()))?;
    let mut all = vec![("config.json", text)];
    all.extend(files.iter().cloned());
    finish(writer, config, config_json, &all)
}

pub(crate) fn finish(
    mut writer: ModelWriter,
    config: &LmConfig,
    config_json: &Value,
    files: &[(&str, Vec<u8>)],
) -> Result<Manifest> {
    for (name, bytes) in files {
        writer.file(name, bytes)?;
    }
    let tokenizer = files.iter().find(|(name, _)| *name == "tokenizer.json").map(|(_, bytes)| Digest::of(bytes));
    Ok(writer.finish(&ModelMeta {
        architecture: config.architecture.model_type.to_owned(),
        config: config_json.clone(),
        norms: config.stored_norms(),
        processing: config.processing,
        tokenizer,
        parameters: config.parameters(),
    })?)
}

/// Loads a model onto a device, parameter by parameter: beside the parameters, only one tensor is in memory.
///
/// # Errors
/// If the artifact is no model, or its tensors do not fit its config.
pub fn load<C: Compute>(artifact: &Artifact, device: &C::Device) -> Result<Model<C>> {
    let reader = ModelReader::open(artifact)?;
    let config = LmConfig::of_artifact(&reader.meta)?;
    // The largest first: then its copy on the way is made while little else is in memory.
    let mut slots = config.slots();
    slots.sort_by_key(|slot| std::cmp::Reverse(slot.shape(&config).iter().product::<usize>()));
    let parameter =
        |slot: Slot| Ok((slot, Parameter::new(stored(&reader, &config, slot)?, &slot.shape(&config), device)?));
    let parameters = slots.into_iter().map(parameter).collect::<Result<Vec<_>>>()?;
    Model::new(config, parameters)
}

/// A parameter's values from an artifact. One that is stored as it is, as embeddings are, which may be most of a small
/// model, is converted while it is read.
pub(crate) fn stored(reader: &ModelReader, config: &LmConfig, slot: Slot) -> Result<Vec<f32>> {
    let check = |piece: &Piece, shape: &[usize]| match shape == piece.shape {
        true => Ok(()),
        false => {
            let (name, expected) = (&piece.tensor, &piece.shape);
            Err(Error::Weights(format!("tensor `{name}` has shape {shape:?}, but the config says {expected:?}")))
        }
    };
    let pieces = config.pieces(slot);
    if let [piece] = &pieces[..]
        && piece.is_whole()
    {
        let mut values = vec![0.0; piece.shape.iter().product()];
        let mut filled = 0;
        reader.tensors.read(&piece.tensor, |info, bytes| {
            check(piece, &info.shape)?;
            let count = bytes.len() / info.dtype.size();
            info.dtype.decode(bytes, &mut values[filled..filled + count])?;
            filled += count;
            Ok::<_, Error>(())
        })?;
        return Ok(values);
    }
    assemble(config, slot, |piece| {
        let tensor = reader.tensors.get(&piece.tensor)?;
        check(piece, &tensor.shape)?;
        Ok((tensor.dtype, Cow::Owned(tensor.bytes)))
    })
}

/// The values of a parameter, row-major, from its stored pieces.
fn assemble<'t>(
    config: &LmConfig,
    slot: Slot,
    read: impl Fn(&Piece) -> Result<(DType, Cow<'t, [u8]>)>,
) -> Result<Vec<f32>> {
    let width = width(slot, config);
    let mut values = vec![0.0; slot.shape(config).iter().product()];
    let mut column = 0;
    for piece in config.pieces(slot) {
        let (dtype, bytes) = read(&piece)?;
        place(&piece, dtype, &bytes, &mut values, width, column)?;
        column += piece.width();
    }
    Ok(values)
}

/// The stored tensors of a model, in the order of its parameters.
pub(crate) fn all_pieces(config: &LmConfig) -> Vec<Piece> {
    config.slots().into_iter().flat_map(|slot| config.pieces(slot)).collect()
}

fn check_finite(name: &str, dtype: DType, bytes: &[u8]) -> Result<()> {
    // All ones in the exponent: infinite or not a number.
    let half = |mask: u16| bytes.chunks_exact(2).position(|b| u16::from_le_bytes([b[0], b[1]]) & mask == mask);
    let place = match dtype {
        DType::F32 => bytes
            .chunks_exact(4)
            .position(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) & 0x7f80_0000 == 0x7f80_0000),
        DType::F16 => half(0x7c00),
        DType::BF16 => half(0x7f80),
    };
    match place {
        Some(index) => {
            Err(Error::Weights(format!("tensor `{name}` holds a value that is not a finite number, at index {index}")))
        }
        None => Ok(()),
    }
}

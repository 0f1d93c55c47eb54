//! PyTorch's `.pt` of a state dict: a zip archive with the pickle `data.pkl` and a file of numbers for each storage.

use std::collections::BTreeMap;
use std::io::Write;

use super::input::Input;
use super::pickle::Described;
use super::stored::{Number, Place, Stored, TensorFile, order, size};
use super::{pickle, zip};
use crate::Result;

/// Largest pickle that is read; a tensor takes about 200 bytes of one.
const LARGEST_PICKLE: u64 = 1 << 20;

/// Opens an archive: reads its pickle. Nothing in it is run.
///
/// # Errors
/// If it is something else than a dict of tensors by name, or damaged.
pub fn of(input: Input) -> Result<TensorFile> {
    if !zip::is_zip(&input) {
        return Err(input.error(
            "is no zip archive, as PyTorch writes since version 1.6; load it there and save it again, as a state_dict",
        ));
    }
    let entries = zip::entries(&input)?;
    let mut pickles = entries.iter().filter(|(name, _)| name.ends_with("/data.pkl"));
    let (Some((name, entry)), None) = (pickles.next(), pickles.next()) else {
        return Err(input.error("is an archive without the one `data.pkl` that PyTorch writes"));
    };
    let folder = name.trim_end_matches("data.pkl").to_owned();
    if let Some(order) = entries.get(&format!("{folder}byteorder"))
        && zip::read(&input, order)? != b"little"
    {
        return Err(input.error("holds big-endian numbers"));
    }
    if entry.size() > LARGEST_PICKLE {
        return Err(input.error(format!("has a pickle of {} bytes, too many for a dict of tensors", entry.size())));
    }
    let pickle = pickle::state_dict(&zip::read(&input, entry)?);
    let pickle = pickle.map_err(|why| input.error(format!("the pickle in it: {why}")))?;
    let mut tensors = BTreeMap::new();
    for (name, tensor) in pickle {
        let wrong = |why: &str| input.error(format!("tensor `{}` {why}", name.escape_debug()));
        let storage = entries.get(&format!("{folder}data/{}", tensor.storage));
        let storage = storage.ok_or_else(|| wrong("has no numbers in the archive"))?;
        let wide = tensor.number.size() as u64;
        let skip = tensor.offset.checked_mul(wide);
        let end = skip.zip(size(&tensor.shape, tensor.number)).and_then(|(skip, bytes)| skip.checked_add(bytes));
        let fits =
            tensor.numbers.checked_mul(wide) == Some(storage.size()) && end.is_some_and(|end| end <= storage.size());
        let (Some(skip), true) = (skip, fits) else {
            return Err(wrong("is larger than its numbers in the archive"));
        };
        let order = order(&tensor.shape, &tensor.strides)
            .ok_or_else(|| wrong("is a view of a larger one; save a contiguous copy"))?;
        let place = Place::Entry(storage.clone(), skip);
        tensors.insert(name, Stored { number: tensor.number, shape: tensor.shape, order, place });
    }
    Ok(TensorFile { input, tensors })
}

/// A tensor to be written: name, format, shape, and its numbers in C order, little-endian.
pub(super) struct Given<'a> {
    pub(super) name: &'a str,
    pub(super) number: Number,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: &'a [u8],
}

/// Writes a state dict as `torch.save` lays it out, for `torch.load` with `weights_only=True`; the same tensors give the same
/// bytes.
pub(super) fn write(out: impl Write, tensors: &[Given<'_>]) -> std::io::Result<()> {
    let described =
        tensors.iter().map(|tensor| Described { name: tensor.name, number: tensor.number, shape: &tensor.shape });
    let mut archive = zip::Writer::new(out);
    archive.entry("archive/data.pkl", &[&pickle::of_state_dict(described)])?;
    archive.entry("archive/byteorder", &[b"little"])?;
    for (key, tensor) in tensors.iter().enumerate() {
        archive.entry(&format!("archive/data/{key}"), &[tensor.bytes])?;
    }
    // Of PyTorch's format.
    archive.entry("archive/version", &[b"3\n"])?;
    archive.finish()
}

//! Safetensors files: eight bytes of length, a JSON header, then the numbers. Nothing in the header is believed before it
//! is checked against the file's size.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::input::Input;
use super::json;
use super::stored::{Number, Order, Place, Stored, TensorFile, size};
use crate::Result;

/// Opens a file: reads its header.
///
/// # Errors
/// If it is no safetensors file, or damaged.
pub(super) fn open(path: &Path) -> Result<TensorFile> {
    of(Input::open(path)?)
}

/// As `open`.
///
/// # Errors
/// As `open`.
pub fn of(input: Input) -> Result<TensorFile> {
    const LENGTH: u64 = 8;
    let start = input.bytes(0, LENGTH.min(input.len()))?;
    let Some(length) = start.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)) else {
        return Err(input.error("is too short to be a safetensors file"));
    };
    if !input.holds(LENGTH, length) || length > json::LARGEST {
        return Err(input.error(format!("claims a header of {length} bytes in a file of {}", input.len())));
    }
    let header = json::parse(&input.bytes(LENGTH, length)?);
    let tensors = header.and_then(|header| entries(&header, LENGTH + length, input.len()));
    match tensors {
        Ok(tensors) => Ok(TensorFile { input, tensors }),
        Err(why) => Err(input.error(format!("the header is damaged: {why}"))),
    }
}

/// The tensors, which fill the rest of the file without gap or overlap.
fn entries(header: &Value, start: u64, end: u64) -> Result<BTreeMap<String, Stored>, String> {
    let header = header.as_object().ok_or("it is not a JSON object")?;
    let mut tensors = BTreeMap::new();
    let mut ranges = Vec::new();
    for (name, info) in header.iter().filter(|(name, _)| *name != "__metadata__") {
        let shown = name.escape_debug();
        let (stored, range) = entry(info, start).ok_or_else(|| format!("what it says of tensor `{shown}`"))?;
        if size(&stored.shape, stored.number) != Some(range.1 - range.0) {
            return Err(format!("tensor `{shown}` has other offsets than its shape and format need"));
        }
        ranges.push((range, shown.to_string()));
        tensors.insert(name.clone(), stored);
    }
    ranges.sort();
    let mut reached = 0;
    for ((from, to), name) in &ranges {
        if *from != reached {
            return Err(format!("there is a gap or an overlap before tensor `{name}`"));
        }
        reached = *to;
    }
    if start.checked_add(reached) != Some(end) {
        return Err(format!(
            "it adds up to {reached} bytes of numbers, and the file has {}; it may be cut off",
            end.saturating_sub(start)
        ));
    }
    Ok(tensors)
}

/// A tensor and its range.
fn entry(info: &Value, start: u64) -> Option<(Stored, (u64, u64))> {
    let number = match info.get("dtype")?.as_str()? {
        "F16" => Number::F16,
        "BF16" => Number::BF16,
        "F32" => Number::F32,
        "F64" => Number::F64,
        "U8" | "BOOL" => Number::U8,
        "I32" => Number::I32,
        "I64" => Number::I64,
        _ => return None,
    };
    let shape = info.get("shape")?.as_array()?.iter().map(|side| usize::try_from(side.as_u64()?).ok());
    let shape = shape.collect::<Option<Vec<_>>>()?;
    let [from, to] = info.get("data_offsets")?.as_array()?.as_slice() else { return None };
    let (from, to) = (from.as_u64()?, to.as_u64()?);
    let place = Place::File(start.checked_add(from)?);
    to.checked_sub(from)?;
    Some((Stored { number, shape, order: Order::Rows, place }, (from, to)))
}

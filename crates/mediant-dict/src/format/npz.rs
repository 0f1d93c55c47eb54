//! NumPy's `.npz`: a zip archive of `.npy` arrays (NEP 1), each a small header and the numbers.

use std::collections::BTreeMap;
use std::io::Write;

use super::input::Input;
use super::stored::{Number, Order, Place, Stored, TensorFile, size};
use super::zip;
use crate::Result;

/// Most bytes of the header of an array.
const LARGEST_HEADER: u64 = 1 << 16;

/// Opens an archive: reads the headers of its arrays.
///
/// # Errors
/// If it is no archive of arrays, or damaged.
pub fn of(input: Input) -> Result<TensorFile> {
    let mut tensors = BTreeMap::new();
    for (file, entry) in zip::entries(&input)? {
        let Some(name) = file.strip_suffix(".npy") else {
            return Err(input.error(format!("holds `{}`, which is no NumPy array", file.escape_debug())));
        };
        let head = zip::head(&input, &entry, LARGEST_HEADER)?;
        let (array, skip) =
            header(&head).map_err(|why| input.error(format!("array `{}`: {why}", name.escape_debug())))?;
        if size(&array.shape, array.number).and_then(|bytes| bytes.checked_add(skip)) != Some(entry.size()) {
            return Err(input.error(format!("array `{}` has not the size of its shape", name.escape_debug())));
        }
        let place = Place::Entry(entry, skip);
        let Array { number, shape, order } = array;
        tensors.insert(name.to_owned(), Stored { number, shape, order, place });
    }
    Ok(TensorFile { input, tensors })
}

/// What the header of an array says.
#[derive(Debug, PartialEq)]
struct Array {
    number: Number,
    shape: Vec<usize>,
    order: Order,
}

/// Reads a header; gives its length too.
fn header(bytes: &[u8]) -> Result<(Array, u64), String> {
    let cut = || "its header is cut off".to_owned();
    let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or("it is no NumPy array")?;
    let (version, rest) = rest.split_first_chunk::<2>().ok_or_else(cut)?;
    let (length, rest) = match version[0] {
        1 => rest.split_first_chunk::<2>().map(|(length, rest)| (u16::from_le_bytes(*length) as usize, rest)),
        2 | 3 => rest.split_first_chunk::<4>().map(|(length, rest)| (u32::from_le_bytes(*length) as usize, rest)),
        other => return Err(format!("version {other} of the format is not known")),
    }
    .ok_or_else(cut)?;
    let text = rest.get(..length).ok_or_else(cut)?;
    let skip = bytes.len() - rest.len() + length;
    let text = std::str::from_utf8(text).map_err(|_| "its header is not text".to_owned())?;
    Ok((description(text)?, skip as u64))
}

/// Reads `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`, the keys in any order.
fn description(text: &str) -> Result<Array, String> {
    let wrong = || format!("its header is not what NumPy writes: `{}`", text.trim().escape_debug());
    let mut rest = text.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).ok_or_else(wrong)?.trim();
    let (mut number, mut order, mut shape) = (None, None, None);
    while !rest.is_empty() {
        let (key, value) = rest.strip_prefix('\'').and_then(|rest| rest.split_once("':")).ok_or_else(wrong)?;
        let value = value.trim_start();
        // A value ends at the comma behind it; one inside a tuple is before the bracket.
        let from = if value.starts_with('(') { value.find(')').ok_or_else(wrong)? } else { 0 };
        let end = value[from..].find(',').map_or(value.len(), |at| from + at);
        let given = value[..end].trim_end();
        let fresh = match key {
            "descr" => number.replace(self::number(given)?).is_none(),
            "fortran_order" => order.replace(given).is_none(),
            "shape" => shape.replace(sides(given).ok_or_else(wrong)?).is_none(),
            _ => false,
        };
        if !fresh {
            return Err(wrong());
        }
        rest = value[end..].strip_prefix(',').unwrap_or_default().trim_start();
    }
    let order = match order {
        Some("False") => Order::Rows,
        Some("True") => Order::Columns,
        _ => return Err(wrong()),
    };
    let (number, shape) = number.zip(shape).ok_or_else(wrong)?;
    if order == Order::Columns && shape.len() > 2 {
        return Err("it is in Fortran order and has more than two dimensions".to_owned());
    }
    Ok(Array { number, shape, order })
}

fn number(descr: &str) -> Result<Number, String> {
    let descr = descr.trim_matches('\'');
    Ok(match descr {
        "<f2" => Number::F16,
        "<f4" => Number::F32,
        "<f8" => Number::F64,
        "|u1" | "|b1" => Number::U8,
        "<i4" => Number::I32,
        "<i8" => Number::I64,
        _ => return Err(format!("it holds `{}`; little-endian floats are read", descr.escape_debug())),
    })
}

/// `()`, `(3,)`, `(3, 4)`.
fn sides(text: &str) -> Option<Vec<usize>> {
    let inner = text.strip_prefix('(')?.strip_suffix(')')?.trim();
    let inner = inner.strip_suffix(',').unwrap_or(inner);
    if inner.is_empty() {
        return Some(Vec::new());
    }
    inner.split(',').map(|side| side.trim().parse().ok()).collect()
}

/// An array of f32 to be written: name, shape, numbers in C order.
pub(super) type Given<'a> = (&'a str, Vec<usize>, &'a [f32]);

/// Writes an archive as `numpy.savez` lays it out; the same arrays give the same bytes.
pub(super) fn write(out: impl Write, arrays: &[Given<'_>]) -> std::io::Result<()> {
    let mut archive = zip::Writer::new(out);
    for (name, shape, numbers) in arrays {
        let sides: String = shape.iter().map(|side| format!("{side}, ")).collect();
        let sides = if shape.len() == 1 { sides.trim_end() } else { sides.trim_end_matches(", ") };
        let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({sides}), }}");
        // Together with magic, version and length a multiple of 64, which ends in a new line.
        const BEFORE: usize = 10;
        let padded = (BEFORE + text.len() + 1).next_multiple_of(64) - BEFORE - 1;
        text.push_str(&" ".repeat(padded - text.len()));
        text.push('\n');
        let head = [&b"\x93NUMPY\x01\x00"[..], &(text.len() as u16).to_le_bytes(), text.as_bytes()].concat();
        archive.entry(&format!("{name}.npy"), &[&head, bytemuck::cast_slice(numbers)])?;
    }
    archive.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::{Array, Number, Order, description, header};

    #[test]
    fn headers_of_numpy() {
        let read = |text: &str| description(text).unwrap();
        let array = |number, shape: &[usize], order| Array { number, shape: shape.to_vec(), order };
        let scalar = read("{'descr': '<f8', 'fortran_order': False, 'shape': (), }");
        assert_eq!(scalar, array(Number::F64, &[], Order::Rows));
        let vector = read("{'descr': '<f4', 'fortran_order': False, 'shape': (5,), }");
        assert_eq!(vector, array(Number::F32, &[5], Order::Rows));
        let matrix = read("{'fortran_order': True, 'shape': (5, 7), 'descr': '<f2'}  \n");
        assert_eq!(matrix, array(Number::F16, &[5, 7], Order::Columns));
        for wrong in [
            "",
            "{}",
            "{'descr': '>f4', 'fortran_order': False, 'shape': (5,), }",
            "{'descr': '|O', 'fortran_order': False, 'shape': (5,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-5,), }",
            "{'descr': '<f4', 'fortran_order': 0, 'shape': (5,), }",
            "{'descr': '<f4', 'fortran_order': True, 'shape': (5, 6, 7), }",
            "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (5,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (5",
            "__import__('os').system('true')",
        ] {
            assert!(description(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[{}'(),:a-z<4 0-9]*") {
            let _ = header(&bytes);
            let _ = description(&text);
            let _ = header(&[b"\x93NUMPY\x01\x00", &(text.len() as u16).to_le_bytes()[..], text.as_bytes()].concat());
        }
    }
}

//! Tensors in a file of another tool: described by its headers, read when they are asked for.

use std::collections::BTreeMap;

use half::{bf16, f16};

use super::input::Input;
use super::zip;
use crate::product::transposed;
use crate::{Error, Result};

/// The tensors of one file, by name.
#[derive(Debug)]
pub struct TensorFile {
    pub(super) input: Input,
    pub(super) tensors: BTreeMap<String, Stored>,
}

/// Where a tensor is and what it is made of. Its numbers lie densely, little-endian.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) number: Number,
    pub(super) shape: Vec<usize>,
    pub(super) order: Order,
    pub(super) place: Place,
}

/// Which index of a matrix runs fastest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// The last: C order.
    Rows,
    /// The first: Fortran order.
    Columns,
}

/// Where the bytes of a tensor begin.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// In the file.
    File(u64),
    /// In an entry of an archive.
    Entry(zip::Entry, u64),
}

/// The format of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    F16,
    BF16,
    F32,
    F64,
    U8,
    I32,
    I64,
}

impl Number {
    pub(super) fn size(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::F16 | Self::BF16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }

    fn is_float(self) -> bool {
        !matches!(self, Self::U8 | Self::I32 | Self::I64)
    }

    /// Reads numbers; beyond the reach of f32 they become infinite.
    fn decode(self, bytes: &[u8]) -> Vec<f32> {
        fn each<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
            bytes.as_chunks::<N>().0.iter().map(|bytes| number(*bytes)).collect()
        }
        match self {
            Self::F16 => each(bytes, |bytes| f16::from_le_bytes(bytes).to_f32()),
            Self::BF16 => each(bytes, |bytes| bf16::from_le_bytes(bytes).to_f32()),
            Self::F32 => each(bytes, f32::from_le_bytes),
            Self::F64 => each(bytes, |bytes| f64::from_le_bytes(bytes) as f32),
            Self::U8 => bytes.iter().map(|byte| f32::from(*byte)).collect(),
            Self::I32 => each(bytes, |bytes| i32::from_le_bytes(bytes) as f32),
            Self::I64 => each(bytes, |bytes| i64::from_le_bytes(bytes) as f32),
        }
    }
}

/// Bytes of a tensor, if they can be counted.
pub(super) fn size(shape: &[usize], number: Number) -> Option<u64> {
    let numbers = shape.iter().try_fold(1usize, |product, side| product.checked_mul(*side))?;
    numbers.checked_mul(number.size()).map(|bytes| bytes as u64)
}

/// The order of a tensor with these distances, in numbers, from one index to the next; `None` if it does not lie densely,
/// as a part of a larger one.
pub(super) fn order(shape: &[usize], strides: &[usize]) -> Option<Order> {
    let sides = || shape.iter().copied().zip(strides.iter().copied());
    if shape.len() != strides.len() {
        None
    } else if dense(sides().rev()) {
        Some(Order::Rows)
    } else if shape.len() == 2 && dense(sides()) {
        Some(Order::Columns)
    } else {
        None
    }
}

/// Whether each side, from the fastest, steps over those before it. A side of one never steps.
fn dense(mut sides: impl Iterator<Item = (usize, usize)>) -> bool {
    let mut expected = Some(1usize);
    sides.all(|(side, stride)| {
        let fits = side <= 1 || expected == Some(stride);
        expected = expected.and_then(|expected| expected.checked_mul(side));
        fits
    })
}

impl TensorFile {
    /// Names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    fn get(&self, name: &str) -> Result<&Stored> {
        self.tensors.get(name).ok_or_else(|| self.input.error(format!("tensor `{name}` is missing")))
    }

    pub(super) fn error(&self, why: impl Into<String>) -> Error {
        self.input.error(why)
    }

    /// The shape of a tensor.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn shape(&self, name: &str) -> Result<&[usize]> {
        Ok(&self.get(name)?.shape)
    }

    /// Checks that a tensor is there, of floats, in this shape.
    pub(super) fn expect(&self, name: &str, shape: &[usize]) -> Result<()> {
        let stored = self.get(name)?;
        if stored.shape != shape {
            return Err(self.error(format!("tensor `{name}` has shape {:?}, not {shape:?}", stored.shape)));
        }
        if !stored.number.is_float() {
            return Err(self.error(format!("tensor `{name}` holds whole numbers")));
        }
        Ok(())
    }

    /// Checks that there are no other tensors than these.
    pub(super) fn only(&self, expected: &[&str], what: &str) -> Result<()> {
        match self.names().find(|name| !expected.contains(name)) {
            None => Ok(()),
            Some(other) => Err(self.error(format!("tensor `{}` has no place in {what}", other.escape_debug()))),
        }
    }

    /// The bytes of a tensor.
    fn bytes(&self, stored: &Stored) -> Result<Vec<u8>> {
        let len = size(&stored.shape, stored.number).ok_or_else(|| self.error("holds more than fits into memory"))?;
        match &stored.place {
            Place::File(start) => self.input.bytes(*start, len),
            Place::Entry(entry, skip) => {
                let mut bytes = zip::read(&self.input, entry)?;
                let range = usize::try_from(*skip).ok().zip(usize::try_from(len).ok());
                let range = range.and_then(|(skip, len)| Some(skip..skip.checked_add(len)?));
                match range.filter(|range| range.end <= bytes.len()) {
                    Some(range) => {
                        bytes.truncate(range.end);
                        bytes.drain(..range.start);
                        Ok(bytes)
                    }
                    None => Err(self.error("an entry of the archive is shorter than its tensor")),
                }
            }
        }
    }

    /// A tensor in C order.
    ///
    /// # Errors
    /// If it cannot be read or holds a value that is not a finite f32.
    pub fn read(&self, name: &str) -> Result<Vec<f32>> {
        let stored = self.get(name)?;
        let numbers = self.finite(name, stored)?;
        Ok(match (stored.order, &stored.shape[..]) {
            (Order::Columns, &[rows, cols]) => transposed(&numbers, cols, rows),
            _ => numbers,
        })
    }

    /// A matrix `[rows, cols]` with rows and columns exchanged, in C order.
    pub(super) fn read_transposed(&self, name: &str) -> Result<Vec<f32>> {
        let stored = self.get(name)?;
        let numbers = self.finite(name, stored)?;
        Ok(match (stored.order, &stored.shape[..]) {
            (Order::Rows, &[rows, cols]) => transposed(&numbers, rows, cols),
            _ => numbers,
        })
    }

    /// A single number.
    pub(super) fn scalar(&self, name: &str) -> Result<f32> {
        let stored = self.get(name)?;
        match (&stored.shape[..], &self.finite(name, stored)?[..]) {
            ([] | [1], [number]) => Ok(*number),
            _ => Err(self.error(format!("tensor `{name}` has shape {:?}, not that of a number", stored.shape))),
        }
    }

    fn finite(&self, name: &str, stored: &Stored) -> Result<Vec<f32>> {
        let numbers = stored.number.decode(&self.bytes(stored)?);
        match numbers.iter().position(|number| !number.is_finite()) {
            None => Ok(numbers),
            Some(at) => Err(self.error(format!(
                "tensor `{name}` holds a value that is not a finite number ({}, the {}th of {})",
                numbers[at],
                at + 1,
                numbers.len()
            ))),
        }
    }
}

//! Number formats of vectors and tensors, and their conversion to and from `f32`.

use std::fmt;
use std::str::FromStr;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use serde::{Deserialize, Serialize};

use crate::Error;

/// The format of one stored number, always little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DType {
    /// IEEE 754 binary32.
    #[serde(rename = "float32")]
    F32,
    /// IEEE 754 binary16.
    #[serde(rename = "float16")]
    F16,
    /// bfloat16: the upper half of a binary32.
    #[serde(rename = "bfloat16")]
    BF16,
}

impl DType {
    /// Every format.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::BF16];

    /// Bytes of one number.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }

    /// The name in metadata; NumPy knows the first two, `ml_dtypes` the third.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
        }
    }
}

/// Numbers converted at a time, in a buffer on the stack.
const BLOCK: usize = 1024;

impl DType {
    /// Appends `values` in this format; the narrower two round to nearest, ties to even.
    pub fn encode(self, values: &[f32], out: &mut Vec<u8>) {
        match self {
            Self::F32 => out.extend_from_slice(bytemuck::cast_slice(values)),
            Self::F16 => {
                let mut block = [f16::ZERO; BLOCK];
                for values in values.chunks(BLOCK) {
                    let block = &mut block[..values.len()];
                    block.convert_from_f32_slice(values);
                    out.extend_from_slice(bytemuck::cast_slice(block));
                }
            }
            Self::BF16 => {
                let mut block = [bf16::ZERO; BLOCK];
                for values in values.chunks(BLOCK) {
                    let block = &mut block[..values.len()];
                    block.convert_from_f32_slice(values);
                    out.extend_from_slice(bytemuck::cast_slice(block));
                }
            }
        }
    }

    /// Converts `bytes` in this format to `f32`, exactly.
    ///
    /// # Errors
    /// If `bytes` is not as long as `out` needs.
    pub fn decode(self, bytes: &[u8], out: &mut [f32]) -> Result<(), Error> {
        if bytes.len() != out.len() * self.size() {
            return Err(Error::Invalid(format!("{} bytes do not hold {} numbers of {self}", bytes.len(), out.len())));
        }
        match self {
            Self::F32 => bytemuck::cast_slice_mut(out).copy_from_slice(bytes),
            Self::F16 => {
                let mut block = [f16::ZERO; BLOCK];
                for (bytes, out) in bytes.chunks(2 * BLOCK).zip(out.chunks_mut(BLOCK)) {
                    let block = &mut block[..out.len()];
                    bytemuck::cast_slice_mut(block).copy_from_slice(bytes);
                    block.convert_to_f32_slice(out);
                }
            }
            Self::BF16 => {
                for (out, bytes) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                    *out = f32::from_bits(u32::from(u16::from_le_bytes([bytes[0], bytes[1]])) << 16);
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for DType {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|dtype| dtype.name() == text)
            .ok_or_else(|| Error::DType(text.chars().take(80).collect()))
    }
}

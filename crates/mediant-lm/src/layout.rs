//! Between the tensors of a checkpoint and the parameters of the forward pass: formats, transposition, packing.

use mediant_artifact::DType;

use crate::{Piece, Result};

/// Rows that are transposed together, so that reads and writes both stay in the cache.
const TILE: usize = 16;

/// Writes a checkpoint tensor into its columns of a parameter `[rows, width]`, which begin at `column`; a vector is one
/// row. `bytes` hold as many numbers as `piece.shape` says.
pub(crate) fn place(
    piece: &Piece,
    dtype: DType,
    bytes: &[u8],
    parameter: &mut [f32],
    width: usize,
    column: usize,
) -> Result<()> {
    if !piece.transposed {
        let columns = piece.width();
        for (row, from) in parameter.chunks_exact_mut(width).zip(bytes.chunks_exact(columns * dtype.size())) {
            dtype.decode(from, &mut row[column..column + columns])?;
        }
        return Ok(());
    }
    let inputs = piece.shape[1];
    let mut tile = vec![0.0; TILE * inputs];
    for (index, from) in bytes.chunks(TILE * inputs * dtype.size()).enumerate() {
        let outputs = from.len() / (inputs * dtype.size());
        dtype.decode(from, &mut tile[..outputs * inputs])?;
        let first = column + index * TILE;
        for (input, row) in parameter.chunks_exact_mut(width).enumerate() {
            for (output, to) in row[first..first + outputs].iter_mut().enumerate() {
                *to = tile[output * inputs + input];
            }
        }
    }
    Ok(())
}

/// The inverse of [`place`]: the numbers of a checkpoint tensor, from the columns of a parameter.
pub(crate) fn cut(piece: &Piece, parameter: &[f32], width: usize, column: usize) -> Vec<f32> {
    let columns = piece.width();
    if !piece.transposed {
        let rows = parameter.chunks_exact(width);
        return rows.flat_map(|row| &row[column..column + columns]).copied().collect();
    }
    let inputs = piece.shape[1];
    let mut tensor = vec![0.0; columns * inputs];
    for (index, tile) in tensor.chunks_mut(TILE * inputs).enumerate() {
        let outputs = tile.len() / inputs;
        let first = column + index * TILE;
        for (input, row) in parameter.chunks_exact(width).enumerate() {
            for (output, from) in row[first..first + outputs].iter().enumerate() {
                tile[output * inputs + input] = *from;
            }
        }
    }
    tensor
}

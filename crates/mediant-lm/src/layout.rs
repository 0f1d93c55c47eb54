//! Between the tensors of a checkpoint and the parameters of the forward pass: formats, transposition, packing.

use std::ops::Range;

use mediant_artifact::DType;

use crate::{Piece, Result};

/// Rows that are transposed together, so that reads and writes both stay in the cache.
const TILE: usize = 16;

/// Where neighbouring outputs of a checkpoint tensor stand among the columns of its parameter: the outputs, and the column
/// of the first of them.
fn runs(piece: &Piece, column: usize) -> Vec<(Range<usize>, usize)> {
    let width = piece.width();
    let Some(heads) = piece.heads else { return vec![(0..width, column)] };
    let d_head = width / (3 * heads);
    let place = |head, part| {
        let from = (3 * head + part) * d_head;
        (from..from + d_head, column + (part * heads + head) * d_head)
    };
    (0..heads).flat_map(|head| (0..3).map(move |part| place(head, part))).collect()
}

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
    for (outputs, column) in runs(piece, column) {
        if piece.transposed {
            place_transposed(piece.inputs(), dtype, bytes, outputs, parameter, width, column)?;
        } else {
            let (size, columns) = (dtype.size(), outputs.len());
            for (row, from) in parameter.chunks_exact_mut(width).zip(bytes.chunks_exact(piece.width() * size)) {
                dtype.decode(&from[outputs.start * size..outputs.end * size], &mut row[column..column + columns])?;
            }
        }
    }
    if piece.less_one {
        let columns = column..column + piece.width();
        parameter.chunks_exact_mut(width).flat_map(|row| &mut row[columns.clone()]).for_each(|x| *x += 1.0);
    }
    Ok(())
}

/// The rows `outputs` of a checkpoint tensor `[outputs, inputs]` as columns.
fn place_transposed(
    inputs: usize,
    dtype: DType,
    bytes: &[u8],
    outputs: Range<usize>,
    parameter: &mut [f32],
    width: usize,
    column: usize,
) -> Result<()> {
    let row_bytes = inputs * dtype.size();
    let bytes = &bytes[outputs.start * row_bytes..outputs.end * row_bytes];
    let mut tile = vec![0.0; TILE * inputs];
    for (index, from) in bytes.chunks(TILE * row_bytes).enumerate() {
        let outputs = from.len() / row_bytes;
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
    let less = if piece.less_one { 1.0 } else { 0.0 };
    let mut tensor = vec![0.0; piece.shape.iter().product()];
    for (outputs, column) in runs(piece, column) {
        if piece.transposed {
            let inputs = piece.inputs();
            let rows = &mut tensor[outputs.start * inputs..outputs.end * inputs];
            for (index, tile) in rows.chunks_mut(TILE * inputs).enumerate() {
                let outputs = tile.len() / inputs;
                let first = column + index * TILE;
                for (input, row) in parameter.chunks_exact(width).enumerate() {
                    for (output, from) in row[first..first + outputs].iter().enumerate() {
                        tile[output * inputs + input] = from - less;
                    }
                }
            }
        } else {
            for (row, to) in parameter.chunks_exact(width).zip(tensor.chunks_exact_mut(columns)) {
                for (to, from) in to[outputs.clone()].iter_mut().zip(&row[column..]) {
                    *to = from - less;
                }
            }
        }
    }
    tensor
}

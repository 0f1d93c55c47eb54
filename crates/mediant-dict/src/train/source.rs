//! Where activations come from.

use arrow::array::{Array, AsArray};
use arrow::datatypes::UInt32Type;
use mediant_artifact::{Artifact, Vectors};
use rayon::prelude::*;

use crate::{Error, Result};

/// Activation vectors of some hook points, numbered from 0 in (example, position) order.
pub trait Activations: Sync {
    /// Numbers in a vector of each hook point.
    fn widths(&self) -> &[usize];

    /// Rows of example i are `offsets()[i]..offsets()[i + 1]`.
    fn offsets(&self) -> &[u64];

    /// Makes ready a block of the data order: until this is called again only these rows are asked for.
    ///
    /// # Errors
    /// When the data cannot be had.
    fn prepare(&self, block: &[u64]) -> Result<()> {
        let _ = block;
        Ok(())
    }

    /// Reads rows of a hook point, by its place, into `out`, `[rows.len(), width]`.
    ///
    /// # Errors
    /// When the data cannot be had.
    fn fill(&self, hook: usize, rows: &[u64], out: &mut [f32]) -> Result<()>;
}

/// The vectors of hook points of an activations artifact, read from the mapped file: data of any size in constant memory.
pub struct Cached {
    vectors: Vec<Vectors>,
    widths: Vec<usize>,
    offsets: Vec<u64>,
}

impl Cached {
    /// Opens the vectors of the hook points.
    ///
    /// # Errors
    /// When the artifact does not hold a hook, has no rows, or its index does not rise.
    pub fn open(artifact: &Artifact, hooks: &[&str]) -> Result<Self> {
        let offsets = example_offsets(artifact)?;
        let rows = offsets.last().copied().unwrap_or(0);
        let mut vectors = Vec::new();
        for hook in hooks {
            let of_hook = artifact.vectors(hook)?;
            if rows != of_hook.rows() {
                return Err(Error::Data(format!("the index has {rows} rows, hook {hook} has {}", of_hook.rows())));
            }
            if rows == 0 {
                return Err(Error::Data(format!("there are no activations of {hook} to train on")));
            }
            vectors.push(of_hook);
        }
        let widths = vectors.iter().map(Vectors::width).collect();
        Ok(Self { vectors, widths, offsets })
    }
}

impl Activations for Cached {
    fn widths(&self) -> &[usize] {
        &self.widths
    }

    fn offsets(&self) -> &[u64] {
        &self.offsets
    }

    fn fill(&self, hook: usize, rows: &[u64], out: &mut [f32]) -> Result<()> {
        const ROWS: usize = 128;
        let pieces = rows.par_chunks(ROWS).zip(out.par_chunks_mut(ROWS * self.widths[hook]));
        Ok(pieces.try_for_each(|(rows, out)| self.vectors[hook].gather_f32(rows, out))?)
    }
}

/// Where each example of an activations artifact starts, from the rising `example` column of its index; ends with the
/// number of rows.
fn example_offsets(artifact: &Artifact) -> Result<Vec<u64>> {
    let mut offsets = vec![];
    let mut rows = 0u64;
    let mut last = None;
    for batch in artifact.columns("index", &["example"])? {
        let batch = batch?;
        let column = batch.column_by_name("example").and_then(|column| column.as_primitive_opt::<UInt32Type>());
        let Some(examples) = column.filter(|column| column.null_count() == 0) else {
            return Err(Error::Data(
                "the index of the activations has no column `example` of whole numbers".to_owned(),
            ));
        };
        for &example in examples.values() {
            if last.is_some_and(|last| example < last) {
                return Err(Error::Data(format!("the index of the activations is out of order at row {rows}")));
            }
            if last != Some(example) {
                offsets.push(rows);
                last = Some(example);
            }
            rows += 1;
        }
    }
    offsets.push(rows);
    Ok(offsets)
}

/// Activations of one hook point in memory.
#[derive(Clone, Debug)]
pub struct InMemory {
    /// `[rows, width]`.
    pub data: Vec<f32>,
    /// Numbers in a vector.
    pub width: usize,
    /// Where examples start, and the number of rows.
    pub offsets: Vec<u64>,
}

impl Activations for InMemory {
    fn widths(&self) -> &[usize] {
        std::slice::from_ref(&self.width)
    }

    fn offsets(&self) -> &[u64] {
        &self.offsets
    }

    fn fill(&self, _: usize, rows: &[u64], out: &mut [f32]) -> Result<()> {
        for (&row, out) in rows.iter().zip(out.chunks_exact_mut(self.width)) {
            out.copy_from_slice(&self.data[row as usize * self.width..][..self.width]);
        }
        Ok(())
    }
}

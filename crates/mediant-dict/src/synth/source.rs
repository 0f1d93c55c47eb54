//! Training vectors drawn when a training wants them, instead of being read from a cache.

use std::sync::{PoisonError, RwLock};

use super::{Set, Synthetic};
use crate::train::Activations;
use crate::{Error, Result};

/// Neighbouring rows that count as one example, so that cached and drawn vectors have one order.
pub const EXAMPLE_ROWS: u64 = 256;

/// Rows drawn between two questions whether to go on.
const PIECE: usize = 8192;

/// Called between two pieces of work; an error ends it.
type Between<'s> = dyn Fn() -> Result<()> + Sync + 's;

/// The training vectors of a generator: those that `synth_sae_bench` would write, in the same order. One block of the data order is
/// in memory at a time.
pub struct Generated<'s> {
    generator: &'s Synthetic,
    width: [usize; 1],
    offsets: Vec<u64>,
    between: Box<Between<'s>>,
    held: RwLock<Held>,
}

/// A block of rows.
#[derive(Default)]
struct Held {
    /// As it was asked for.
    block: Vec<u64>,
    /// Rising.
    rows: Vec<u64>,
    /// `[rows, width]`.
    vectors: Vec<f32>,
}

/// Where examples start among so many rows; ends with their number.
pub fn example_offsets(rows: u64) -> Vec<u64> {
    (0..rows.div_ceil(EXAMPLE_ROWS)).map(|example| example * EXAMPLE_ROWS).chain([rows]).collect()
}

impl<'s> Generated<'s> {
    /// Nothing is drawn yet. `between` is called between two pieces of work.
    pub fn new(generator: &'s Synthetic, between: impl Fn() -> Result<()> + Sync + 's) -> Self {
        Self {
            width: [generator.config().hidden_dim],
            offsets: example_offsets(generator.config().rows),
            generator,
            between: Box::new(between),
            held: RwLock::default(),
        }
    }

    fn draw(&self, block: &[u64]) -> Result<Held> {
        let mut rows = block.to_vec();
        rows.sort_unstable();
        let mut vectors = Vec::with_capacity(rows.len() * self.width[0]);
        for piece in rows.chunks(PIECE) {
            (self.between)()?;
            vectors.extend(self.generator.vectors(&self.generator.firing().sample(Set::Training, piece)));
        }
        Ok(Held { block: block.to_vec(), rows, vectors })
    }
}

impl Activations for Generated<'_> {
    fn widths(&self) -> &[usize] {
        &self.width
    }

    fn offsets(&self) -> &[u64] {
        &self.offsets
    }

    fn prepare(&self, block: &[u64]) -> Result<()> {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        if held.block != block {
            // The old block goes first, so that there is never more than one.
            *held = Held::default();
            *held = self.draw(block)?;
        }
        Ok(())
    }

    fn fill(&self, _: usize, rows: &[u64], out: &mut [f32]) -> Result<()> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let width = self.width[0];
        for (row, out) in rows.iter().zip(out.chunks_exact_mut(width)) {
            let at = held.rows.binary_search(row).map_err(|_| Error::Data(format!("row {row} is not in the block")))?;
            out.copy_from_slice(&held.vectors[at * width..][..width]);
        }
        Ok(())
    }
}

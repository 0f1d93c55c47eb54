//! Batches in the order of the data.

use std::sync::Arc;

use super::order::Order;
use super::source::Activations;
use crate::{Result, Training};

/// Gives batches of a source, the same to every training with this seed, block and size of batch.
pub struct Feed<'s> {
    source: &'s dyn Activations,
    size: usize,
    block: u64,
    seed: u64,
    order: Order,
    /// The step whose batch comes next.
    step: u64,
    /// Whether the block under way has been made ready.
    prepared: bool,
    batch: Batch,
}

/// Rows of every hook point of a source.
pub struct Batch {
    offsets: Arc<[u64]>,
    rows: Vec<u64>,
    /// By hook point `[rows, width]`.
    vectors: Vec<Vec<f32>>,
}

impl Batch {
    /// The vectors of a hook point, by its place in the source.
    pub fn vectors(&self, hook: usize) -> &[f32] {
        &self.vectors[hook]
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// In how many examples the rows lie: how well the batch is mixed.
    pub fn examples(&self) -> usize {
        let mut examples: Vec<usize> =
            self.rows.iter().map(|row| self.offsets.partition_point(|start| start <= row)).collect();
        examples.sort_unstable();
        examples.dedup();
        examples.len()
    }
}

impl<'s> Feed<'s> {
    /// For this training and those with the same batches.
    pub fn new(source: &'s dyn Activations, training: &Training) -> Self {
        let (size, block, seed, offsets) = (training.batch, training.block, training.seed, source.offsets());
        Self {
            order: Order::new(offsets, block, seed, 0),
            size,
            block,
            seed,
            step: 0,
            prepared: false,
            batch: Batch {
                offsets: offsets.into(),
                rows: Vec::with_capacity(size),
                vectors: source.widths().iter().map(|width| Vec::with_capacity(size * width)).collect(),
            },
            source,
        }
    }

    /// Rows of one epoch.
    pub fn rows_in_epoch(&self) -> u64 {
        self.order.rows_in_epoch()
    }

    /// The batch of a step. Steps one after another are cheap.
    ///
    /// # Errors
    /// When the source cannot give it.
    pub fn batch(&mut self, step: u64) -> Result<&Batch> {
        if step != self.step {
            self.order = Order::new(self.source.offsets(), self.block, self.seed, step * self.size as u64);
            self.prepared = false;
        }
        self.step = step + 1;
        self.take(self.size)
    }

    /// The next rows, a batch of another size.
    ///
    /// # Errors
    /// When the source cannot give them.
    pub(super) fn take(&mut self, rows: usize) -> Result<&Batch> {
        let Batch { rows: taken, vectors, .. } = &mut self.batch;
        taken.clear();
        for (values, width) in vectors.iter_mut().zip(self.source.widths()) {
            values.resize(rows * width, 0.0);
        }
        while taken.len() < rows {
            if self.order.is_between_blocks() || !self.prepared {
                self.source.prepare(self.order.block())?;
                self.prepared = true;
            }
            let from = taken.len();
            let piece = self.order.next(rows - from);
            taken.extend_from_slice(piece);
            for (hook, (values, width)) in vectors.iter_mut().zip(self.source.widths()).enumerate() {
                self.source.fill(hook, piece, &mut values[from * width..taken.len() * width])?;
            }
        }
        Ok(&self.batch)
    }
}

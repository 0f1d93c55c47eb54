//! Activations computed when a training wants them, instead of being read from a cache.

use std::sync::{PoisonError, RwLock};

use mediant_artifact::Tokens;
use mediant_dict::train::Activations;
use mediant_lm::{Capture, HookPoint, Model, Positions};
use mediant_tensor::Compute;

/// Tokens of a forward pass. Larger ones are no faster and hold more.
const TOKENS: usize = 2048;

/// Called between two forward passes; an error ends the work.
type Between<'s> = dyn Fn() -> mediant_dict::Result<()> + Sync + 's;

/// The activations of a model at some hook points: those that `cache_activations` would keep in f32, in the same order. One block of
/// the data order is in memory at a time, and every sequence is run once for all hook points.
pub struct Streamed<'s, C: Compute> {
    model: Model<C>,
    tokens: Tokens,
    capture: Capture,
    widths: Vec<usize>,
    offsets: Vec<u64>,
    between: Box<Between<'s>>,
    held: RwLock<Held>,
}

/// A block of rows.
#[derive(Default)]
struct Held {
    /// As it was asked for.
    block: Vec<u64>,
    /// First row and number of rows of what is held one after the other, by rising row.
    ranges: Vec<Range>,
    /// By hook point `[rows, width]`.
    vectors: Vec<Vec<f32>>,
}

/// Rows of one example.
#[derive(Clone, Copy)]
struct Range {
    example: usize,
    start: u64,
    end: u64,
    /// Where its vectors begin, in rows.
    at: usize,
}

impl<'s, C: Compute> Streamed<'s, C> {
    /// Nothing is computed yet. `between` is called between two forward passes.
    pub fn new(
        model: Model<C>,
        tokens: Tokens,
        hooks: Vec<HookPoint>,
        between: impl Fn() -> mediant_dict::Result<()> + Sync + 's,
    ) -> Self {
        let capture = Capture { hooks, positions: Positions::All };
        let context = tokens.meta.context;
        let width = |hook: &HookPoint| hook.shape(model.config(), context).iter().product();
        let mut offsets = vec![0];
        offsets.extend((0..tokens.len()).scan(0, |rows, i| {
            *rows += capture.kept(&tokens, i).count() as u64;
            Some(*rows)
        }));
        Self {
            widths: capture.hooks.iter().map(width).collect(),
            model,
            tokens,
            capture,
            offsets,
            between: Box::new(between),
            held: RwLock::default(),
        }
    }

    fn compute(&self, block: &[u64]) -> mediant_dict::Result<Held> {
        let ranges = self.ranges(block);
        let mut vectors: Vec<Vec<f32>> =
            self.widths.iter().map(|width| Vec::with_capacity(block.len() * width)).collect();
        let mut rest = &ranges[..];
        while !rest.is_empty() {
            (self.between)()?;
            let mut tokens = 0;
            let fits = |range: &&Range| {
                tokens += self.tokens.sequence(range.example).len();
                tokens <= TOKENS
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (now, later) = rest.split_at(count);
            let examples: Vec<usize> = now.iter().map(|range| range.example).collect();
            let computed = self.capture.vectors(&self.model, &self.tokens, &examples, self.tokens.meta.context);
            let computed = computed.map_err(|error| mediant_dict::Error::Data(error.to_string()))?;
            for ((all, computed), width) in vectors.iter_mut().zip(computed).zip(&self.widths) {
                let mut first = 0;
                for range in now {
                    let (start, end) = (self.offsets[range.example], self.offsets[range.example + 1]);
                    let rows = first + (range.start - start) as usize..first + (range.end - start) as usize;
                    all.extend_from_slice(&computed[rows.start * width..rows.end * width]);
                    first += (end - start) as usize;
                }
            }
            rest = later;
        }
        Ok(Held { block: block.to_vec(), ranges, vectors })
    }

    /// What each example has of a block, whose rows of one example are neighbours.
    fn ranges(&self, block: &[u64]) -> Vec<Range> {
        let mut sorted = block.to_vec();
        sorted.sort_unstable();
        let mut ranges: Vec<Range> = Vec::new();
        for (at, &row) in sorted.iter().enumerate() {
            match ranges.last_mut() {
                Some(last) if row < self.offsets[last.example + 1] => last.end = row + 1,
                _ => {
                    let example = self.offsets.partition_point(|start| *start <= row) - 1;
                    ranges.push(Range { example, start: row, end: row + 1, at });
                }
            }
        }
        ranges
    }
}

impl<C: Compute> Activations for Streamed<'_, C> {
    fn widths(&self) -> &[usize] {
        &self.widths
    }

    fn offsets(&self) -> &[u64] {
        &self.offsets
    }

    fn prepare(&self, block: &[u64]) -> mediant_dict::Result<()> {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        if held.block != block {
            // The old block goes first, so that there is never more than one.
            *held = Held::default();
            *held = self.compute(block)?;
        }
        Ok(())
    }

    fn fill(&self, hook: usize, rows: &[u64], out: &mut [f32]) -> mediant_dict::Result<()> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let width = self.widths[hook];
        for (&row, out) in rows.iter().zip(out.chunks_exact_mut(width)) {
            let range = held.ranges.partition_point(|range| range.start <= row).checked_sub(1);
            let range = range.map(|index| held.ranges[index]).filter(|range| row < range.end);
            let range = range.ok_or_else(|| mediant_dict::Error::Data(format!("row {row} is not in the block")))?;
            let at = range.at + (row - range.start) as usize;
            out.copy_from_slice(&held.vectors[hook][at * width..][..width]);
        }
        Ok(())
    }
}

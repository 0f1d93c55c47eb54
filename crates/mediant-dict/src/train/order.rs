//! The order in which a training sees its data.
//!
//! In every epoch the examples (sequences) come in a random order, their rows fill a block of B rows, and the rows of a
//! block are shuffled; batches are cut from blocks one after another. The order depends on the seed, the numbers of rows
//! of the examples and B alone, so activations read from a cache and activations computed on the way (example after
//! example) give the same batches.

use mediant_tensor::random;

/// Row numbers in training order, without end: epoch follows epoch.
#[derive(Clone, Debug)]
pub(super) struct Order {
    /// Rows of example i are `offsets[i]..offsets[i + 1]`.
    offsets: Vec<u64>,
    block: u64,
    seed: u64,
    epoch: Epoch,
    rows: Vec<u64>,
    at: usize,
}

/// A place among the examples of one epoch.
#[derive(Clone, Debug, Default)]
struct Epoch {
    number: u64,
    examples: Vec<usize>,
    /// The next example to take rows from, and how many of its rows are taken.
    next: usize,
    taken: u64,
    /// Blocks filled so far.
    blocks: u64,
}

impl Order {
    /// The order that comes after `consumed` rows have been given out.
    ///
    /// `offsets` rises from 0; there is at least one row.
    pub(super) fn new(offsets: &[u64], block: u64, seed: u64, consumed: u64) -> Self {
        let mut order =
            Self { offsets: offsets.to_vec(), block, seed, epoch: Epoch::default(), rows: Vec::new(), at: 0 };
        let within = consumed % order.rows_in_epoch();
        order.start_epoch(consumed / order.rows_in_epoch());
        order.skip_blocks(within / block);
        order.fill_block();
        order.at = (within % block) as usize;
        order
    }

    /// Rows of one epoch.
    pub(super) fn rows_in_epoch(&self) -> u64 {
        self.offsets.last().copied().unwrap_or(0)
    }

    /// The block that the next rows come from.
    pub(super) fn block(&mut self) -> &[u64] {
        if self.is_between_blocks() {
            self.fill_block();
        }
        &self.rows
    }

    /// The next rows, at most so many, of one block.
    pub(super) fn next(&mut self, wanted: usize) -> &[u64] {
        let left = self.block().len() - self.at;
        let count = wanted.min(left);
        self.at += count;
        &self.rows[self.at - count..self.at]
    }

    /// Whether the next rows come from a block that has not been looked at.
    pub(super) fn is_between_blocks(&self) -> bool {
        self.at == self.rows.len()
    }

    fn start_epoch(&mut self, number: u64) {
        let mut rng = random::stream(self.seed, &format!("order, epoch {number}"));
        let examples = random::permutation(&mut rng, self.offsets.len() - 1);
        self.epoch = Epoch { number, examples, ..Epoch::default() };
        self.advance(0);
    }

    fn skip_blocks(&mut self, blocks: u64) {
        self.epoch.blocks = blocks;
        let mut rows = blocks * self.block;
        while rows > 0 {
            let step = rows.min(self.length_left());
            self.advance(step);
            rows -= step;
        }
    }

    fn fill_block(&mut self) {
        if self.epoch.next == self.epoch.examples.len() {
            self.start_epoch(self.epoch.number + 1);
        }
        self.rows.clear();
        self.at = 0;
        // The last block of an epoch is what is left of it: no row comes twice in an epoch.
        while (self.rows.len() as u64) < self.block && self.epoch.next < self.epoch.examples.len() {
            let count = self.length_left().min(self.block - self.rows.len() as u64);
            let start = self.offsets[self.epoch.examples[self.epoch.next]] + self.epoch.taken;
            self.rows.extend(start..start + count);
            self.advance(count);
        }
        let purpose = format!("order, epoch {}, block {}", self.epoch.number, self.epoch.blocks);
        random::shuffle(&mut random::stream(self.seed, &purpose), &mut self.rows);
        self.epoch.blocks += 1;
    }

    /// Rows of the next example that are not taken yet.
    fn length_left(&self) -> u64 {
        let example = self.epoch.examples[self.epoch.next];
        self.offsets[example + 1] - self.offsets[example] - self.epoch.taken
    }

    fn advance(&mut self, rows: u64) {
        self.epoch.taken += rows;
        // An example without rows is passed over here, too.
        while self.epoch.next < self.epoch.examples.len() && self.length_left() == 0 {
            self.epoch.next += 1;
            self.epoch.taken = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Order;
    use proptest::prelude::*;

    fn batches(order: &mut Order, size: usize, count: usize) -> Vec<u64> {
        let mut rows = Vec::new();
        for _ in 0..count {
            let end = rows.len() + size;
            while rows.len() < end {
                let left = end - rows.len();
                rows.extend_from_slice(order.next(left));
            }
        }
        rows
    }

    fn offsets(lengths: &[u64]) -> Vec<u64> {
        let mut offsets = vec![0];
        offsets.extend(lengths.iter().scan(0, |sum, length| {
            *sum += length;
            Some(*sum)
        }));
        offsets
    }

    proptest! {
        #[test]
        fn every_epoch_holds_every_row_once_and_resuming_changes_nothing(
            lengths in prop::collection::vec(0u64..9, 1..40),
            block in 1u64..60,
            size in 1usize..20,
            skipped in 0usize..30,
        ) {
            let offsets = offsets(&lengths);
            let total = *offsets.last().unwrap_or(&0) as usize;
            prop_assume!(total > 0);
            let rows = batches(&mut Order::new(&offsets, block, 5, 0), size, 40);
            for epoch in rows.chunks_exact(total) {
                let mut epoch = epoch.to_vec();
                epoch.sort_unstable();
                prop_assert!(epoch.into_iter().eq(0..total as u64));
            }
            let mut resumed = Order::new(&offsets, block, 5, (skipped * size) as u64);
            prop_assert_eq!(batches(&mut resumed, size, 40 - skipped), &rows[skipped * size..]);
        }
    }

    #[test]
    fn a_block_holds_whole_examples_in_the_order_of_a_stream() {
        // Blocks of 40 rows of examples of 10: a streamed source needs only four examples at a time.
        let offsets: Vec<u64> = (0..=100).map(|i| i * 10).collect();
        let mut order = Order::new(&offsets, 40, 0, 0);
        let mut seen = std::collections::BTreeSet::new();
        for block in batches(&mut order, 40, 25).chunks(40) {
            let examples: std::collections::BTreeSet<u64> = block.iter().map(|row| row / 10).collect();
            assert_eq!(examples.len(), 4);
            seen.extend(examples);
        }
        assert_eq!(seen.len(), 100);
    }

    #[test]
    fn seeds_differ_and_the_epochs_of_one_seed_too() {
        let offsets: Vec<u64> = (0..=50).map(|i| i * 4).collect();
        let run = |seed| batches(&mut Order::new(&offsets, 64, seed, 0), 200, 2);
        let (a, b) = (run(0), run(1));
        assert_ne!(a, b);
        assert_ne!(a[..200], a[200..]);
        assert_eq!(a, run(0));
    }
}

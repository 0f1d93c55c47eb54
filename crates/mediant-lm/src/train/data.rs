//! Which sequences a step sees.

use mediant_artifact::Tokens;
use mediant_tensor::random::{permutation, stream};
use mediant_tensor::{Compute, Int, Tensor, TensorData};

use crate::{Batch, LmConfig, Result};

/// Passes over the data, each in a random order of its own; a batch may begin in one pass and end in the next.
pub(super) struct Order {
    seed: u64,
    sequences: u64,
    pass: Option<(u64, Vec<usize>)>,
}

impl Order {
    pub(super) fn new(seed: u64, sequences: usize) -> Self {
        Self { seed, sequences: sequences as u64, pass: None }
    }

    /// The sequence at a place in the endless row of passes.
    pub(super) fn at(&mut self, place: u64) -> usize {
        let (pass, within) = (place / self.sequences, (place % self.sequences) as usize);
        let order = match self.pass.take() {
            Some((number, order)) if number == pass => order,
            _ => permutation(&mut stream(self.seed, &format!("order/{pass}")), self.sequences as usize),
        };
        let sequence = order[within];
        self.pass = Some((pass, order));
        sequence
    }
}

/// The sequences of one forward pass, and what each of their rows is to predict.
pub(super) struct Examples<'t> {
    sequences: Vec<(&'t [i32], &'t [bool])>,
    /// The tokens that begin a text or stand between two.
    special: [Option<i32>; 2],
}

impl<'t> Examples<'t> {
    /// Sequences of one length stand together, so that attention takes them together.
    pub(super) fn new(tokens: &'t Tokens, mut indices: Vec<usize>) -> Self {
        indices.sort_by_key(|&i| tokens.sequence(i).len());
        let special = [tokens.meta.bos, tokens.meta.separator].map(|id| id.and_then(|id| i32::try_from(id).ok()));
        Self { sequences: indices.into_iter().map(|i| (tokens.sequence(i), tokens.mask_of(i))).collect(), special }
    }

    pub(super) fn tokens(&self) -> u64 {
        self.sequences.iter().map(|(ids, _)| ids.len() as u64).sum()
    }

    /// Tokens that are predicted: not the first of a sequence, and not masked.
    pub(super) fn predicted(&self) -> u64 {
        let masks = self.sequences.iter().flat_map(|(_, mask)| &mask[1..]);
        masks.filter(|&&counts| counts).count() as u64
    }

    /// For each row, whether it is the first of its sequence.
    pub(super) fn first(&self) -> impl Iterator<Item = bool> {
        self.sequences.iter().flat_map(|(ids, _)| (0..ids.len()).map(|position| position == 0))
    }

    /// For each row, whether it is neither the first of its sequence nor a special token.
    pub(super) fn ordinary(&self) -> impl Iterator<Item = bool> {
        let special = |id: &i32| self.special.contains(&Some(*id));
        let ids = self.sequences.iter().flat_map(|(ids, _)| *ids);
        ids.zip(self.first()).map(move |(id, first)| !first && !special(id))
    }

    pub(super) fn batch<C: Compute>(&self, config: &LmConfig, device: &C::Device) -> Result<Batch<C>> {
        let ids: Vec<&[i32]> = self.sequences.iter().map(|(ids, _)| *ids).collect();
        Batch::new(config, &ids, device)
    }

    /// The token that each row predicts, and its weight in the loss: `weight`, or 0 where nothing is predicted.
    pub(super) fn targets<C: Compute>(&self, weight: f32, device: &C::Device) -> (Tensor<C, 1, Int>, Tensor<C, 1>) {
        let (mut targets, mut weights) = (Vec::new(), Vec::new());
        for (ids, mask) in &self.sequences {
            targets.extend_from_slice(&ids[1..]);
            targets.push(0);
            weights.extend(mask[1..].iter().map(|&counts| if counts { weight } else { 0.0 }));
            weights.push(0.0);
        }
        let rows = targets.len();
        let targets = TensorData::new::<i32, _>(targets, [rows]);
        (Tensor::from_data(targets, device), Tensor::from_data(TensorData::new(weights, [rows]), device))
    }
}

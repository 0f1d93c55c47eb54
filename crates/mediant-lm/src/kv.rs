//! Keys and values of tokens that have been through the model.

use mediant_tensor::{Compute, Tensor};

/// Keys and values, `[1, tokens, kv_heads, d_head]` each.
type Pair<C> = (Tensor<C, 4>, Tensor<C, 4>);

/// Keys (rotated) and values of earlier tokens, so that later ones need not compute them again.
#[derive(Clone, Debug)]
pub struct KvCache<C: Compute> {
    /// By layer, then by sequence of the batch.
    layers: Vec<Vec<Option<Pair<C>>>>,
}

impl<C: Compute> KvCache<C> {
    /// An empty cache for a batch of `sequences`.
    pub(crate) fn new(layers: usize, sequences: usize) -> Self {
        Self { layers: vec![vec![None; sequences]; layers] }
    }

    /// Adds what came for a sequence, and gives everything there is.
    pub(crate) fn extend(
        &mut self,
        layer: usize,
        sequence: usize,
        k: Tensor<C, 4>,
        v: Tensor<C, 4>,
    ) -> (Tensor<C, 4>, Tensor<C, 4>) {
        let place = &mut self.layers[layer][sequence];
        let (k, v) = match place.take() {
            None => (k, v),
            Some((old_k, old_v)) => (Tensor::cat(vec![old_k, k], 1), Tensor::cat(vec![old_v, v], 1)),
        };
        *place = Some((k.clone(), v.clone()));
        (k, v)
    }

    /// Forgets all sequences but these.
    pub(crate) fn keep(&mut self, sequences: &[usize]) {
        for layer in &mut self.layers {
            *layer = sequences.iter().map(|&index| layer[index].clone()).collect();
        }
    }
}

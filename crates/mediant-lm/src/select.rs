//! Which numbers of an activation are meant.

use mediant_tensor::burn::tensor::Bool;
use mediant_tensor::{Compute, Tensor, TensorData};

use crate::{Batch, Error, HookPoint, Positions, Result};

/// A choice of positions, and of heads or of numbers at each of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Select {
    /// Which positions.
    pub positions: Positions,
    /// Which heads; all if none are listed.
    pub heads: Option<Vec<usize>>,
    /// Which numbers along the width (neurons, latents, dimensions); all if none are listed.
    pub numbers: Option<Vec<usize>>,
}

impl Select {
    /// Everything at these positions.
    pub fn at(positions: Positions) -> Self {
        Self { positions, ..Self::default() }
    }

    /// One head at every position.
    pub fn head(head: usize) -> Self {
        Self { heads: Some(vec![head]), ..Self::default() }
    }

    /// `changed` where this selects, `original` elsewhere; both `[rows, units, width]`.
    ///
    /// # Errors
    /// [`Error::Hook`] for a head or a number that the activation does not have, and for a span that the batch does not have.
    pub fn replace<C: Compute>(
        &self,
        point: HookPoint,
        original: Tensor<C, 3>,
        changed: Tensor<C, 3>,
        batch: &Batch<C>,
    ) -> Result<Tensor<C, 3>> {
        let [rows, units, width] = original.dims();
        let mut mask: Option<Tensor<C, 3, Bool>> = None;
        let mut limit = |part: Vec<bool>, shape: [usize; 3]| {
            let part = Tensor::<C, 3, Bool>::from_data(TensorData::new(part, shape), &original.device());
            let part = part.expand([rows, units, width]);
            mask = Some(match mask.take() {
                Some(mask) => mask.bool_and(part),
                None => part,
            });
        };
        if self.positions != Positions::All {
            limit(self.positions.rows(batch)?, [rows, 1, 1]);
        }
        if let Some(heads) = &self.heads {
            limit(listed(point, "head", heads, units)?, [1, units, 1]);
        }
        if let Some(numbers) = &self.numbers {
            limit(listed(point, "number", numbers, width)?, [1, 1, width]);
        }
        Ok(match mask {
            Some(mask) => original.mask_where(mask, changed),
            None => changed,
        })
    }
}

/// Whether each of `count` is in the list.
fn listed(point: HookPoint, what: &str, list: &[usize], count: usize) -> Result<Vec<bool>> {
    if let Some(beyond) = list.iter().find(|&&index| index >= count) {
        return Err(Error::Hook(format!("`{point}` has no {what} {beyond}; it has {count}")));
    }
    Ok((0..count).map(|index| list.contains(&index)).collect())
}

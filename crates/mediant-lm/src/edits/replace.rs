use mediant_tensor::{Compute, Int, Tensor, TensorData};

use super::Edit;
use crate::{Batch, Error, HookPoint, Positions, Result, Select};

/// Puts other values in the place of the selected ones: ablation by zeros or means, patching from another pass, resampling
/// from other examples, a LayerNorm scale kept as it was (at `hook_scale`).
#[derive(Clone, Debug)]
pub struct Replace<C: Compute> {
    /// What comes in the place.
    pub with: Values<C>,
    /// Where.
    pub select: Select,
}

/// Values of an activation `[rows, units, width]`.
#[derive(Clone, Debug)]
pub enum Values<C: Compute> {
    /// Zeros.
    Zero,
    /// The same at every row, `[1, units, width]`: a mean.
    Same(Tensor<C, 3>),
    /// By position, `[positions, units, width]`: a mean position by position. Later positions than there are is an error.
    ByPosition(Tensor<C, 3>),
    /// For every row of the batch, `[rows, units, width]`: the activation of another pass.
    Rows(Tensor<C, 3>),
}

impl<C: Compute> Replace<C> {
    /// Zero ablation.
    pub fn zero(positions: Positions) -> Self {
        Self { with: Values::Zero, select: Select::at(positions) }
    }
}

impl<C: Compute> Edit<C> for Replace<C> {
    fn apply(&self, point: HookPoint, activation: Tensor<C, 3>, batch: &Batch<C>) -> Result<Tensor<C, 3>> {
        let shape = activation.dims();
        let values = match &self.with {
            Values::Zero => activation.zeros_like(),
            Values::Same(values) => values.clone().expand(shape),
            Values::ByPosition(values) => {
                let positions = batch.sequences().iter().flat_map(|s| s.past..s.past + s.len);
                let positions: Vec<i32> = positions.map(|position| position as i32).collect();
                let known = values.dims()[0];
                if positions.iter().any(|&position| position as usize >= known) {
                    let why = format!("the values for `{point}` are of {known} positions, and there are more here");
                    return Err(Error::Hook(why));
                }
                let count = positions.len();
                let index = Tensor::<C, 1, Int>::from_data(TensorData::new(positions, [count]), &values.device());
                values.clone().select(0, index)
            }
            Values::Rows(values) => values.clone(),
        };
        if values.dims() != shape {
            let why = format!("the values for `{point}` have shape {:?}, the activation {shape:?}", values.dims());
            return Err(Error::Hook(why));
        }
        self.select.replace(point, activation, values, batch)
    }

    fn overwrites(&self) -> bool {
        self.select == Select::default()
    }
}

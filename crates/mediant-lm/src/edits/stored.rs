use mediant_artifact::{ActivationsReader, Vectors};
use mediant_tensor::random::{below, stream};
use mediant_tensor::{Compute, Tensor, TensorData};

use super::Edit;
use crate::{Batch, Error, HookPoint, Result, Select};

/// Stored activations read at a time.
const ROWS: u64 = 4096;

/// Means of stored activations by position: mean ablation that keeps what a position alone says.
#[derive(Clone, Debug)]
pub struct PositionMeans {
    /// By position; none where nothing is stored.
    means: Vec<Option<Vec<f32>>>,
    select: Select,
}

impl PositionMeans {
    /// Of everything stored for a hook point, added in its order in f64.
    ///
    /// # Errors
    /// If the hook point is not stored or cannot be read.
    pub fn of(activations: &ActivationsReader, hook: &str, select: Select) -> Result<Self> {
        let position = activations.index()?.position;
        let cells = position.iter().max().map_or(0, |last| *last as usize + 1);
        let means = means(&activations.hook(hook)?, cells, |row| position[row as usize] as usize)?;
        Ok(Self { means, select })
    }
}

/// The mean of everything stored for a hook point, added in its order in f64.
///
/// # Errors
/// If the hook point is not stored, nothing is, or it cannot be read.
pub fn stored_mean(activations: &ActivationsReader, hook: &str) -> Result<Vec<f32>> {
    let mean = means(&activations.hook(hook)?, 1, |_| 0)?.pop().flatten();
    mean.ok_or_else(|| Error::Hook(format!("there are no activations of `{hook}` to take the mean of")))
}

fn means(vectors: &Vectors, cells: usize, cell_of: impl Fn(u64) -> usize) -> Result<Vec<Option<Vec<f32>>>> {
    let width = vectors.width();
    let mut sums = vec![0.0_f64; cells * width];
    let mut counts = vec![0_u64; cells];
    for first in (0..vectors.rows()).step_by(ROWS as usize) {
        let rows = first..vectors.rows().min(first + ROWS);
        let mut values = vec![0.0; (rows.end - rows.start) as usize * width];
        vectors.range_f32(rows.clone(), &mut values)?;
        for (row, values) in rows.zip(values.chunks_exact(width)) {
            let cell = cell_of(row);
            counts[cell] += 1;
            sums[cell * width..][..width].iter_mut().zip(values).for_each(|(sum, value)| *sum += f64::from(*value));
        }
    }
    let mean = |(sums, n): (&[f64], &u64)| (*n > 0).then(|| sums.iter().map(|sum| (sum / *n as f64) as f32).collect());
    Ok(sums.chunks_exact(width).zip(&counts).map(mean).collect())
}

impl<C: Compute> Edit<C> for PositionMeans {
    fn apply(&self, point: HookPoint, activation: Tensor<C, 3>, batch: &Batch<C>) -> Result<Tensor<C, 3>> {
        let chosen = self.select.positions.rows(batch)?;
        put(&self.select, point, activation, batch, |sequence, position, row, values| {
            let mean = self.means.get(position).and_then(Option::as_ref);
            match mean {
                _ if !chosen[row] => Ok(()),
                Some(mean) if mean.len() == values.len() => {
                    values.copy_from_slice(mean);
                    Ok(())
                }
                Some(mean) => Err(misfit(point, mean.len(), values.len())),
                None => {
                    let why = format!(
                        "sequence {sequence} has a position {position}, of which no activation of `{point}` is stored"
                    );
                    Err(Error::Hook(why))
                }
            }
        })
    }
}

/// Puts stored activations of other texts in the place of the selected ones: resample ablation. Each position gets a row drawn by the
/// stream `resample/<hook>/<example>/<position>` of the seed, whatever else is in the batch.
pub struct Resample {
    /// What is drawn from.
    pub stored: Vectors,
    /// Of the draws.
    pub seed: u64,
    /// Where.
    pub select: Select,
}

impl<C: Compute> Edit<C> for Resample {
    fn apply(&self, point: HookPoint, activation: Tensor<C, 3>, batch: &Batch<C>) -> Result<Tensor<C, 3>> {
        let chosen = self.select.positions.rows(batch)?;
        if self.stored.rows() == 0 {
            return Err(Error::Hook(format!("there are no activations of `{point}` to draw from")));
        }
        put(&self.select, point, activation, batch, |sequence, position, row, values| {
            if !chosen[row] {
                return Ok(());
            }
            if self.stored.width() != values.len() {
                return Err(misfit(point, self.stored.width(), values.len()));
            }
            let example = batch.example(sequence);
            let mut draws = stream(self.seed, &format!("resample/{point}/{example}/{position}"));
            let drawn = below(&mut draws, self.stored.rows());
            Ok(self.stored.gather_f32(&[drawn], values)?)
        })
    }
}

fn misfit(point: HookPoint, stored: usize, wanted: usize) -> Error {
    Error::Hook(format!("stored activations have {stored} numbers a position, `{point}` has {wanted}"))
}

/// Puts values in the place of what is selected; `fill` gets sequence, position in it, row of the batch, and the row's values.
fn put<C: Compute>(
    select: &Select,
    point: HookPoint,
    activation: Tensor<C, 3>,
    batch: &Batch<C>,
    mut fill: impl FnMut(usize, usize, usize, &mut [f32]) -> Result<()>,
) -> Result<Tensor<C, 3>> {
    let [rows, units, width] = activation.dims();
    let mut values = vec![0.0; rows * units * width];
    for (index, s) in batch.sequences().iter().enumerate() {
        for row in s.rows() {
            fill(index, s.past + row - s.start, row, &mut values[row * units * width..][..units * width])?;
        }
    }
    let values = Tensor::from_data(TensorData::new(values, [rows, units, width]), &activation.device());
    select.replace(point, activation, values, batch)
}

//! Means of activations over a text, summed as it is read.

use std::collections::BTreeMap;

use mediant_lm::HookPoint;
use mediant_tensor::{Compute, Tensor, TensorData};

use crate::sweep::Activations;

/// Sums over rows, number by number, in f64 and in the order of the rows.
#[derive(Default)]
pub(super) struct Means {
    sums: BTreeMap<HookPoint, Sum>,
}

struct Sum {
    /// Units and width.
    shape: [usize; 2],
    sums: Vec<f64>,
    rows: u64,
}

impl Means {
    /// Adds some rows of an activation of `shape` `[rows, units, width]`, given row after row.
    pub(super) fn add(&mut self, point: HookPoint, shape: [usize; 3], values: &[f32], rows: &[usize]) {
        let [_, units, width] = shape;
        let numbers = units * width;
        let sum = || Sum { shape: [units, width], sums: vec![0.0; numbers], rows: 0 };
        let sum = self.sums.entry(point).or_insert_with(sum);
        for row in rows {
            let row = &values[row * numbers..][..numbers];
            sum.sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        sum.rows += rows.len() as u64;
    }

    /// The means, `[1, units, width]` each.
    pub(super) fn finish<C: Compute>(self, device: &C::Device) -> Activations<C> {
        let mean = |(point, Sum { shape: [units, width], sums, rows }): (HookPoint, Sum)| {
            let mean: Vec<f32> = sums.iter().map(|sum| (sum / rows as f64) as f32).collect();
            (point, Tensor::from_data(TensorData::new(mean, [1, units, width]), device))
        };
        self.sums.into_iter().map(mean).collect()
    }
}

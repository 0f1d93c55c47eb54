//! Cross-entropy and divergence of predictions.

use mediant_lm::Model;
use mediant_tensor::{Compute, Int, Tensor, TensorData};
use rayon::prelude::*;

use crate::Result;

/// Logits of all runs together, in bytes.
const LOGITS_BYTES: usize = 64 << 20;

/// How one token was predicted, by run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Prediction {
    /// −log p(token), in nats.
    pub(super) loss: [f64; 4],
    /// KL(first run ‖ run), in nats, over the whole vocabulary.
    pub(super) kl: [f64; 4],
}

/// The predictions made at some rows, from what each run's unembedding takes, `[all rows, d_model]`. Logits exist for a few rows at a time.
pub(super) fn predictions<C: Compute>(
    model: &Model<C>,
    hidden: &[Tensor<C, 2>; 4],
    rows: &[usize],
    targets: &[i32],
) -> Result<Vec<Prediction>> {
    let vocabulary = model.config().vocab_size;
    let step = (LOGITS_BYTES / (4 * hidden.len() * vocabulary)).max(64);
    let mut all = Vec::with_capacity(rows.len());
    for (rows, targets) in rows.chunks(step).zip(targets.chunks(step)) {
        let index: Vec<i32> = rows.iter().map(|row| *row as i32).collect();
        let index = Tensor::<C, 1, Int>::from_data(TensorData::new(index, [rows.len()]), &model.device());
        let logits = hidden.each_ref().map(|hidden| {
            let logits = model.logits(hidden.clone().select(0, index.clone()));
            // `Compute` fixes the float element to f32, so the conversion cannot fail.
            logits.into_data().into_vec::<f32>().unwrap_or_default()
        });
        all.par_extend(targets.par_iter().enumerate().map(|(row, target)| {
            let at = row * vocabulary..(row + 1) * vocabulary;
            prediction(logits.each_ref().map(|logits| &logits[at.clone()]), *target as usize)
        }));
    }
    Ok(all)
}

/// In f64 throughout: a divergence is a small difference of large numbers.
fn prediction(logits: [&[f32]; 4], target: usize) -> Prediction {
    let log_sum_exp = |row: &[f32]| {
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let total: f64 = row.iter().map(|x| (f64::from(*x) - f64::from(largest)).exp()).sum();
        f64::from(largest) + total.ln()
    };
    let totals = logits.map(log_sum_exp);
    let clean: Vec<f64> = logits[0].iter().map(|x| (f64::from(*x) - totals[0]).exp()).collect();
    let mut found = Prediction::default();
    for (run, (row, total)) in logits.iter().zip(totals).enumerate() {
        found.loss[run] = total - f64::from(row[target]);
        if run > 0 {
            let lost = clean.iter().zip(logits[0].iter().zip(*row));
            let lost: f64 = lost.map(|(p, (clean, row))| p * (f64::from(*clean) - f64::from(*row))).sum();
            found.kl[run] = lost + (total - totals[0]);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::prediction;

    #[test]
    fn of_two_tokens_it_can_be_counted_by_hand() {
        let logits = |p: f32| [p.ln(), (1.0 - p).ln()];
        let (clean, other, far) = (logits(0.5), logits(0.25), logits(0.9));
        // A constant on all logits changes nothing.
        let shifted = other.map(|x| x + 30.0);
        let found = prediction([&clean, &clean, &shifted, &far], 0);
        assert_eq!(found.kl[..2], [0.0, 0.0]);
        assert!((found.loss[0] - 2f64.ln()).abs() < 1e-7 && (found.loss[2] - 4f64.ln()).abs() < 1e-5);
        let kl = |q: f64| 0.5 * (0.5 / q).ln() + 0.5 * (0.5 / (1.0 - q)).ln();
        assert!((found.kl[2] - kl(0.25)).abs() < 1e-5 && (found.kl[3] - kl(0.9)).abs() < 1e-6);
    }
}

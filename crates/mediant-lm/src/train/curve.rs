//! The record of a training.

use super::trainer::StepReport;

/// One row of the record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CurvePoint {
    /// What the step did.
    pub report: StepReport,
    /// Loss on held-out tokens after the step, where it was measured.
    pub test_loss: Option<f64>,
}

const WORDS: usize = 8;

/// The record as words for [`Trainer::save`](super::Trainer::save).
pub fn curve_to_words(curve: &[CurvePoint]) -> Vec<u64> {
    let words = curve.iter().flat_map(|point| {
        let StepReport { step, tokens, loss, auxiliary, lr, grad_norm } = point.report;
        let test = point.test_loss.unwrap_or(0.0).to_bits();
        let [loss, auxiliary, lr, grad_norm] = [loss, auxiliary, lr, grad_norm].map(f64::to_bits);
        [step, tokens, loss, auxiliary, lr, grad_norm, u64::from(point.test_loss.is_some()), test]
    });
    words.collect()
}

/// The inverse of [`curve_to_words`]; words that are not whole rows are left out.
pub fn curve_from_words(words: &[u64]) -> Vec<CurvePoint> {
    let (rows, _) = words.as_chunks::<WORDS>();
    let point = |&[step, tokens, loss, auxiliary, lr, grad_norm, measured, test]: &[u64; WORDS]| CurvePoint {
        report: StepReport {
            step,
            tokens,
            loss: f64::from_bits(loss),
            auxiliary: f64::from_bits(auxiliary),
            lr: f64::from_bits(lr),
            grad_norm: f64::from_bits(grad_norm),
        },
        test_loss: (measured == 1).then_some(f64::from_bits(test)),
    };
    rows.iter().map(point).collect()
}

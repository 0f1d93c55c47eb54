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

const WORDS: usize = 10;

/// The record as words for [`Trainer::save`](super::Trainer::save).
pub fn curve_to_words(curve: &[CurvePoint]) -> Vec<u64> {
    let optional = |x: Option<f64>| [u64::from(x.is_some()), x.unwrap_or(0.0).to_bits()];
    let words = curve.iter().flat_map(|point| {
        let StepReport { step, tokens, loss, auxiliary, live_loss, lr, grad_norm } = point.report;
        let [loss, auxiliary, lr, grad_norm] = [loss, auxiliary, lr, grad_norm].map(f64::to_bits);
        let [live, live_loss] = optional(live_loss);
        let [measured, test_loss] = optional(point.test_loss);
        [step, tokens, loss, auxiliary, lr, grad_norm, live, live_loss, measured, test_loss]
    });
    words.collect()
}

/// The inverse of [`curve_to_words`]; words that are not whole rows are left out.
pub fn curve_from_words(words: &[u64]) -> Vec<CurvePoint> {
    let optional = |known: u64, bits: u64| (known == 1).then_some(f64::from_bits(bits));
    let (rows, _) = words.as_chunks::<WORDS>();
    let point = |&[step, tokens, loss, auxiliary, lr, grad_norm, live, live_loss, measured, test_loss]: &[u64;
                      WORDS]| {
        let [loss, auxiliary, lr, grad_norm] = [loss, auxiliary, lr, grad_norm].map(f64::from_bits);
        let live_loss = optional(live, live_loss);
        let report = StepReport { step, tokens, loss, auxiliary, live_loss, lr, grad_norm };
        CurvePoint { report, test_loss: optional(measured, test_loss) }
    };
    rows.iter().map(point).collect()
}

/// The training loss around the freezing of a norm, in nats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossAround {
    /// Of the first step after, had the norm stayed live.
    pub live: f64,
    /// Of the same step.
    pub frozen: f64,
    /// Mean over the [`LossAround::WINDOW`] steps before, or as many as there are.
    pub before: f64,
    /// How many steps it took until the mean of as many steps was no more than [`LossAround::MARGIN`] above `before`; none if
    /// it took more than [`LossAround::LONGEST`], or all there are.
    pub recovered_after: Option<u64>,
}

impl LossAround {
    /// What counts as back, in nats.
    pub const MARGIN: f64 = 0.1;
    /// Steps of a mean: the losses of single steps differ by their rows.
    pub const WINDOW: usize = 10;
    /// Steps that are looked at.
    pub const LONGEST: u64 = 50;

    /// Around the freezing after `step` steps; none if there is no step before or after.
    pub fn of(curve: &[CurvePoint], step: u64) -> Option<Self> {
        let mean = |points: &[CurvePoint]| {
            let sum: f64 = points.iter().map(|point| point.report.loss).sum();
            (!points.is_empty()).then_some(sum / points.len() as f64)
        };
        let (earlier, later) = curve.split_at_checked(step as usize)?;
        let before = mean(&earlier[earlier.len().saturating_sub(Self::WINDOW)..])?;
        let first = later.first()?.report;
        let back = |steps: &u64| {
            let from = later.get(*steps as usize..).unwrap_or_default();
            mean(&from[..from.len().min(Self::WINDOW)]).is_some_and(|loss| loss <= before + Self::MARGIN)
        };
        let recovered_after = (0..=Self::LONGEST).find(back);
        Some(Self { live: first.live_loss?, frozen: first.loss, before, recovered_after })
    }
}

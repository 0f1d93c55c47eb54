//! The threshold that stands for the choice over a batch at inference.

use crate::BatchChoice;

/// A running mean of the smallest chosen activations.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunningThreshold {
    lr: f64,
    start_step: Option<u64>,
    /// Below 0 as long as there is none, as in dictionary_learning.
    pub(super) value: f64,
}

impl RunningThreshold {
    pub(super) fn of(choice: &BatchChoice) -> Self {
        let &BatchChoice { threshold_lr: lr, threshold_start_step: start_step, .. } = choice;
        Self { lr, start_step, value: if start_step.is_some() { -1.0 } else { 0.0 } }
    }

    /// Takes in a step, counted from 0, and its smallest chosen activation, if one was chosen.
    pub(super) fn see(&mut self, step: u64, least: Option<f64>) {
        let least = match self.start_step {
            None => least,
            Some(start) => (step > start).then(|| least.unwrap_or(0.0)),
        };
        let Some(least) = least else { return };
        self.value = if self.value < 0.0 { least } else { self.value + self.lr * (least - self.value) };
    }
}

#[cfg(test)]
mod tests {
    use super::RunningThreshold;

    fn seen(start_step: Option<u64>, least: [Option<f64>; 4]) -> [f64; 4] {
        let mut threshold =
            RunningThreshold { lr: 0.25, start_step, value: if start_step.is_some() { -1.0 } else { 0.0 } };
        let mut step = 0;
        least.map(|least| {
            threshold.see(step, least);
            step += 1;
            threshold.value
        })
    }

    #[test]
    fn a_threshold_runs_from_zero_or_begins_late_with_what_it_sees() {
        let least = [Some(8.0), Some(4.0), None, Some(2.0)];
        assert_eq!(seen(None, least), [2.0, 2.5, 2.5, 2.375]);
        // dictionary_learning: after the start step, the first as it is, and 0 of a batch without active latents.
        assert_eq!(seen(Some(0), least), [-1.0, 4.0, 3.0, 2.75]);
        assert_eq!(seen(Some(1), least), [-1.0, -1.0, 0.0, 0.5]);
    }
}

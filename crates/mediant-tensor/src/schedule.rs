//! Learning rates as a function of the step.

use std::f64::consts::PI;

/// A learning-rate schedule. Steps count from 0; [`Schedule::at`] is the rate of that step's update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Schedule {
    /// The same rate throughout.
    Constant {
        /// The rate.
        lr: f64,
    },
    /// Linear from `lr` at step 0 to `floor` at step `steps`, and `floor` after it.
    Linear {
        /// The first rate.
        lr: f64,
        /// The last rate.
        floor: f64,
        /// Steps in all.
        steps: u64,
    },
    /// nanoGPT's: `lr · (step + 1) / (warmup + 1)` during the first `warmup` steps, then half a cosine from `lr` to `floor`
    /// at step `steps`, and `floor` after it.
    WarmupCosine {
        /// The highest rate.
        lr: f64,
        /// The last rate.
        floor: f64,
        /// Steps of warm-up.
        warmup: u64,
        /// Steps in all.
        steps: u64,
    },
}

impl Schedule {
    /// The rate at `step`.
    pub fn at(&self, step: u64) -> f64 {
        match *self {
            Self::Constant { lr } => lr,
            Self::Linear { lr, floor, steps } => lr + (floor - lr) * progress(step, 0, steps),
            Self::WarmupCosine { lr, warmup, .. } if step < warmup => lr * (step + 1) as f64 / (warmup + 1) as f64,
            Self::WarmupCosine { lr, floor, warmup, steps } => {
                floor + 0.5 * (1.0 + (PI * progress(step, warmup, steps)).cos()) * (lr - floor)
            }
        }
    }
}

/// How far `step` is from `start` to `end`, in [0, 1].
fn progress(step: u64, start: u64, end: u64) -> f64 {
    if step >= end {
        return 1.0;
    }
    step.saturating_sub(start) as f64 / (end - start) as f64
}

#[cfg(test)]
mod tests {
    use super::Schedule;

    #[test]
    fn linear_ends_at_the_floor_and_stays_there() {
        let linear = Schedule::Linear { lr: 1.0, floor: 0.2, steps: 8 };
        let rates: Vec<f64> = [0, 4, 8, 100].map(|step| linear.at(step)).into();
        for (rate, expected) in rates.iter().zip([1.0, 0.6, 0.2, 0.2]) {
            assert!((rate - expected).abs() < 1e-12, "{rate} is not {expected}");
        }
    }

    #[test]
    fn warmup_rises_to_lr_and_the_cosine_passes_the_middle() {
        let schedule = Schedule::WarmupCosine { lr: 1.0, floor: 0.1, warmup: 4, steps: 24 };
        let expected = [(0, 0.2), (3, 0.8), (4, 1.0), (14, 0.55), (24, 0.1), (99, 0.1)];
        for (step, rate) in expected {
            assert!((schedule.at(step) - rate).abs() < 1e-12, "step {step}");
        }
    }

    #[test]
    fn a_warmup_as_long_as_the_training_divides_nothing_by_zero() {
        let schedule = Schedule::WarmupCosine { lr: 1.0, floor: 0.0, warmup: 5, steps: 5 };
        assert_eq!(schedule.at(5), 0.0);
        assert!(schedule.at(4) > 0.8);
    }
}

//! Steering a sparsity coefficient to a wanted L0.

use mediant_tensor::checkpoint::{Checkpoint, State};

use crate::Result;

/// A proportional-integral controller on the logarithm of the coefficient: `λ = λ₀ exp(Σ 0.01 c + 6 c̄)`, with
/// `c = (L0 − t) / t` of a batch, kept between -1 and 1, and c̄ its running mean over some ten steps.
///
/// The integral alone does not settle where thresholds answer late, as those of `jumprelu` do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steering {
    target: f64,
    integral: f64,
    smoothed: f64,
}

impl Steering {
    pub(super) fn to(target: f64) -> Self {
        Self { target, integral: 0.0, smoothed: 0.0 }
    }

    /// What the coefficient is multiplied by.
    pub(super) fn factor(&self) -> f64 {
        (self.integral + 6.0 * self.smoothed).exp()
    }

    pub(super) fn see(&mut self, l0: f64) {
        let off = ((l0 - self.target) / self.target).clamp(-1.0, 1.0);
        self.integral += 0.01 * off;
        self.smoothed += 0.1 * (off - self.smoothed);
    }

    pub(super) fn save(&self, state: &mut State<'_>) {
        state.words("steering", &[self.integral.to_bits(), self.smoothed.to_bits()]);
    }

    pub(super) fn restore(&mut self, checkpoint: &mut Checkpoint) -> Result<()> {
        let [integral, smoothed] = checkpoint.words("steering")?;
        (self.integral, self.smoothed) = (f64::from_bits(integral), f64::from_bits(smoothed));
        Ok(())
    }
}

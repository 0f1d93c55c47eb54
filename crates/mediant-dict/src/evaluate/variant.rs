//! Other definitions of explained variance that tools use or used, for comparison with numbers published under them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Sums;

/// A definition of explained variance. Where a tool computes on a batch, the batch here is the whole sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// Mean over vectors of 1 − ‖x − x̂‖² / ‖x − E x‖²: SAELens' `explained_variance_legacy`, and SAEBench before 0.6.0.
    /// Vectors near the mean weigh most.
    EvTokenLegacy,
    /// 1 − E‖x − x̂‖² / (E‖x‖² − (mean over dimensions of E x²)²): SAEBench 0.6.0. The second moment stands where the mean
    /// should, so that the mean alone seems to explain nearly all.
    EvSaebench060,
    /// 1 − E‖x − x̂‖² / E‖x − E x‖² of a batch: SAELens' training log. On the whole sample that is `ev_mc`.
    EvTrainer,
    /// 1 − Σ_d Var(x − x̂) / Σ_d Var(x), with the sample variance: dictionary_learning's `frac_variance_explained`. A constant offset of x̂
    /// costs nothing.
    FveDl,
    /// Σ‖x − x̂‖² / Σ‖x − E x‖² of a batch: sparsify's fraction of variance unexplained. On the whole sample that is 1 − `ev_mc`.
    FvuSparsify,
    /// 1 − mean (x − x̂)² / mean (x − m)², means over all numbers and m the mean of all numbers: overcomplete's R².
    R2Overcomplete,
}

impl Variant {
    /// The name of the metric.
    pub fn name(self) -> &'static str {
        match self {
            Self::EvTokenLegacy => "ev_token_legacy",
            Self::EvSaebench060 => "ev_saebench060",
            Self::EvTrainer => "ev_trainer",
            Self::FveDl => "fve_dl",
            Self::FvuSparsify => "fvu_sparsify",
            Self::R2Overcomplete => "r2_overcomplete",
        }
    }

    /// Its value.
    pub fn value(self, sums: &Sums) -> f64 {
        let n = sums.n as f64;
        let second_moment = sums.x_squared / n;
        let explained = |error: f64, variance: f64| if variance > 0.0 { 1.0 - error / variance } else { f64::NAN };
        match self {
            Self::EvTokenLegacy => 1.0 - sums.error_ratio / n,
            // What it divides by may be below 0; the formula is kept as it is.
            Self::EvSaebench060 => 1.0 - sums.mse() / (second_moment - (second_moment / sums.x.len() as f64).powi(2)),
            Self::EvTrainer => sums.ev_mc(),
            Self::FveDl => {
                let offset: f64 = sums.error.iter().map(|error| (error / n).powi(2)).sum();
                explained(sums.mse() - offset, sums.variance())
            }
            Self::FvuSparsify => 1.0 - sums.ev_mc(),
            Self::R2Overcomplete => {
                let width = sums.x.len() as f64;
                let mean = sums.x.iter().sum::<f64>() / (n * width);
                explained(sums.mse(), second_moment - width * mean * mean)
            }
        }
    }
}

//! Evaluation of an autoencoder on the model it was trained on.
//!
//! Reconstruction is measured at the hook, and the cross-entropy of the model three times: as it is, with the
//! reconstruction in the place of the activations, and with zeros there.
//! `ce_score = (CE_zero − CE_sae) / (CE_zero − CE_clean)`, SAELens' `ce_loss_score` and dictionary_learning's
//! `frac_recovered`: 1 when splicing costs nothing, 0 when it costs as much as zeros.

use std::collections::BTreeMap;
use std::ops::Range;

use mediant_artifact::{MetricRow, Tokens};
use mediant_dict::Sae;
use mediant_dict::evaluate::{Density, Sums as Reconstruction};
use mediant_lm::{Batch, Edit, HookPoint, Hooks, Model, Positions, Replace, batches};
use mediant_tensor::{Compute, Tensor, TensorData};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bootstrap::{self, intervals};
use crate::{Error, Result};

/// Groups of neighbouring sequences that the bootstrap draws from, at most.
const GROUPS: usize = 200;

/// What happens at positions whose mask is not set: BOS, separators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SpecialTokens {
    /// They keep their activations when the autoencoder is spliced in, and no reconstruction is measured there (SAELens'
    /// `ignore_tokens`, SAEBench).
    #[default]
    Original,
    /// They are treated like all others.
    Replaced,
}

impl SpecialTokens {
    fn name(self) -> &'static str {
        match self {
            Self::Original => "original",
            Self::Replaced => "replaced",
        }
    }
}

/// Sums over some sequences.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums {
    /// At the hook.
    pub reconstruction: Reconstruction,
    /// Predicted tokens.
    pub predicted: u64,
    /// Σ of their losses in nats: the model as it is.
    pub clean: f64,
    /// With the reconstruction spliced in.
    pub sae: f64,
    /// With zeros at every position of the hook.
    pub zero: f64,
}

impl bootstrap::Sums for Sums {
    fn merge(&mut self, other: &Self) {
        self.reconstruction.merge(&other.reconstruction);
        self.predicted += other.predicted;
        self.clean += other.clean;
        self.sae += other.sae;
        self.zero += other.zero;
    }
}

impl Sums {
    fn mean(&self, sum: f64) -> f64 {
        sum / self.predicted as f64
    }
}

/// What an evaluation measured.
#[derive(Clone, Debug, PartialEq)]
pub struct SaeEvaluation {
    groups: Vec<Sums>,
    density: Density,
    hook: HookPoint,
    special_tokens: SpecialTokens,
}

/// Evaluates an autoencoder on token sequences, batch by batch in bounded memory. `progress` hears how many tokens of how
/// many are done.
///
/// A predicted token counts for the cross-entropies when its mask is set, as in the evaluation of the model alone.
///
/// # Errors
/// When the hook is not one vector of the autoencoder's width a position, nothing can be measured, or the model refuses
/// the tokens; whatever `progress` gives.
pub fn sae_eval<C: Compute, E: From<Error>>(
    model: &Model<C>,
    sae: &Sae,
    hook: HookPoint,
    tokens: &Tokens,
    special_tokens: SpecialTokens,
    mut progress: impl FnMut(u64, u64) -> Result<(), E>,
) -> Result<SaeEvaluation, E> {
    let config = model.config();
    let d_in = sae.weights().d_in;
    if hook.shape(config, 1) != [d_in] {
        let why =
            format!("the autoencoder reads vectors of {d_in} numbers, `{hook}` has shape {:?}", hook.shape(config, 1));
        return Err(Error::Data(why).into());
    }
    let groups = GROUPS.min(tokens.len());
    let mut found = SaeEvaluation {
        groups: vec![Sums::default(); groups],
        density: Density::new(sae.weights().d_sae),
        hook,
        special_tokens,
    };
    for range in batches(tokens, config, 4 * d_in) {
        for (sequence, sums) in range.clone().zip(found.batch(model, sae, tokens, range.clone())?) {
            bootstrap::Sums::merge(&mut found.groups[sequence * groups / tokens.len()], &sums);
        }
        progress(tokens.offsets[range.end] as u64, tokens.meta.tokens)?;
    }
    let total = found.total();
    if total.reconstruction.n == 0 || total.predicted == 0 {
        return Err(Error::Data(
            "the tokens hold nothing to measure: no position whose mask is set, or none predicted".to_owned(),
        )
        .into());
    }
    Ok(found)
}

/// Puts an activation in the place of another.
struct Put<C: Compute>(Tensor<C, 3>);

impl<C: Compute> Edit<C> for Put<C> {
    fn apply(&self, _: HookPoint, _: Tensor<C, 3>, _: &Batch<C>) -> mediant_lm::Result<Tensor<C, 3>> {
        Ok(self.0.clone())
    }
}

impl SaeEvaluation {
    /// The sums of each sequence of a batch.
    fn batch<C: Compute>(
        &mut self,
        model: &Model<C>,
        sae: &Sae,
        tokens: &Tokens,
        range: Range<usize>,
    ) -> Result<Vec<Sums>> {
        let ids: Vec<&[i32]> = range.clone().map(|i| tokens.sequence(i)).collect();
        let batch = Batch::new(model.config(), &ids, &model.device())?;
        let mut activation = None;
        let mut reader = |_: HookPoint, x: Tensor<C, 3>| {
            activation = Some(x);
            Ok(())
        };
        let clean = model.losses(&batch, Hooks::none().read([self.hook], &mut reader))?;
        let activation = activation.ok_or_else(|| Error::Data(format!("the pass did not reach `{}`", self.hook)))?;
        let (shape, device) = (activation.dims(), activation.device());
        // `Compute` fixes the float element to f32, so the conversion cannot fail.
        let x = activation.into_data().into_vec::<f32>().unwrap_or_default();

        let mask = &tokens.mask[tokens.offsets[range.start]..tokens.offsets[range.end]];
        let taken = |row: usize| mask[row] || self.special_tokens == SpecialTokens::Replaced;
        let codes = sae.encode(&x);
        let mut spliced = sae.decode(&codes);
        let d_in = sae.weights().d_in;
        let sums = batch.sequences().par_iter().map(|sequence| {
            let mut sums = Sums::default();
            for row in sequence.rows().filter(|row| taken(*row)) {
                let at = row * d_in..(row + 1) * d_in;
                sums.reconstruction.add(&x[at.clone()], &spliced[at], codes.row(row).1);
            }
            sums
        });
        let mut sums: Vec<Sums> = sums.collect();
        for row in 0..batch.rows() {
            if taken(row) {
                self.density.add_row(&codes, row);
            } else {
                let at = row * d_in..(row + 1) * d_in;
                spliced[at.clone()].copy_from_slice(&x[at]);
            }
        }

        let put = Put(Tensor::from_data(TensorData::new(spliced, shape), &device));
        let sae = model.losses(&batch, Hooks::none().edit(self.hook, &put))?;
        let zero = model.losses(&batch, Hooks::none().edit(self.hook, &Replace::zero(Positions::All)))?;
        let mut losses = clean.into_iter().zip(sae).zip(zero);
        for (sums, sequence) in sums.iter_mut().zip(batch.sequences()) {
            let predicted = sequence.rows().skip(1).zip(losses.by_ref());
            for (_, ((clean, sae), zero)) in predicted.filter(|(row, _)| mask[*row]) {
                sums.predicted += 1;
                sums.clean += f64::from(clean);
                sums.sae += f64::from(sae);
                sums.zero += f64::from(zero);
            }
        }
        Ok(sums)
    }

    /// The sums over everything.
    pub fn total(&self) -> Sums {
        let mut total = Sums::default();
        self.groups.iter().for_each(|group| bootstrap::Sums::merge(&mut total, group));
        total
    }

    /// Latents that were never active.
    pub fn density(&self) -> &Density {
        &self.density
    }

    /// The metrics, those computed from sums with intervals over groups of neighbouring sequences.
    pub fn metrics(&self, seed: u64) -> Vec<MetricRow> {
        let total = self.total();
        let functions: Vec<fn(&Sums) -> f64> = METRICS.iter().map(|metric| metric.value).collect();
        let intervals = intervals(&self.groups, &functions, seed);
        let groups = self.groups.len().to_string();
        let mut tags = BTreeMap::from([
            ("hook".to_owned(), self.hook.to_string()),
            ("special_tokens".to_owned(), self.special_tokens.name().to_owned()),
        ]);
        let latents = self.latent_rows(&tags, total.reconstruction.n);
        tags.insert("interval".to_owned(), "bootstrap 95%".to_owned());
        tags.insert("interval_groups".to_owned(), groups);
        let rows = METRICS.iter().zip(intervals).map(|(metric, interval)| {
            let fraction = metric.fraction.map(|fraction| fraction(&total));
            MetricRow {
                name: metric.name.to_owned(),
                value: (metric.value)(&total),
                unit: metric.unit.to_owned(),
                n: if metric.unit == NATS || metric.name == "ce_score" {
                    total.predicted
                } else {
                    total.reconstruction.n
                },
                low: interval.map(|(low, _)| low),
                high: interval.map(|(_, high)| high),
                numerator: fraction.map(|(numerator, _)| numerator),
                denominator: fraction.map(|(_, denominator)| denominator),
                seed: Some(seed),
                split: None,
                tags: tags.clone(),
            }
        });
        rows.chain(latents).collect()
    }

    fn latent_rows(&self, tags: &BTreeMap<String, String>, n: u64) -> Vec<MetricRow> {
        let all = self.density.latents();
        let row = |name: &str, count: usize| MetricRow {
            name: name.to_owned(),
            value: count as f64 / all as f64,
            unit: PURE.to_owned(),
            n,
            numerator: Some(count as f64),
            denominator: Some(all as f64),
            tags: tags.clone(),
            ..MetricRow::default()
        };
        vec![
            row("dead_fraction", self.density.dead()),
            row("density_above_1pct", self.density.denser_than(0.01)),
            row("density_above_10pct", self.density.denser_than(0.1)),
        ]
    }
}

const NATS: &str = "nats";
const PURE: &str = "1";

/// Numerator and denominator.
type Fraction = (f64, f64);

struct Metric {
    name: &'static str,
    unit: &'static str,
    value: fn(&Sums) -> f64,
    /// Of a ratio that is reported with both.
    fraction: Option<fn(&Sums) -> Fraction>,
}

const fn metric(name: &'static str, unit: &'static str, value: fn(&Sums) -> f64) -> Metric {
    Metric { name, unit, value, fraction: None }
}

const METRICS: &[Metric] = &[
    Metric {
        fraction: Some(|s| (s.reconstruction.mse(), s.reconstruction.variance())),
        ..metric("ev_mc", PURE, |s| s.reconstruction.ev_mc())
    },
    metric("mse", PURE, |s| s.reconstruction.mse()),
    metric("cossim", PURE, |s| s.reconstruction.cossim()),
    metric("l2_ratio", PURE, |s| s.reconstruction.l2_ratio()),
    metric("relative_reconstruction_bias", PURE, |s| s.reconstruction.relative_reconstruction_bias()),
    metric("l0", PURE, |s| s.reconstruction.l0()),
    metric("l1", PURE, |s| s.reconstruction.l1()),
    metric("ce_clean", NATS, |s| s.mean(s.clean)),
    metric("ce_sae", NATS, |s| s.mean(s.sae)),
    metric("ce_zero_ablation", NATS, |s| s.mean(s.zero)),
    Metric {
        fraction: Some(|s| (s.mean(s.zero - s.sae), s.mean(s.zero - s.clean))),
        // Without a cost of zeros there is nothing to recover.
        ..metric("ce_score", PURE, |s| if s.zero == s.clean { f64::NAN } else { (s.zero - s.sae) / (s.zero - s.clean) })
    },
];

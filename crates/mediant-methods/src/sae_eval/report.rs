//! What was measured, as metrics and rows of tables.

use std::collections::BTreeMap;

use mediant_artifact::MetricRow;
use mediant_dict::Activation;
use mediant_dict::evaluate::{DensityBin, Sums as Reconstruction, mdl_l0_bits};
use mediant_lm::HookPoint;

use super::{Part, Run, SaeEvaluation, Sums, ZfRow};
use crate::bootstrap::{intervals, quantile};

const NATS: &str = "nats";
const BITS: &str = "bits";
const PURE: &str = "1";

/// Shares of the positions below the quantiles of `eps_lbo`.
const QUANTILES: [f64; 3] = [0.05, 0.5, 0.95];

type Tags = BTreeMap<String, String>;
type Value<T> = Box<dyn Fn(&Sums) -> T + Send + Sync>;

/// A function of the sums, with an interval.
struct Metric<'t> {
    name: &'static str,
    unit: &'static str,
    n: u64,
    tags: &'t Tags,
    value: Value<f64>,
    /// Numerator and denominator, of a ratio that is reported with both.
    fraction: Option<Value<(f64, f64)>>,
}

impl SaeEvaluation {
    /// The metrics, those computed from sums with intervals over groups of neighbouring sequences.
    pub fn metrics(&self, seed: u64) -> Vec<MetricRow> {
        let total = self.total();
        let tags: Vec<Tags> = self.parts.iter().map(|part| self.tags(part)).collect();
        let joint = self.joint_tags(&tags);
        let own = |index: usize| self.reconstruction(index, &tags[index]);
        let mut metrics: Vec<Metric<'_>> = (0..self.parts.len()).flat_map(own).collect();
        metrics.extend(in_the_model(&joint, total.predicted));

        let functions: Vec<&Value<f64>> = metrics.iter().map(|metric| &metric.value).collect();
        let intervals = intervals(&self.groups, &functions, seed);
        let rows = metrics.iter().zip(intervals).map(|(metric, interval)| {
            let fraction = metric.fraction.as_ref().map(|fraction| fraction(&total));
            let mut tags = metric.tags.clone();
            tags.insert("interval".to_owned(), "bootstrap 95%".to_owned());
            tags.insert("interval_groups".to_owned(), self.groups.len().to_string());
            MetricRow {
                name: metric.name.to_owned(),
                value: (metric.value)(&total),
                unit: metric.unit.to_owned(),
                n: metric.n,
                low: interval.map(|(low, _)| low),
                high: interval.map(|(_, high)| high),
                numerator: fraction.map(|(numerator, _)| numerator),
                denominator: fraction.map(|(_, denominator)| denominator),
                seed: Some(seed),
                split: None,
                tags,
            }
        });
        let mut rows: Vec<MetricRow> = rows.collect();
        for (part, tags) in self.parts.iter().zip(&tags) {
            rows.extend(self.of_latents(part, tags));
        }
        rows
    }

    /// How latents were chosen, and where.
    fn tags(&self, part: &Part) -> Tags {
        let mut tags = self.joint_tags(&[]);
        tags.insert("hook".to_owned(), part.hook.to_string());
        if part.transcodes() {
            tags.insert("hook_out".to_owned(), part.out.to_string());
        }
        tags.insert("latents".to_owned(), part.chosen().to_owned());
        if let Some(name) = &part.name {
            tags.insert("sae".to_owned(), name.clone());
        }
        tags
    }

    /// Of what is measured with all in place. One alone says all about itself.
    fn joint_tags(&self, parts: &[Tags]) -> Tags {
        match parts {
            [one] => one.clone(),
            _ => {
                let joined = |hook: fn(&Part) -> HookPoint| {
                    let mut hooks: Vec<HookPoint> = self.parts.iter().map(hook).collect();
                    hooks.sort_unstable();
                    hooks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" + ")
                };
                let mut tags = Tags::from([
                    ("hook".to_owned(), joined(|part| part.hook)),
                    ("special_tokens".to_owned(), self.options.special_tokens.name().to_owned()),
                ]);
                if self.parts.iter().any(Part::transcodes) {
                    tags.insert("hook_out".to_owned(), joined(|part| part.out));
                }
                tags
            }
        }
    }

    /// What is measured at the hook of one autoencoder.
    fn reconstruction<'t>(&self, index: usize, tags: &'t Tags) -> Vec<Metric<'t>> {
        let part = &self.parts[index];
        let n = self.measured as u64;
        let metric = |name, unit, value: fn(&Reconstruction) -> f64| Metric {
            name,
            unit,
            n,
            tags,
            value: Box::new(move |sums| value(&sums.reconstruction[index])),
            fraction: None,
        };
        let over_variance = || -> Option<Value<(f64, f64)>> {
            Some(Box::new(move |sums| (sums.reconstruction[index].mse(), sums.reconstruction[index].variance())))
        };
        let d_sae = part.sae.weights().d_sae;
        let mut all = vec![
            Metric { fraction: over_variance(), ..metric("ev_mc", PURE, Reconstruction::ev_mc) },
            metric("mse", PURE, Reconstruction::mse),
            Metric { fraction: over_variance(), ..metric("nmse", PURE, |sums| 1.0 - sums.ev_mc()) },
            metric("cossim", PURE, Reconstruction::cossim),
            metric("l2_norm_in", PURE, Reconstruction::l2_norm_in),
            metric("l2_norm_out", PURE, Reconstruction::l2_norm_out),
            metric("l2_ratio", PURE, Reconstruction::l2_ratio),
            metric("shrinkage", PURE, Reconstruction::shrinkage),
            metric("relative_reconstruction_bias", PURE, Reconstruction::relative_reconstruction_bias),
            metric("l0", PURE, Reconstruction::l0),
            metric("l1", PURE, Reconstruction::l1),
            Metric {
                name: "mdl_l0",
                unit: BITS,
                n,
                tags,
                value: Box::new(move |sums| mdl_l0_bits(sums.reconstruction[index].l0(), d_sae)),
                fraction: None,
            },
        ];
        all.extend(self.options.variants.iter().map(|&variant| Metric {
            name: variant.name(),
            unit: PURE,
            n,
            tags,
            value: Box::new(move |sums| variant.value(&sums.reconstruction[index])),
            fraction: None,
        }));
        all
    }

    /// What has no interval.
    fn of_latents(&self, part: &Part, tags: &Tags) -> Vec<MetricRow> {
        let (all, n) = (part.density.latents(), self.measured as u64);
        let row = |name: &str, value: f64, unit: &str| MetricRow {
            name: name.to_owned(),
            value,
            unit: unit.to_owned(),
            n,
            tags: tags.clone(),
            ..MetricRow::default()
        };
        let share = |name: &str, count: usize| MetricRow {
            numerator: Some(count as f64),
            denominator: Some(all as f64),
            ..row(name, count as f64 / all as f64, PURE)
        };
        let mut rows = vec![
            share("dead_fraction", part.density.dead()),
            share("density_above_1pct", part.density.denser_than(0.01)),
            share("density_above_10pct", part.density.denser_than(0.1)),
        ];
        let mut entropy = row("mdl_entropy", part.quantised.mdl_entropy_bits(), BITS);
        entropy.tags.insert("bins".to_owned(), self.options.mdl_bins.to_string());
        rows.push(entropy);
        let mut sorted: Vec<f64> = part.eps_lbo.iter().map(|x| f64::from(*x)).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        rows.extend(QUANTILES.iter().filter_map(|share| {
            let mut row = row("eps_lbo", quantile(&sorted, *share)?, PURE);
            row.tags.insert("quantile".to_owned(), share.to_string());
            Some(row)
        }));
        rows
    }

    /// How many latents are how dense, of each dictionary by the hook that it reads and its name.
    pub fn density(&self) -> impl Iterator<Item = (String, Option<&str>, Vec<DensityBin>)> {
        self.parts.iter().map(|part| (part.hook.to_string(), part.name.as_deref(), part.density.histogram()))
    }

    /// Norms of inputs and codes, of each dictionary by the hook that it reads and its name.
    pub fn zf(&self) -> impl Iterator<Item = (String, Option<&str>, &[ZfRow])> {
        self.parts.iter().map(|part| (part.hook.to_string(), part.name.as_deref(), &part.zf[..]))
    }
}

impl Part {
    /// How its active latents were chosen.
    fn chosen(&self) -> &'static str {
        match self.sae.activation() {
            _ if self.by_batch.is_some() => "batch",
            Activation::JumpRelu => "threshold",
            other => other.architecture(),
        }
    }
}

/// What is measured in the model with all autoencoders in place.
fn in_the_model(tags: &Tags, n: u64) -> Vec<Metric<'_>> {
    let mean =
        |name, value: fn(&Sums) -> f64| Metric { name, unit: NATS, n, tags, value: Box::new(value), fraction: None };
    // Without a cost of the ablation there is nothing to recover.
    let score = |name, fraction: fn(&Sums) -> (f64, f64)| Metric {
        name,
        unit: PURE,
        n,
        tags,
        value: Box::new(move |sums| match fraction(sums) {
            (_, 0.0) => f64::NAN,
            (recovered, cost) => recovered / cost,
        }),
        fraction: Some(Box::new(fraction)),
    };
    vec![
        mean("ce_clean", |sums| sums.ce(Run::Clean)),
        mean("ce_sae", |sums| sums.ce(Run::Sae)),
        mean("ce_zero_ablation", |sums| sums.ce(Run::Zero)),
        mean("ce_mean_ablation", |sums| sums.ce(Run::Mean)),
        score("ce_score", |sums| (sums.ce(Run::Zero) - sums.ce(Run::Sae), sums.ce(Run::Zero) - sums.ce(Run::Clean))),
        score("ce_score_mean", |sums| {
            (sums.ce(Run::Mean) - sums.ce(Run::Sae), sums.ce(Run::Mean) - sums.ce(Run::Clean))
        }),
        mean("kl_sae", |sums| sums.kl(Run::Sae)),
        mean("kl_zero_ablation", |sums| sums.kl(Run::Zero)),
        mean("kl_mean_ablation", |sums| sums.kl(Run::Mean)),
        score("kl_score", |sums| (sums.kl(Run::Zero) - sums.kl(Run::Sae), sums.kl(Run::Zero))),
        score("kl_score_mean", |sums| (sums.kl(Run::Mean) - sums.kl(Run::Sae), sums.kl(Run::Mean))),
    ]
}

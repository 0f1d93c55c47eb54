//! `attribution_vs_activation_patching`: how well does attribution patching predict activation patching?

use mediant_artifact::{Facts, Kind, Mediator, MetricRow, write_metrics};
use mediant_engine::{
    Docs, InputFacts, Output, Port, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_lm::Positions;
use mediant_methods::linearity::{Agreement, MediatorEffects, Scale, linearity};
use mediant_methods::{By, Metric};
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::columns::{Columns, table_facts};
use crate::device::compute_device;
use crate::measuring::{self, Asked, Counterfactual};
use crate::mediators::Mediators;
use crate::model_input::loaded_facts;
use crate::named::{MODELS, check_apart, metric, named, tags};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct AttributionVsActivationPatching;

/// Options of `attribution_vs_activation_patching`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Hook points by their TransformerLens names, or globs.
    #[serde(default = "residual")]
    hooks: Vec<String>,
    /// What is patched alone: each `head`, `neuron`, `position`, `span`, or two of them together; `[]` is the whole activation.
    #[serde(default = "position")]
    by: Vec<By>,
    /// What is measured of the answer.
    #[serde(default)]
    metric: Metric,
    /// Which counterfactual of the prompts; the first if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    counterfactual: Option<String>,
    /// Of the bootstrap.
    #[serde(default)]
    seed: u64,
}

fn residual() -> Vec<String> {
    vec!["blocks.*.hook_resid_pre".to_owned()]
}

fn position() -> Vec<By> {
    vec![By::Position]
}

impl Config {
    fn asked(&self) -> Asked<'_> {
        Asked {
            metric: self.metric,
            counterfactual: Counterfactual::of("counterfactual", self.counterfactual.as_deref()),
            seed: self.seed,
        }
    }

    fn mediators(&self) -> Mediators<'_> {
        Mediators { hooks: &self.hooks, by: Some(&self.by), positions: &Positions::All }
    }
}

const PORTS: &[Port] = &[MODELS, measuring::PROMPTS];

/// The two scales, by the value of the tag `scale`.
const SCALES: [(&str, Scale); 2] = [("metric", Scale::Metric), ("share", Scale::Difference)];

const MEDIATORS: [&str; 18] = [
    "model",
    "scale",
    "name",
    "hook",
    "layer",
    "unit",
    "position",
    "span",
    "n",
    "exact",
    "exact_low",
    "exact_high",
    "linear",
    "linear_low",
    "linear_high",
    "error",
    "error_low",
    "error_high",
];

impl Stage for AttributionVsActivationPatching {
    type Config = Config;
    const NAME: &'static str = "attribution_vs_activation_patching";
    const VERSION: u32 = 1;

    fn docs(&self) -> Docs {
        Docs {
            summary: "How far attribution patching, which is linear, is from the activation patching that it predicts",
            details: DETAILS,
            example: "linear:\n  uses: attribution_vs_activation_patching\n  inputs: { models: { original: model, ln_free: ln_free }, prompts: prompts }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![
            Output::new(
                "metrics",
                Kind::Metrics,
                "`mean_error`, `sd_error`, `mean_error_size`, `nmae` and `pearson` of every model, in both scales.",
            ),
            Output::new("mediators", Kind::Table, "Both effects of every mediator, in both scales."),
        ]
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        config.mediators().check()
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let mut problems = config.asked().check_models("models", inputs);
        problems.check(check_apart(inputs, "models"));
        problems.check(config.mediators().check_models("models", inputs));
        problems.finish()?;
        Ok(vec![("metrics".to_owned(), Facts::Metrics), ("mediators".to_owned(), table_facts(&MEDIATORS))])
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        measuring::RESOURCES
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let models = named(cx, "models")?;
        let (pairs, _) = config.asked().pairs(cx)?;
        let (mut metrics, mut rows) = (Vec::new(), Vec::new());
        on_device!(compute_device(cx.device()), C, device => {
            for (place, model) in models.iter().enumerate() {
                let targets = config.mediators().targets(&loaded_facts(&model.artifact)?, &pairs)?;
                let loaded = mediant_lm::load::<C>(&model.artifact, &device)?;
                let found = linearity(&loaded, &pairs, &targets, config.metric, |done, total| {
                    cx.progress((place * total + done) as u64, (models.len() * total) as u64, "prompts");
                    cx.check_cancelled()
                })?;
                let undivided = found.undivided();
                if undivided > 0 {
                    cx.note(format!(
                        "{undivided} prompts have the same value as their counterfactual on `{}` and no share of nothing",
                        model.label
                    ));
                }
                let n = pairs.prompts().len() as u64;
                for (name, scale) in SCALES {
                    let told = tags([("model", model.label.as_str()), ("scale", name)]);
                    let unit = if scale == Scale::Metric { config.metric.unit() } else { "1" };
                    let n = if scale == Scale::Metric { n } else { n - undivided as u64 };
                    metrics.extend(agreement(found.agreement(scale, config.seed), unit).map(|(name, unit, estimate)| {
                        MetricRow { tags: told.clone(), ..metric(name, unit, n, estimate, config.seed) }
                    }));
                    let of_mediators = targets.iter().zip(found.of_mediators(scale, config.seed));
                    rows.extend(
                        of_mediators.map(|(target, of)| (&model.label, name, target.mediator.clone(), of)),
                    );
                }
                metrics.push(MetricRow {
                    name: "smallest_difference".to_owned(),
                    value: found.smallest_difference(),
                    unit: config.metric.unit().to_owned(),
                    n,
                    tags: tags([("model", model.label.as_str())]),
                    ..MetricRow::default()
                });
            }
            Ok::<_, StageError>(())
        })?;
        write_metrics(cx.output("metrics")?, &metrics)?;
        table(&rows).write(
            cx.output("mediators")?,
            "Exact and linear effects",
            "Effects of activation patching and their first-order estimates",
        )
    }
}

fn agreement(found: Agreement, unit: &str) -> [(&'static str, &str, mediant_methods::bootstrap::Estimate); 5] {
    [
        ("mean_error", unit, found.mean_error),
        ("sd_error", unit, found.sd_error),
        ("mean_error_size", unit, found.mean_absolute_error),
        ("nmae", "percent", found.nmae),
        ("pearson", "1", found.pearson),
    ]
}

type Row<'n> = (&'n String, &'static str, Mediator, MediatorEffects);

fn table(rows: &[Row<'_>]) -> Columns {
    let count = |of: fn(&Mediator) -> Option<u32>| rows.iter().map(move |(.., one, _)| of(one).map(u64::from));
    Columns::default()
        .text("model", rows.iter().map(|(model, ..)| model))
        .text("scale", rows.iter().map(|(_, scale, ..)| scale))
        .text("name", rows.iter().map(|(.., one, _)| &one.name))
        .optional_text("hook", rows.iter().map(|(.., one, _)| one.hook.as_ref()))
        .optional_count("layer", count(|one| one.layer))
        .optional_count("unit", count(|one| one.unit))
        .optional_count("position", count(|one| one.position))
        .optional_text("span", rows.iter().map(|(.., one, _)| one.span.as_ref()))
        .count("n", rows.iter().map(|(.., of)| of.n))
        .estimate("exact", rows.iter().map(|(.., of)| Some(of.exact)))
        .estimate("linear", rows.iter().map(|(.., of)| Some(of.linear)))
        .estimate("error", rows.iter().map(|(.., of)| Some(of.error)))
}

const DETAILS: &str = "\
Every mediator's clean activation is put into the counterfactual run, once exactly and once to first order:

- exact = m(counterfactual run with the clean activation) − m(counterfactual run), as `activation_patching`;
- linear = Σ (a_clean − a_counterfactual) · ∂m/∂a with the gradient on the counterfactual run, as `attribution_patching`.

Scale `metric` has both in units of the metric. Scale `share` divides both, prompt by prompt, by m(clean) − m(counterfactual). Where a prompt and its counterfactual differ in one token, \
as in `s2_io_flip`, that is the exact effect of the first layer's residual stream at that token, which the source divides by. A small divisor makes a mean of shares fragile: \
`smallest_difference` is the smallest size of it, and prompts whose divisor is 0 have no share.

With the error of a mediator the mean over prompts of linear − exact:

- `mean_error` and `sd_error`: mean and standard deviation (with Bessel's correction) of it over mediators;
- `mean_error_size`: the mean over mediators and prompts of |linear − exact|; `nmae`: the same over the mean of |exact|, in percent;
- `pearson`: the correlation over mediators of the two mean effects.

Intervals hold 95 percent of 1,000 draws of groups of prompts. A mediator at a position is measured on the prompts that have the position.

Sources: Nanda 2023, Attribution Patching; Baroni et al. 2025 (arXiv:2507.02559), where removing LayerNorm did not bring the two closer: other parts of the model are not linear either.";

//! `difference_of_means`: the direction from one mean activation to another.

use std::collections::BTreeSet;

use mediant_artifact::{DirectionsMeta, Facts};
use mediant_engine::{
    Docs, InputFacts, Output, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_lm::Positions;
use mediant_methods::subspace::{Gathered, Site, Which, direction_of_means, gather};
use mediant_methods::{Metric, Pairs};
use mediant_tensor::on_device;
use mediant_tensor::random::{shuffle, stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::compute_device;
use crate::measuring::{self, Asked, Counterfactual};
use crate::sites::{Sites, both_versions, check_variable, directions_output, rows_of, write_subspaces};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct DifferenceOfMeans;

/// Options of `difference_of_means`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Hook points without heads by their TransformerLens names, or globs: `blocks.*.hook_resid_post`.
    hooks: Vec<String>,
    /// Spans of the prompts; a direction at each of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spans: Option<Vec<String>>,
    /// In place of `spans`, the positions of one direction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    positions: Option<Positions>,
    /// A causal variable of the prompts, whose values are compared; left out, the prompts with their counterfactuals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    variable: Option<String>,
    /// The two values of the variable: the first less the second. Left out, those that there are, in the order of the alphabet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    values: Option<Vec<String>>,
    /// Which counterfactual of the prompts; the first if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    counterfactual: Option<String>,
    /// The control: which versions are of the first mean is shuffled over all of them.
    #[serde(default)]
    shuffle_labels: bool,
    /// Of the shuffling.
    #[serde(default)]
    seed: u64,
}

impl Config {
    fn sites(&self) -> Sites<'_> {
        Sites { hooks: &self.hooks, positions: self.positions.as_ref(), spans: self.spans.as_deref() }
    }

    fn asked(&self) -> Asked<'_> {
        let counterfactual = Counterfactual::of("counterfactual", self.counterfactual.as_deref());
        // No answer is looked at.
        Asked { metric: Metric::LogProb, counterfactual, seed: 0 }
    }
}

const METHOD: &str = "difference_of_means";

impl Stage for DifferenceOfMeans {
    type Config = Config;
    const NAME: &'static str = "difference_of_means";
    const VERSION: u32 = 2;

    fn docs(&self) -> Docs {
        Docs {
            summary: "The direction from one mean activation to another, at hook points and spans",
            details: DETAILS,
            example: "number:\n  uses: difference_of_means\n  inputs: { model: model, prompts: prompts }\n  with: { hooks: [blocks.2.hook_resid_post], spans: [subject, last], variable: subject_number }\n",
        }
    }

    fn inputs(&self) -> Ports {
        measuring::PORTS
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![directions_output()]
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        let mut problems = config.sites().check();
        match (&config.variable, &config.values) {
            (None, Some(_)) => {
                let problem = Problems::config("values", "these are values of no variable");
                problems.push(problem.help("set `variable`, or remove them"));
            }
            (Some(_), Some(values)) if values.len() != 2 || values[0] == values[1] => {
                problems.push(Problems::config("values", "two different values are compared"));
            }
            _ => {}
        }
        problems.finish()
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let mut problems = config.asked().check(inputs);
        problems.check(config.sites().check_inputs(inputs).finish());
        if let Some(variable) = &config.variable {
            problems.check(check_variable(variable, inputs));
        }
        problems.finish()?;
        let search = (METHOD, Some(config.shuffle_labels));
        Ok(vec![("directions".to_owned(), config.sites().facts(true, &[Some(1)], search, inputs))])
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        measuring::RESOURCES
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let run = config.asked().open(cx, Self::NAME)?;
        let sites = config.sites().sites(&run.facts)?;
        let compared = Compared::of(config, &run.pairs, run.counterfactual.as_deref())?;
        let count = run.pairs.prompts().len();
        let [clean, other] = on_device!(compute_device(cx.device()), C, device => {
            let model = mediant_lm::load::<C>(&run.model, &device)?;
            let mut progress = run.progress();
            let clean = gather(&model, &run.pairs, Which::Clean, &sites, |done| progress(done, 2 * count))?;
            let other = gather(&model, &run.pairs, Which::Counterfactual, &sites, |done| progress(count + done, 2 * count))?;
            Ok::<_, StageError>([clean, other])
        })?;
        let mut rows = Vec::new();
        for (site, versions) in sites.iter().zip(clean.iter().zip(&other)) {
            match compared.direction(versions) {
                Some((length, vector)) => rows.extend(rows_of(site, &[vector], |_| Some(length))),
                None => cx.note(none_at(site)),
            }
        }
        if rows.is_empty() {
            return Err(StageError::new("the means differ nowhere, so that there is no direction"));
        }
        let meta = DirectionsMeta {
            method: METHOD.to_owned(),
            nested: true,
            value: Some("length".to_owned()),
            counterfactual: run.counterfactual.clone(),
            passes: both_versions(&sites, run.facts.n_layers),
            ..DirectionsMeta::default()
        };
        let settings = [("sign", compared.sign), ("shuffle_labels", config.shuffle_labels.to_string())];
        write_subspaces(cx, meta, settings, &rows)
    }
}

fn none_at(site: &Site) -> String {
    format!("there is no direction at {site}: the means do not differ")
}

/// What is compared with what: for each prompt, whether its clean version and its counterfactual are of the first mean, of the second, or of none.
struct Compared {
    sign: String,
    of_clean: Vec<Option<usize>>,
    of_other: Vec<Option<usize>>,
}

impl Compared {
    fn of(config: &Config, pairs: &Pairs, counterfactual: Option<&str>) -> Result<Self, StageError> {
        let count = pairs.prompts().len();
        let mut compared = match config.variable.as_deref() {
            Some(variable) => Self::by_variable(variable, config.values.as_deref(), pairs)?,
            None => Self {
                sign: format!("mean(clean) − mean({})", counterfactual.unwrap_or("counterfactual")),
                of_clean: vec![Some(0); count],
                of_other: vec![Some(1); count],
            },
        };
        if config.shuffle_labels {
            let mut all = [compared.of_clean, compared.of_other].concat();
            shuffle(&mut stream(config.seed, "labels"), &mut all);
            compared.of_other = all.split_off(count);
            compared.of_clean = all;
        }
        Ok(compared)
    }

    fn by_variable(variable: &str, values: Option<&[String]>, pairs: &Pairs) -> Result<Self, StageError> {
        let clean = || pairs.prompts().iter().map(|prompt| prompt.clean.variables.get(variable));
        let other = || {
            let versions = pairs.prompts().iter().map(|prompt| pairs.counterfactual(prompt));
            versions.map(|version| version.and_then(|version| version.variables.get(variable)))
        };
        let values = match values {
            Some(values) => values.to_vec(),
            None => clean().chain(other()).flatten().collect::<BTreeSet<_>>().into_iter().cloned().collect(),
        };
        let values: [String; 2] = values.try_into().map_err(|values: Vec<String>| {
            let some = values.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
            StageError::new(format!("`{variable}` has {} values, not two: {some}; name two as `values`", values.len()))
        })?;
        let place = |value: Option<&String>| values.iter().position(|known| Some(known) == value);
        let [of, less] = &values;
        Ok(Self {
            sign: format!("mean({variable} = {of}) − mean({variable} = {less})"),
            of_clean: clean().map(place).collect(),
            of_other: other().map(place).collect(),
        })
    }

    fn direction(&self, (clean, other): (&Gathered, &Gathered)) -> Option<(f64, Vec<f32>)> {
        let with = |value: usize| {
            let of_clean = clean.of_prompts(move |prompt| self.of_clean[prompt] == Some(value));
            of_clean.chain(other.of_prompts(move |prompt| self.of_other[prompt] == Some(value)))
        };
        direction_of_means(with(0), with(1))
    }
}

const DETAILS: &str = "\
Without `variable`: the mean over prompts and chosen positions of the clean activations less that of their counterfactuals. With `variable`: the mean over \
those versions, prompts and counterfactuals alike, in which the causal variable has the first of two values, less the mean over those with the second. Sums \
are in f64; the vector has length 1, and `value` is the length that the difference had. Settings name the sign. \
`shuffle_labels: true` is the control: a direction that means nothing. \
Where the means do not differ (before the first token that does), there is no direction, and a note says so.

Sources: Marks & Tegmark 2023 (arXiv:2310.06824); Arditi et al. 2024 (arXiv:2406.11717).";

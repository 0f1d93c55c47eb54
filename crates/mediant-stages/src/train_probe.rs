//! `train_probe`: the directions along which a causal variable can be read.

use std::collections::BTreeSet;

use mediant_artifact::{DirectionsMeta, Facts, Kind, MetricRow, write_metrics};
use mediant_engine::{
    Docs, InputFacts, Output, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_lm::Positions;
use mediant_methods::bootstrap::{Totals, estimates};
use mediant_methods::subspace::{Gathered, Labelled, LinearProbe, Which, gather};
use mediant_methods::{Metric, Pairs, split};
use mediant_tensor::on_device;
use mediant_tensor::random::{permutation, stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::aligning::{self, check_test_fraction, metric, site_tags};
use crate::device::compute_device;
use crate::measuring::{self, Asked, Counterfactual};
use crate::sites::{Sites, both_versions, check_variable, directions_output, rows_of, write_subspaces};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct TrainProbe;

/// Options of `train_probe`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Hook points without heads by their TransformerLens names, or globs: `blocks.*.hook_resid_post`.
    hooks: Vec<String>,
    /// Spans of the prompts; a probe at each of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spans: Option<Vec<String>>,
    /// In place of `spans`, the positions of a probe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    positions: Option<Positions>,
    /// The causal variable of the prompts that is read; left out, whether a version is the prompt or its counterfactual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    variable: Option<String>,
    /// Inverse of the penalty, scikit-learn's `C`.
    #[serde(default = "one")]
    c: f64,
    /// Share of the groups of prompts that are held out of the training.
    #[serde(default = "aligning::fifth")]
    test_fraction: f64,
    /// The control: every version has the label of another.
    #[serde(default)]
    shuffle_labels: bool,
    /// Which counterfactual of the prompts; the first if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    counterfactual: Option<String>,
    /// Of the split, of what is shuffled, and of the bootstrap.
    #[serde(default)]
    seed: u64,
}

fn one() -> f64 {
    1.0
}

/// The most values of a variable: a probe each.
const MOST: usize = 100;

impl Config {
    fn sites(&self) -> Sites<'_> {
        Sites { hooks: &self.hooks, positions: self.positions.as_ref(), spans: self.spans.as_deref() }
    }

    fn asked(&self) -> Asked<'_> {
        let counterfactual = Counterfactual::of("counterfactual", self.counterfactual.as_deref());
        // No answer is looked at.
        Asked { metric: Metric::LogProb, counterfactual, seed: self.seed }
    }
}

const METHOD: &str = "probe";

impl Stage for TrainProbe {
    type Config = Config;
    const NAME: &'static str = "train_probe";
    const VERSION: u32 = 2;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Linear probes for a causal variable of the prompts, as directions",
            details: DETAILS,
            example: "probes:\n  uses: train_probe\n  inputs: { model: model, prompts: prompts }\n  with: { hooks: [\"blocks.*.hook_resid_post\"], spans: [subject, last], variable: subject_number }\n",
        }
    }

    fn inputs(&self) -> Ports {
        measuring::PORTS
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![
            directions_output(),
            Output::new("metrics", Kind::Metrics, "`accuracy` of every probe, in training and held out."),
        ]
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        let mut problems = config.sites().check();
        if !(config.c > 0.0 && config.c.is_finite()) {
            problems.push(Problems::config("c", "`c` must be above 0"));
        }
        problems.check(check_test_fraction(config.test_fraction));
        problems.finish()
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let mut problems = config.asked().check(inputs);
        problems.check(config.sites().check_inputs(inputs).finish());
        if let Some(variable) = &config.variable {
            problems.check(check_variable(variable, inputs));
        }
        problems.finish()?;
        // How many values a variable has is known when the prompts are there.
        let rank = config.variable.is_none().then_some(1);
        let directions = config.sites().facts(false, &[rank], (METHOD, Some(config.shuffle_labels)), inputs);
        Ok(vec![("directions".to_owned(), directions), ("metrics".to_owned(), Facts::Metrics)])
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        measuring::RESOURCES
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let run = config.asked().open(cx, Self::NAME)?;
        let sites = config.sites().sites(&run.facts)?;
        let labels = Labels::of(config, &run.pairs)?;
        let (train, test) = split(&run.pairs, config.test_fraction, config.seed)?;
        let count = run.pairs.prompts().len();
        let [clean, other] = on_device!(compute_device(cx.device()), C, device => {
            let model = mediant_lm::load::<C>(&run.model, &device)?;
            let mut progress = run.progress();
            let clean = gather(&model, &run.pairs, Which::Clean, &sites, |done| progress(done, 2 * count))?;
            let other = gather(&model, &run.pairs, Which::Counterfactual, &sites, |done| progress(count + done, 2 * count))?;
            Ok::<_, StageError>([clean, other])
        })?;
        let (mut rows, mut metrics) = (Vec::new(), Vec::new());
        for (index, (site, versions)) in sites.iter().zip(clean.iter().zip(&other)).enumerate() {
            cx.progress(index as u64, sites.len() as u64, "probes");
            cx.check_cancelled()?;
            let examples = labels.examples(versions);
            let part = |prompts: &[usize]| labels.part(&examples, prompts);
            let (training, held_out) = (part(&train), part(&test));
            let probe = LinearProbe::fit(&training.labelled, labels.classes.len(), config.c)
                .map_err(|error| StageError::from(error).context(format!("at {site}")))?;
            let mut tags = site_tags(site);
            tags.insert("variable".to_owned(), config.variable.clone().unwrap_or_else(|| "version".to_owned()));
            let mut accuracy = None;
            for (name, part) in [("train", &training), ("test", &held_out)] {
                if let Some(row) = part.accuracy(&probe, config.seed) {
                    accuracy = Some(row.value);
                    metrics.push(MetricRow { split: Some(name.to_owned()), tags: tags.clone(), ..row });
                }
            }
            let directions = probe.directions();
            if directions.is_empty() {
                cx.note(format!("there is no direction at {site}: nothing there tells the classes apart"));
            }
            rows.extend(rows_of(site, &directions, |_| accuracy));
        }
        if rows.is_empty() {
            return Err(StageError::new("nothing tells the classes apart at any site, so that there is no direction"));
        }
        let meta = DirectionsMeta {
            method: METHOD.to_owned(),
            nested: false,
            value: Some("accuracy".to_owned()),
            counterfactual: run.counterfactual.clone(),
            seed: Some(config.seed),
            passes: both_versions(&sites, run.facts.n_layers),
            ..DirectionsMeta::default()
        };
        let settings = [
            ("classes", labels.classes.join(", ")),
            ("c", config.c.to_string()),
            ("test_fraction", config.test_fraction.to_string()),
            ("shuffle_labels", config.shuffle_labels.to_string()),
        ];
        write_subspaces(cx, meta, settings, &rows)?;
        write_metrics(cx.output("metrics")?, &metrics)?;
        Ok(())
    }
}

/// The class of every version of every prompt.
struct Labels<'a> {
    pairs: &'a Pairs,
    classes: Vec<String>,
    /// Of the prompts, then of their counterfactuals; none for a version that is not told to have any.
    of: [Vec<Option<usize>>; 2],
}

/// A vector with its prompt and class.
struct Example {
    prompt: usize,
    class: usize,
    x: Vec<f64>,
}

impl<'a> Labels<'a> {
    fn of(config: &Config, pairs: &'a Pairs) -> Result<Self, StageError> {
        let prompts = pairs.prompts();
        let (classes, mut of) = match &config.variable {
            None => {
                let classes = vec!["prompt".to_owned(), "counterfactual".to_owned()];
                (classes, [vec![Some(0); prompts.len()], vec![Some(1); prompts.len()]])
            }
            Some(variable) => {
                let clean = prompts.iter().map(|prompt| prompt.clean.variables.get(variable));
                let other = prompts
                    .iter()
                    .map(|prompt| pairs.counterfactual(prompt).and_then(|version| version.variables.get(variable)));
                let classes: BTreeSet<&String> = clean.clone().chain(other.clone()).flatten().collect();
                let classes: Vec<String> = classes.into_iter().cloned().collect();
                if !(2..=MOST).contains(&classes.len()) {
                    let why = format!("`{variable}` has {} values; a probe tells 2 to {MOST} apart", classes.len());
                    return Err(StageError::new(why));
                }
                let place = |value: Option<&String>| classes.iter().position(|known| Some(known) == value);
                let of = [clean.map(place).collect(), other.map(place).collect()];
                (classes, of)
            }
        };
        if config.shuffle_labels {
            let all: Vec<Option<usize>> = of.iter().flatten().copied().collect();
            let order = permutation(&mut stream(config.seed, "labels"), all.len());
            let shuffled: Vec<Option<usize>> = order.into_iter().map(|index| all[index]).collect();
            let (clean, other) = shuffled.split_at(prompts.len());
            of = [clean.to_vec(), other.to_vec()];
        }
        Ok(Self { pairs, classes, of })
    }

    /// The mean vector of every version that has a class.
    fn examples(&self, (clean, other): (&Gathered, &Gathered)) -> Vec<Example> {
        let mut examples = Vec::new();
        for (of, gathered) in self.of.iter().zip([clean, other]) {
            for (prompt, x) in gathered.means() {
                let prompt = prompt as usize;
                examples.extend(of[prompt].map(|class| Example { prompt, class, x }));
            }
        }
        examples
    }

    /// Those of some prompts.
    fn part(&self, examples: &[Example], prompts: &[usize]) -> Part<'a> {
        let mut part = Part { labelled: Labelled::default(), groups: Vec::new() };
        for example in examples.iter().filter(|example| prompts.binary_search(&example.prompt).is_ok()) {
            part.labelled.x.push(example.x.clone());
            part.labelled.classes.push(example.class);
            part.groups.push(&self.pairs.prompts()[example.prompt].group);
        }
        part
    }
}

/// Examples with the group of each.
struct Part<'a> {
    labelled: Labelled,
    groups: Vec<&'a str>,
}

impl Part<'_> {
    /// The share that is told right, with its interval over groups; nothing of no examples.
    fn accuracy(&self, probe: &LinearProbe, seed: u64) -> Option<MetricRow> {
        let names: Vec<&str> = self.groups.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let mut sums = vec![Totals(vec![0.0; 2]); names.len()];
        let Labelled { x, classes } = &self.labelled;
        for ((x, class), group) in x.iter().zip(classes).zip(&self.groups) {
            let sums = &mut sums[names.binary_search(group).ok()?];
            sums.add(0, f64::from(u8::from(probe.class(x) == *class)));
            sums.add(1, 1.0);
        }
        let n = classes.len() as u64;
        let found = estimates(&sums, &[|sums: &Totals| sums.ratio(0, 1)], seed).pop().filter(|_| n > 0)?;
        let (low, high) = (found.interval.map(|(low, _)| low), found.interval.map(|(_, high)| high));
        Some(MetricRow { low, high, ..metric("accuracy", found.value, "1", n, seed, &Default::default()) })
    }
}

const DETAILS: &str = "\
Examples are all versions, prompts and counterfactuals, that have a value of `variable` (without it the class is whether a version is the prompt or its counterfactual). An example's vector \
is the mean of its activations at the chosen positions. Logistic regressions are fitted to the vectors less their mean: the minimum of ½‖w‖² + C Σ log(1 + e^(−y (w·x + b))), as scikit-learn's, by \
Newton's method in f64; one for two classes, else one a class against all others.

`directions`: for two classes the unit normal, towards the first class (of the alphabet; the prompt); for more the span of the differences of the classes' normals, one dimension fewer than there are classes, made orthonormal in the order of the classes. `value` is the held-out \
accuracy. `metrics`: `accuracy` on the versions of training and of held-out groups of prompts (`test_fraction`), by the largest score; the interval holds 95 percent of 1,000 draws of groups.

That a variable can be read from an activation does not say that the model uses it: interchange along the probe's directions asks that. `shuffle_labels: true` is the control: what a probe reads \
when labels mean nothing.

Sources: Alain & Bengio 2016 (arXiv:1610.01644); Hewitt & Liang 2019, Designing and interpreting probes with control tasks (arXiv:1909.03368).";

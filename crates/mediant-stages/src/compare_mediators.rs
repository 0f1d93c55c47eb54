//! `compare_mediators`: what searches found, side by side, with intervals, controls and corrected differences.

use std::collections::{BTreeMap, BTreeSet};

use mediant_artifact::{Facts, Kind, MetricRow, TableFacts, write_metrics};
use mediant_engine::{Docs, InputFacts, Output, Port, Ports, Problems, RunContext, SourcePaths, Stage, StageError};
use mediant_methods::standings::{Entry, Standing, differences};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod tables;

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct CompareMediators;

/// Options of `compare_mediators`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Axes whose points are repetitions: of the model, or of the search. The spread over them is shown.
    #[serde(default = "seeds")]
    seeds: Vec<String>,
    /// Of the bootstrap.
    #[serde(default)]
    seed: u64,
}

fn seeds() -> Vec<String> {
    vec!["seed".to_owned()]
}

const PORTS: &[Port] = &[
    Port::many("effects", &[Kind::Effects], "The effects of every search, of `evaluate_mediator`."),
    Port::many(
        "shuffled",
        &[Kind::Effects],
        "The same for searches with shuffled labels (`shuffle_labels: true`): what they reach without anything to find.",
    ),
    Port::many(
        "random_model",
        &[Kind::Effects],
        "The same for searches in a randomly initialised model: what they reach where nothing was learnt.",
    ),
];

impl Stage for CompareMediators {
    type Config = Config;
    const NAME: &'static str = "compare_mediators";
    const VERSION: u32 = 1;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Searches for mediators side by side: faithfulness, areas, size, controls, corrected differences",
            details: DETAILS,
            example: "compare:\n  uses: compare_mediators\n  inputs: { effects: eval, shuffled: eval_shuffled, random_model: eval_random }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![
            Output::new("standings", Kind::Table, "One row a search: areas with intervals, sizes, controls and cost."),
            Output::new("curves", Kind::Table, "One row a set: faithfulness against its size."),
            Output::new("differences", Kind::Table, "One row two searches: the paired difference of their CPR."),
            Output::new("spread", Kind::Table, "One row a search: its CPR over seeds."),
            Output::new("metrics", Kind::Metrics, "The standings as metrics."),
        ]
    }

    fn infer(&self, _: &Config, _: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let table = |name: &str| (name.to_owned(), Facts::Table(TableFacts { columns: None }));
        let mut facts: Vec<_> = ["standings", "curves", "differences", "spread"].into_iter().map(table).collect();
        facts.push(("metrics".to_owned(), Facts::Metrics));
        Ok(facts)
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let (entries, shuffled, random) = (read(cx, "effects")?, read(cx, "shuffled")?, read(cx, "random_model")?);
        check(&entries, &shuffled, &random)?;
        let standings = |entries| Standings::new(entries, config.seed);
        let (shuffled, random) = (standings(&shuffled), standings(&random));
        let standings = standings(&entries);
        if let Some(standing) = standings.0.iter().find(|standing| standing.random.is_none()) {
            let (name, mediator) = (standing.entry.name(), &standing.entry.mediator);
            let why = format!(
                "`{name}` has no random items beside it: no evaluation of {mediator} here drew any (`random_draws`)"
            );
            return Err(StageError::new(why));
        }
        let mut controlled = Vec::with_capacity(entries.len());
        for standing in &standings.0 {
            controlled.push(tables::Controlled {
                standing,
                shuffled: shuffled.of("shuffled", standing.entry)?,
                random_model: random.of("random_model", standing.entry)?,
            });
        }
        let axes: BTreeSet<&String> = entries.iter().flat_map(|entry| entry.labels.keys()).collect();
        let axes: Vec<&str> = axes.into_iter().map(String::as_str).collect();
        tables::write_standings(cx.output("standings")?, &axes, &controlled)?;
        tables::write_curves(cx.output("curves")?, &axes, &config.seeds, &standings.0)?;
        tables::write_differences(cx.output("differences")?, &standings.0, &differences(&standings.0))?;
        tables::write_spread(cx.output("spread")?, &axes, &config.seeds, &standings.0)?;
        let rows: Vec<MetricRow> = controlled.iter().flat_map(tables::Controlled::metrics).collect();
        write_metrics(cx.output("metrics")?, &rows)?;
        Ok(())
    }
}

/// The effects at a port.
fn read(cx: &RunContext<'_, Config>, port: &str) -> Result<Vec<Entry>, StageError> {
    let entry = |member: mediant_engine::Member| {
        let name = member.name.map(|name| ("name".to_owned(), name));
        let labels: BTreeMap<String, String> = member.labels.into_iter().chain(name).collect();
        Entry::read(&member.artifact, labels)
            .map_err(|error| StageError::from(error).context(format!("input `{port}`")))
    };
    cx.members(port)?.into_iter().map(entry).collect()
}

/// Whether the controls are controls.
fn check(entries: &[Entry], shuffled: &[Entry], random: &[Entry]) -> Result<(), StageError> {
    if let Some(entry) = entries.iter().find(|entry| entry.shuffled) {
        return Err(StageError::new(format!("`{}` had shuffled labels: connect it to `shuffled`", entry.name())));
    }
    if let Some(entry) = shuffled.iter().find(|entry| !entry.shuffled) {
        let why = format!(
            "input `shuffled`: `{}` had the labels as they are; search with `shuffle_labels: true`",
            entry.name()
        );
        return Err(StageError::new(why));
    }
    let models: BTreeSet<_> = entries.iter().map(|entry| entry.model).collect();
    if let Some(entry) = random.iter().find(|entry| models.contains(&entry.model)) {
        let why = format!("input `random_model`: `{}` is of one of the models that are compared", entry.name());
        return Err(StageError::new(why));
    }
    Ok(())
}

struct Standings<'e>(Vec<Standing<'e>>);

impl<'e> Standings<'e> {
    fn new(entries: &'e [Entry], seed: u64) -> Self {
        // Random sets are of the items, not of the search: one evaluation of a family may draw for all.
        let family = |entry: &Entry| {
            (
                entry.mediator.clone(),
                entry.outside.clone(),
                entry.metric.clone(),
                entry.model,
                entry.prompts,
                entry.items,
            )
        };
        let drew = |entry: &&Entry| entry.sets.iter().any(|set| set.kind == "random");
        let standing = |entry: &'e Entry| {
            let others = entries.iter().filter(|other| family(other) == family(entry));
            Standing::of(entry, [entry].into_iter().chain(others).find(drew), seed)
        };
        Self(entries.iter().map(standing).collect())
    }

    /// The control of an entry: the same search of the same kind of mediator, where both have a label the same one.
    fn of(&self, port: &str, entry: &Entry) -> Result<&Standing<'e>, StageError> {
        let is_control = |control: &&Standing<'_>| {
            let Entry { mediator, search, outside, metric, labels, .. } = control.entry;
            let same =
                (mediator, search, outside, metric) == (&entry.mediator, &entry.search, &entry.outside, &entry.metric);
            same && labels.iter().all(|(axis, label)| entry.labels.get(axis).is_none_or(|own| own == label))
        };
        self.0.iter().find(is_control).ok_or_else(|| {
            let (mediator, search) = (&entry.mediator, &entry.search);
            let why = format!("input `{port}` has no control for `{}`: {mediator} searched by {search}", entry.name());
            StageError::new(why)
        })
    }
}

const DETAILS: &str = "\
The last of three stages: it collects the effects of `evaluate_mediator`, does the statistics, and runs no forward pass, so that adding a mediator runs that \
mediator only. It refuses without its controls: for every search the same search with shuffled labels, and the same in a randomly initialised model \
(supervised methods fit those too); random items, everything and nothing are in the effects themselves. Controls are matched by mediator, search, metric and the labels \
of the axes that both have.

`standings`, one row a search:

- `cpr_signed`, `cpr_absolute`: the area under F over the share of the items that is kept, from none to all, by trapezoids (MIB's CPR; higher is better), \
  items chosen by signed score or by its magnitude; `cmd_signed`, `cmd_absolute`: the area under |1 − F| (CMD; 0 is best). MIB publishes `cpr_signed` and `cmd_absolute`. \
  For one selection CPR + CMD is at least the width of the integral, 1 (MIB's begins at 0.001).
- `coverage`, `nothing`: F of all items and of none. The curves have `own`, F from the family's own nothing to its own everything.
- `size_at_0.9`, `bits_at_0.9`, `weighted_edges_at_0.9`: the smallest set with F of at least 0.9, in items, in bits (log₂ C(N, k)) and in weighted edges; null where none is.
- `minimality`: the share of the items of one set (`minimality_items` of them) without which F changes by more than 0.01.
- `random_cpr` with `random_cpr_low`, `random_cpr_high`: mean and central 95 percent of the CPR of random orders, at MIB's sizes; `above_random`: the share of them \
  below this search's at the same sizes. The random sets may be those of another search of the same items, model and prompts.
- `shuffled_cpr`, `random_model_cpr`: `cpr_signed` of the two controls.
- `search_passes`, `evaluation_passes`: forward-pass equivalents over the prompts; seconds and memory are in the report.

Intervals hold 95 percent of 1,000 draws of groups of prompts (a task's groups share template and names), paired: all searches on the same prompts have the same draws. \
`differences` has, for every two searches on one model and the same prompts, the difference of `cpr_signed`, its paired interval, a two-sided p and the same after Holm's \
correction over all rows. `spread`: mean, standard deviation, least and largest CPR over the axes of `seeds`. `curves` has the columns that the report draws (docs/report.md).

Sources: MIB, Mueller et al. 2025 (arXiv:2504.13151); Wang et al. 2022 (arXiv:2211.00593); Holm 1979; Adebayo et al. 2018 (arXiv:1810.03292) for randomised models.";

//! `compare_mediators`: what searches found, side by side, with intervals, controls and corrected differences.

use std::collections::BTreeSet;

use mediant_artifact::{Facts, Kind, MetricRow, TableFacts, write_metrics};
use mediant_engine::{Docs, InputFacts, Output, Port, Ports, Problems, RunContext, SourcePaths, Stage, StageError};
use mediant_methods::standings::{Contender, differences};
use mediant_spec::did_you_mean;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::collected::Collected;
use self::curves::write_curves;
use self::differences::{write_differences, write_spread};
use self::features::{ControlledFeatures, write_features};
use self::standings::{Controlled, write_standings};

mod collected;
mod columns;
mod curves;
mod differences;
mod features;
mod planned;
mod standings;

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
    Port::many(
        "effects",
        &[Kind::Effects],
        "Of every search the effects of `evaluate_mediator`, or the answers of `interchange`.",
    ),
    Port::any(
        "shuffled",
        &[Kind::Effects],
        "The same for searches with shuffled labels (`shuffle_labels: true`): what they reach without anything to find. Only where no search has labels may it be left out.",
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
    const VERSION: u32 = 5;

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
            Output::new(
                "features",
                Kind::Table,
                "One row a search, site and size: accuracies with controls, of `interchange`.",
            ),
            Output::new("differences", Kind::Table, "One row two searches: the paired difference of CPR or accuracy."),
            Output::new("spread", Kind::Table, "One row a search: CPR or accuracy over seeds."),
            Output::new("metrics", Kind::Metrics, "Standings and features as metrics."),
        ]
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let known: BTreeSet<&str> =
            inputs.many("effects").iter().flat_map(|member| &member.labels).map(|(axis, _)| axis.as_str()).collect();
        let unknown = |seed: &String| !known.contains(seed.as_str());
        // The default is of whoever has an axis of that name.
        if config.seeds != seeds()
            && let Some(place) = config.seeds.iter().position(unknown)
        {
            let seed = &config.seeds[place];
            let problem = Problems::config(format!("seeds[{place}]"), format!("`effects` collects no axis `{seed}`"));
            let near = did_you_mean(seed, known.iter().copied());
            let all = || format!("it collects {}", known.iter().copied().collect::<Vec<_>>().join(", "));
            return Err(match near {
                Some(near) => problem.help(format!("did you mean `{near}`?")),
                None if known.is_empty() => problem.help("remove it"),
                None => problem.help(all()),
            });
        }
        planned::check(inputs)?;
        let table = |name: &str| (name.to_owned(), Facts::Table(TableFacts { columns: None }));
        let mut facts: Vec<_> =
            ["standings", "curves", "features", "differences", "spread"].into_iter().map(table).collect();
        facts.push(("metrics".to_owned(), Facts::Metrics));
        Ok(facts)
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let Config { seeds, seed } = cx.config();
        let [effects, shuffled, random] =
            [Collected::read(cx, "effects")?, Collected::read(cx, "shuffled")?, Collected::read(cx, "random_model")?];
        collected::check(&effects, &shuffled, &random)?;
        let standings = effects.standings(*seed);
        let (of_shuffled, of_random) = (shuffled.standings(*seed), random.standings(*seed));
        let sets = collected::controlled(&standings, &of_shuffled, &of_random)?;
        let exchanges = effects.exchanges(*seed);
        let (of_shuffled, of_random) = (shuffled.exchanges(*seed), random.exchanges(*seed));
        let features = collected::controlled_features(&exchanges, &of_shuffled, &of_random)?;

        let axes: BTreeSet<&String> = effects.origins().flat_map(|origin| origin.search.labels.keys()).collect();
        let axes: Vec<&str> = axes.into_iter().map(String::as_str).collect();
        let contenders = standings.iter().map(Contender::of_sets).chain(exchanges.iter().map(Contender::of_exchange));
        let contenders: Vec<Contender<'_>> = contenders.collect();
        write_standings(cx.output("standings")?, &axes, &sets)?;
        write_curves(cx.output("curves")?, &axes, seeds, &standings)?;
        write_features(cx.output("features")?, &axes, &features)?;
        write_differences(cx.output("differences")?, &contenders, &differences(&contenders, *seed))?;
        write_spread(cx.output("spread")?, &axes, seeds, &contenders)?;
        let of_features = features.iter().flat_map(ControlledFeatures::metrics);
        let rows: Vec<MetricRow> = sets.iter().flat_map(Controlled::metrics).chain(of_features).collect();
        write_metrics(cx.output("metrics")?, &rows)?;
        Ok(())
    }
}

const DETAILS: &str = "\
The last of three stages: it collects the effects of `evaluate_mediator` and the answers of `interchange`, does the statistics, and runs no forward pass, so that adding a mediator runs that \
mediator only. It refuses without its controls: for every search the same search with shuffled labels (but of one without labels, such as `pca`, which is compared beside others), and the same in a randomly initialised model \
(supervised methods fit those too); random items and features, everything and nothing are in the effects themselves. Controls are matched by mediator, search, metric, `outside`, prompts and the labels \
of the axes that both have, shuffled labels also by model; of features also by site and, but for masks, by size. A control of nothing that is compared is an error, too. All of this \
is checked when planning as far as the pipeline says it; which model and prompts a digest means, and sites, when it runs.

`standings`, one row a search for sets of parts (sublayers, heads, neurons, edges, latents):

- `cpr_signed`, `cpr_absolute`: the area under F over the share of the items that is kept, from none to all, by trapezoids (MIB's CPR; higher is better), \
  items chosen by signed score or by its magnitude; `cmd_signed`, `cmd_absolute`: the area under |1 − F| (CMD; 0 is best). MIB publishes `cpr_signed` and `cmd_absolute`. \
  For one selection CPR + CMD is at least the width of the integral, 1 (MIB's begins at 0.001).
- `coverage`, `nothing`: F of all items and of none. The curves have `own`, F from the family's own nothing to its own everything.
- `size_at_0.9`, `bits_at_0.9`, `weighted_edges_at_0.9`: the smallest set with F of at least 0.9, in items, in bits (log₂ C(N, k)) and in weighted edges; null where none is.
- `minimality`: the share of the items of one set (`minimality_items` of them) without which F changes by more than 0.01.
- `without_error`: of latents, F of all of them without the dictionary's error: what the dictionary itself carries.
- `off_target_loss`: where the evaluation had `neutral` text, by how much its loss rises (nats a token) without the `off_target_items` items of largest signed score.
- `random_cpr` with `random_cpr_low`, `random_cpr_high`: mean and central 95 percent of the CPR of random orders, at MIB's sizes; `above_random`: the share of them \
  below this search's at the same sizes. The random sets may be those of another search of the same items, model and prompts.
- `shuffled_cpr`, `random_model_cpr`: `cpr_signed` of the two controls, each over the sizes that it was measured at (`sizes: benchmark` is enough for a control).
- `search_passes`, `evaluation_passes`: forward-pass equivalents over the prompts, of features of the whole search, all its sites and ranks together; seconds and memory are in the report.

`features`, one row a search, site (hook point and positions) and size (rank of a subspace, or features that a mask chooses): `iia`, interchange-intervention accuracy, with \
`full_vector_iia` (everything at the site; trained features may move more than that does, where it moves little), `random_iia` (as many random features), `shuffled_iia`, `random_model_iia` and `random_model_full_vector_iia` of the two controls, and \
`iia_before`, how many prompts answer so without an interchange. `size_bits` is 16·r·d for r directions of d numbers; log₂ C(N, k) for k of N dimensions or latents that a mask chooses; \
of directions that a mask chooses, both. CPR and accuracy measure different things: the one what is left when all else is patched, the other what moves when it alone is; no row compares them.

Intervals hold 95 percent of 1,000 draws of groups of prompts (a task's groups share template and names), paired: all searches on the same prompts have the same draws. \
`differences` has, for every two searches on one model and the same prompts, measured by the same metric, the difference of `cpr_signed`, and of `iia` at one site, its paired interval over 100,000 draws, a two-sided p (at least 2 · 2⁻ᴳ of G groups, that of a sign test in which all agree) and the same after Holm's \
correction over all rows. `spread`: mean, standard deviation, least and largest over the axes of `seeds`. `curves` has the columns that the report draws (docs/report.md). \
Rows and metrics name their axes, `mediator`, `search`, `metric` and `outside`; an axis with the name of one of these, or of another column, is `axis_NAME`, unless it says the same.

Sources: MIB, Mueller et al. 2025 (arXiv:2504.13151); Geiger et al. 2021 (arXiv:2106.02997); Wang et al. 2022 (arXiv:2211.00593); Holm 1979; Adebayo et al. 2018 (arXiv:1810.03292) for randomised models.";

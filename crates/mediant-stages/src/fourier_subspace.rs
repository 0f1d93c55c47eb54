//! `fourier_subspace`: where a model of modular addition is known to hold a number.

use std::collections::BTreeMap;

use mediant_artifact::{
    Artifact, DirectionsFacts, DirectionsMeta, Facts, Kind, MetricRow, ModelFacts, ModelReader, ModelTokenizer,
    PromptsFacts, SearchFacts, SubspaceFact, write_directions, write_metrics, write_prompts,
};
use mediant_engine::{Docs, InputFacts, Output, Port, Ports, Problems, RunContext, SourcePaths, Stage, StageError};
use mediant_lm::{HookPoint, Positions, Slot, load};
use mediant_methods::modular_addition::{ANOTHER, Operand, Part, SPANS, Spectrum, VARIABLES, numbers, sums};
use mediant_methods::subspace::Site;
use mediant_tensor::{Device, on_device};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::masked::DIRECTIONS;
use crate::sites::{directions_output, positions_json, rows_of};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct FourierSubspace;

/// Options of `fourier_subspace`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The fewest frequencies that have this share of the embedding's squared norm are the key frequencies: above 0, at most 1. 0.95
    /// if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    share: Option<f64>,
    /// In place of `share`, the key frequencies: from 1 to half of the modulus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    frequencies: Option<Vec<usize>>,
    /// The number that is another in the counterfactual; the subspace is at its position.
    #[serde(default)]
    changes: Operand,
    /// The numbers that this one is taken from; left out, all. No number is in both parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    split: Option<Part>,
    /// Number of prompts.
    #[serde(default = "hundred")]
    n: u64,
    /// Chooses the prompts; the subspace has nothing that is drawn.
    #[serde(default)]
    seed: u64,
}

fn hundred() -> u64 {
    100
}

/// Prompts are made in memory.
const MOST_PROMPTS: u64 = 100_000;

const USUAL_SHARE: f64 = 0.95;

const ARCHITECTURE: &str = "modular_addition";

const PORTS: &[Port] =
    &[Port::one("model", &[Kind::Model], "A model of modular addition, as `load_model` reads them.")];

impl Config {
    fn site(&self) -> Result<Site, mediant_lm::Error> {
        let point: HookPoint = "blocks.0.hook_resid_pre".parse()?;
        Ok(Site { point, positions: Positions::Span(self.changes.name().to_owned()) })
    }

    fn key_frequencies(&self, spectrum: &Spectrum) -> Vec<usize> {
        match &self.frequencies {
            Some(frequencies) => frequencies.clone(),
            None => spectrum.key_frequencies(self.share.unwrap_or(USUAL_SHARE)),
        }
    }

    /// Whether the options fit the modulus.
    fn check_modulus(&self, modulus: usize) -> Problems {
        let mut problems = Problems::none();
        for (i, k) in self.frequencies.iter().flatten().enumerate().filter(|(_, k)| !(1..=modulus / 2).contains(*k)) {
            let message = format!("modulo {modulus}, the frequencies are 1 to {}; there is no {k}", modulus / 2);
            problems.push(Problems::config(format!("frequencies[{i}]"), message));
        }
        let left = numbers(modulus, self.split).len();
        if left < 2 {
            let message = format!("leaves {left} of {modulus} numbers, and none can become another");
            problems.push(Problems::config("split", message));
        }
        problems
    }
}

const METHOD: &str = "fourier";

impl Stage for FourierSubspace {
    type Config = Config;
    const NAME: &'static str = "fourier_subspace";
    const VERSION: u32 = 1;

    fn docs(&self) -> Docs {
        Docs {
            summary: "The Fourier subspace of a model of modular addition, the truth that a search for a subspace should find, and its prompts",
            details: DETAILS,
            example: "truth:\n  uses: fourier_subspace\n  inputs: { model: model }\n  with: { share: 0.95, n: 200 }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![
            directions_output(),
            Output::new("prompts", Kind::Prompts, "Sums, each with the counterfactual `another`."),
            Output::new(
                "metrics",
                Kind::Metrics,
                "`norm_share`, the share of the embedding's squared norm, of every frequency.",
            ),
        ]
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        let mut problems = Problems::none();
        if config.n == 0 || config.n > MOST_PROMPTS {
            problems.push(Problems::config("n", format!("must be from 1 to {MOST_PROMPTS}")));
        }
        if config.share.is_some_and(|share| !(share > 0.0 && share <= 1.0)) {
            problems.push(Problems::config("share", "must be above 0 and at most 1"));
        }
        if let Some(frequencies) = &config.frequencies {
            if config.share.is_some() {
                problems.push(Problems::config("share", "`frequencies` chooses them already").help("remove one"));
            }
            if frequencies.is_empty() {
                problems.push(Problems::config("frequencies", "no frequency is listed"));
            }
            for (i, k) in frequencies.iter().enumerate().filter(|(i, k)| frequencies[..*i].contains(k)) {
                problems.push(Problems::config(format!("frequencies[{i}]"), format!("{k} is listed twice")));
            }
        }
        problems.finish()
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let model = inputs.model("model").ok_or_else(|| Problems::input("model", "is not known"))?;
        check_architecture(model)?;
        config.check_modulus(model.vocab_size).finish()?;
        let site = config.site().map_err(|error| Problems::input("model", error.to_string()))?;
        let subspaces = model.hook(&site.point.to_string()).map(|hook| {
            vec![SubspaceFact { hook: hook.clone(), positions: positions_json(&site.positions), rank: None }]
        });
        let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        let prompts = PromptsFacts {
            counterfactuals: vec![ANOTHER.to_owned()],
            spans: names(&SPANS),
            tokenizer: model.tokenizer.digest(),
            vocab_size: Some(model.vocab_size),
            longest: Some(SPANS.len()),
            prompts: Some(config.n),
            prepend_bos: false,
            wrong: Some(true),
            variables: names(&VARIABLES),
        };
        let search = SearchFacts { mediator: DIRECTIONS.to_owned(), method: METHOD.to_owned(), shuffled: None };
        let directions = Facts::Directions(DirectionsFacts { nested: Some(true), subspaces, search: Some(search) });
        Ok(vec![
            ("directions".to_owned(), directions),
            ("prompts".to_owned(), Facts::Prompts(prompts)),
            ("metrics".to_owned(), Facts::Metrics),
        ])
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let model = cx.input("model")?;
        let (modulus, embedding) = embedding(&model)?;
        let spectrum = Spectrum::new(&embedding, modulus)?;
        let keys = config.key_frequencies(&spectrum);
        let (vectors, along) = spectrum.subspace(&keys)?;
        let named = keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let (rank, of, percent) = (vectors.len(), spectrum.frequencies.len(), 100.0 * along.iter().sum::<f64>());
        cx.note(format!(
            "{} of {of} frequencies ({named}) span {rank} dimensions with {percent:.1} % of the squared norm",
            keys.len()
        ));
        let meta = DirectionsMeta {
            method: METHOD.to_owned(),
            nested: true,
            value: Some("explained_variance".to_owned()),
            model: Some(cx.input_digest("model")?),
            settings: BTreeMap::from([("frequencies".to_owned(), named)]),
            ..DirectionsMeta::default()
        };
        let rows = rows_of(&config.site()?, &vectors, |index| along.get(index).copied());
        write_directions(cx.output("directions")?, meta, &rows)?;

        let tokenizer = ModelReader::open(&model)?.meta.tokenizer;
        let tokenizer = tokenizer.ok_or_else(|| StageError::new("the model has no tokenizer"))?;
        let prompts = sums(modulus, config.changes, &numbers(modulus, config.split), config.n, config.seed);
        write_prompts(cx.output("prompts")?, &[ANOTHER.to_owned()], tokenizer, modulus, false, &prompts)?;

        let metrics: Vec<MetricRow> = spectrum
            .frequencies
            .iter()
            .map(|one| MetricRow {
                name: "norm_share".to_owned(),
                value: one.share,
                unit: "1".to_owned(),
                n: modulus as u64,
                numerator: Some(one.squared_norm),
                denominator: Some(spectrum.squared_norm),
                tags: BTreeMap::from([
                    ("frequency".to_owned(), one.k.to_string()),
                    ("key".to_owned(), keys.contains(&one.k).to_string()),
                ]),
                ..MetricRow::default()
            })
            .collect();
        write_metrics(cx.output("metrics")?, &metrics)?;
        Ok(())
    }
}

/// Whether the tokens of the model are the numbers that it adds.
fn check_architecture(model: &ModelFacts) -> Result<(), Problems> {
    if model.architecture != ARCHITECTURE {
        let message = format!(
            "this is a {} model: a Fourier subspace is known of models of modular addition alone, whose tokens are the numbers they add",
            model.architecture
        );
        let help = "take a model of Zhong et al. 2023; `mediant stages load_model` says how they are read";
        return Err(Problems::input("model", message).help(help));
    }
    if model.tokenizer == ModelTokenizer::Absent {
        return Err(Problems::input("model", "it has no tokenizer, which its prompts are made for"));
    }
    Ok(())
}

/// How many numbers there are, and their embedding, `[numbers, d_model]`.
fn embedding(model: &Artifact) -> Result<(usize, Vec<f32>), StageError> {
    on_device!(Device::Cpu, C, device => {
        let model = load::<C>(model, &device)?;
        let embed = model.parameters().into_iter().find(|(slot, _)| *slot == Slot::Embed);
        Ok((model.config().vocab_size, embed.map(|(_, embed)| embed.into_values()).unwrap_or_default()))
    })
}

const DETAILS: &str = "\
A transformer that has learnt to add modulo C holds each number as waves: its embedding W_E `[C, d_model]` is, but for its mean over the numbers, a sum of a few of the frequencies \
k = 1, …, ⌊C/2⌋, the key frequencies, and it adds by what it does with cos(2πka/C), sin(2πka/C), cos(2πkb/C) and sin(2πkb/C). So the subspace that holds a number \
is known, and what a search finds (`pca`, `difference_of_means`, `train_probe`, `train_das`) can be compared with it: by `subspace_overlap`, and by `interchange` on the same prompts.

**Frequencies.** With the mean over the numbers taken out of W_E, c_k = Σ_t cos(2πkt/C) W_E[t] and s_k = Σ_t sin(2πkt/C) W_E[t], a frequency has 2/C (‖c_k‖² + ‖s_k‖²) of the squared norm Σ_t ‖W_E[t]‖²; \
k = C/2, which an even C has, has no sine and ‖c_k‖²/C of it. These are all of the squared norm (Parseval). `share` takes the fewest frequencies that have this share of it; `frequencies` names them. \
`metrics`: `norm_share` of every frequency (tags `frequency`; `key`, whether it is one of these), with numerator and denominator.

**Directions.** An orthonormal basis of the span of c_k and s_k over the key frequencies, at `blocks.0.hook_resid_pre` and the span of the number that changes: by Gram and Schmidt in f64, the frequency with the largest share first \
(of `frequencies`, in their order), cosine before sine. So the first vectors are the subspace of the first frequencies. A wave in the span of those before adds no vector. `value` is the share of the squared norm that lies along a vector. \
What `W_pos` adds there is the same for all numbers, and in no difference. The rank is known when the stage has run; a note tells it.

That a frequency is large in the embedding does not say that the model reads it; `interchange` does. Where no few frequencies stand out, in a random model say, the subspace of many is no truth about anything.

**Prompts** are `[a, b]` without BOS, drawn with replacement; the right answer is (a + b) mod C. The counterfactual `another` has another number in place of the one that `changes`, uniform over all others, and its right answer is the prompt's wrong one. \
Spans and variables `a` and `b`, variable `sum`. Prompts with the same number there are a group, for they have the same activation. With `split` this number, in prompt and counterfactual, is of one half of the numbers, \
so that a subspace that is trained on `train` is tested in `held_out` on activations that it has not seen. Which numbers are of which half depends on C alone.

Sources: Nanda et al. 2023, Progress measures for grokking via mechanistic interpretability (arXiv:2301.05217); Zhong et al. 2023, The Clock and the Pizza (arXiv:2306.17844).";

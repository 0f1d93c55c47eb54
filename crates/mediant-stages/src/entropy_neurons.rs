//! `entropy_neurons`: which neurons change predictions only through the scale of the last norm?

mod report;

use mediant_artifact::{Facts, Kind};
use mediant_engine::{
    Docs, InputFacts, Output, Port, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_methods::beginning;
use mediant_methods::entropy_neurons::{Activity, LastLayer, Spectrum, Write, ablate_neurons};
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::report::Report;
use crate::columns::table_facts;
use crate::device::compute_device;
use crate::model_input::check_tokens;
use crate::named::{MODELS, Passes, check_apart, check_no_norm_between, corpus, member, named};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct EntropyNeurons;

/// Options of `entropy_neurons`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The model on which neurons are chosen, for all models; may be left out where there is one model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    choose_on: Option<String>,
    /// Which neurons: `{ top: 3 }`, or `{ neurons: [584, 2123] }`.
    #[serde(default)]
    choose: Choose,
    /// How many rows of the corpus, from its first.
    #[serde(default = "rows")]
    sequences: usize,
    /// How many tokens of a row, from its first.
    #[serde(default = "length")]
    length: usize,
    /// How many of the directions that the unembedding reads least count as its null space; by default a sixteenth of the model's width.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    null_directions: Option<usize>,
    /// Also measure each model with an entropy neuron planted in it, as a control of the method.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    plant: bool,
    /// Of the bootstrap.
    #[serde(default)]
    seed: u64,
}

/// Which neurons are ablated.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Choose {
    /// So many, the likeliest by their weights.
    Top(usize),
    /// These of the last MLP.
    Neurons(Vec<usize>),
}

impl Default for Choose {
    fn default() -> Self {
        Self::Top(3)
    }
}

fn rows() -> usize {
    250
}

fn length() -> usize {
    512
}

/// Candidates in the table.
const CANDIDATES_KEPT: usize = 100;

const PORTS: &[Port] = &[MODELS, Port::one("tokens", &[Kind::Tokens], "What is predicted.")];

const EFFECTS: [&str; 16] = [
    "model",
    "planted",
    "neurons",
    "measure",
    "part",
    "n",
    "mean",
    "mean_low",
    "mean_high",
    "size",
    "size_low",
    "size_high",
    "relative",
    "size_q25",
    "size_median",
    "size_q75",
];
const CANDIDATES: [&str; 8] = ["model", "planted", "place", "neuron", "norm", "logit_var", "ratio", "chosen"];
const PROFILE: [&str; 7] = ["model", "planted", "neuron", "direction", "singular_value", "cos2", "cumulative"];

impl Stage for EntropyNeurons {
    type Config = Config;
    const NAME: &'static str = "entropy_neurons";
    const VERSION: u32 = 2;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Neurons that write where the unembedding hardly reads, and what they change directly and through the last norm's scale",
            details: DETAILS,
            example: "confidence:\n  uses: entropy_neurons\n  inputs: { models: { original: model, ln_free: ln_free }, tokens: tokens.test }\n  with: { choose_on: original, choose: { top: 3 }, plant: true }\n",
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
                "`ce_loss` and `entropy`, what ablation changes of them directly and through the scale, and `null_mass` of every neuron.",
            ),
            Output::new("effects", Kind::Table, "Every ablation's effects: in all, directly, through the scale."),
            Output::new("candidates", Kind::Table, "The neurons that are likeliest by their weights."),
            Output::new("profile", Kind::Table, "Of each neuron, what it writes along each singular direction."),
        ]
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        let mut problems = Problems::none();
        for (field, value) in [("sequences", config.sequences), ("length", config.length)] {
            if value == 0 {
                problems.push(Problems::config(field, "must be at least 1"));
            }
        }
        if config.length == 1 {
            problems.push(Problems::config("length", "the first token of a row is not predicted"));
        }
        if config.null_directions == Some(0) {
            problems.push(Problems::config("null_directions", "must be at least 1"));
        }
        match &config.choose {
            Choose::Top(top) if !(1..=CANDIDATES_KEPT).contains(top) => {
                problems.push(Problems::config("choose.top", format!("must be between 1 and {CANDIDATES_KEPT}")));
            }
            Choose::Neurons(list) if list.is_empty() => {
                problems.push(Problems::config("choose.neurons", "no neuron is listed"));
            }
            Choose::Neurons(list) => {
                if let Some(again) = (1..list.len()).find(|&i| list[..i].contains(&list[i])) {
                    problems.push(Problems::config(format!("choose.neurons[{again}]"), "is listed twice"));
                }
            }
            Choose::Top(_) => {}
        }
        problems.finish()
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let mut problems = Problems::none();
        problems.check(check_apart(inputs, "models"));
        problems.check(check_tokens(inputs, "models", "tokens"));
        problems.check(check_no_norm_between(inputs, "ln2_post", "the last MLP"));
        match &config.choose_on {
            Some(name) => problems.check(member(inputs, "models", "choose_on", name)),
            None if inputs.many("models").len() > 1 => {
                let which = Problems::config("", "on which of the models are neurons chosen?");
                problems.push(which.help("`choose_on: NAME`"));
            }
            None => {}
        }
        let models = inputs.many("models").iter().filter_map(|member| member.facts.model());
        let sizes: Vec<(usize, usize)> = models.map(|model| (model.d_mlp, model.d_model)).collect();
        if let Some(other) = sizes.iter().find(|size| size.0 != sizes[0].0) {
            let message =
                format!("they have {} and {} neurons in the last MLP: not the same ones", sizes[0].0, other.0);
            problems.push(Problems::input("models", message));
        }
        if let Some((neurons, width)) = sizes.first() {
            if let Choose::Neurons(list) = &config.choose {
                for (i, neuron) in list.iter().enumerate().filter(|(_, neuron)| *neuron >= neurons) {
                    let message = format!("there is no neuron {neuron}; the last MLP has 0 to {}", neurons - 1);
                    problems.push(Problems::config(format!("choose.neurons[{i}]"), message));
                }
            }
            // One of them is that of the mean.
            let most = width.saturating_sub(1);
            if config.null_directions.is_some_and(|count| count >= most) {
                let message = format!("must be below {most}: all directions are no null space");
                problems.push(Problems::config("null_directions", message));
            }
        }
        problems.finish()?;
        Ok(vec![
            ("metrics".to_owned(), Facts::Metrics),
            ("effects".to_owned(), table_facts(&EFFECTS)),
            ("candidates".to_owned(), table_facts(&CANDIDATES)),
            ("profile".to_owned(), table_facts(&PROFILE)),
        ])
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        Resources::all_cpus()
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let (models, corpora) = (named(cx, "models")?, named(cx, "tokens")?);
        let (tokens, documents) = corpus(&corpora[0])?;
        let (tokens, documents) = beginning(&tokens, &documents, config.sequences, config.length);
        let choose_on = config.choose_on.as_deref().unwrap_or(&models[0].label);
        let chooser = models.iter().find(|model| model.label == choose_on);
        let chooser = chooser.ok_or_else(|| StageError::new(format!("there is no model `{choose_on}`")))?;
        let mut report = Report::new(config.seed, &tokens.meta.split);
        on_device!(compute_device(cx.device()), C, device => {
            let loaded = mediant_lm::load::<C>(&chooser.artifact, &device)?;
            let candidates = LastLayer::of(&loaded)?.candidates::<C>(&device)?;
            let chosen = match &config.choose {
                Choose::Top(top) => candidates.iter().take(*top).map(|candidate| candidate.neuron).collect(),
                Choose::Neurons(list) => list.clone(),
            };
            report.candidates(choose_on, false, &candidates, &chosen);
            let mut passes = Passes::of(cx, models.len() * (2 + usize::from(config.plant)), tokens.meta.tokens);
            for model in &models {
                let loaded = mediant_lm::load::<C>(&model.artifact, &device)?;
                let layer = LastLayer::of(&loaded)?;
                let spectrum = layer.spectrum();
                let null = config.null_directions.unwrap_or_else(|| loaded.config().d_model.div_ceil(16));
                let activity = Activity::of(&loaded, &tokens, passes.step())?;
                passes.passed(tokens.meta.tokens);
                let mut subject = Subject { model: &model.label, planted: false, layer, spectrum, null };
                let sets = sets(&chosen);
                let writes: Vec<Vec<Write>> = sets.iter().map(|set| subject.writes(set)).collect();
                let effects = ablate_neurons(&loaded, &tokens, &documents, &activity, &writes, None, passes.step())?;
                passes.passed(tokens.meta.tokens);
                if !report.effects(&subject, &sets, &effects) && model.label == choose_on {
                    cx.note("no neuron that was chosen changes entropy more through the scale of the last norm than directly: none is an entropy neuron");
                }
                chosen.iter().for_each(|neuron| report.profile(&subject, *neuron));
                if config.plant {
                    let planted = activity.planted(&subject.layer, &subject.spectrum)?;
                    let own = subject.layer.write(planted.neuron);
                    let more = planted.vector.iter().zip(&own.vector).map(|(planted, own)| planted - own).collect();
                    let added = Write { neuron: planted.neuron, vector: more };
                    let set = vec![planted.neuron];
                    subject = Subject { planted: true, layer: subject.layer.with(&planted), ..subject };
                    let found = subject.layer.candidates::<C>(&device)?;
                    report.candidates(&model.label, true, &found, &set);
                    let effects = ablate_neurons(
                        &loaded, &tokens, &documents, &activity, &[vec![planted]], Some(&added), passes.step(),
                    )?;
                    passes.passed(tokens.meta.tokens);
                    report.effects(&subject, std::slice::from_ref(&set), &effects);
                    report.profile(&subject, set[0]);
                }
            }
            Ok::<_, StageError>(())
        })?;
        report.write(cx)
    }
}

/// Every neuron alone, then the first two, the first three and so on together.
fn sets(chosen: &[usize]) -> Vec<Vec<usize>> {
    let alone = chosen.iter().map(|neuron| vec![*neuron]);
    alone.chain((2..=chosen.len()).map(|count| chosen[..count].to_vec())).collect()
}

/// A model, with or without a planted neuron.
struct Subject<'n> {
    model: &'n str,
    planted: bool,
    layer: LastLayer,
    spectrum: Spectrum,
    /// Directions at the end of the spectrum that count as the null space.
    null: usize,
}

impl Subject<'_> {
    fn writes(&self, set: &[usize]) -> Vec<Write> {
        set.iter().map(|neuron| self.layer.write(*neuron)).collect()
    }
}

const DETAILS: &str = "\
An entropy neuron writes along directions that the unembedding hardly reads. It cannot move logits against each other by itself; what it does is to make the residual \
stream longer, which the last norm divides away from everything else, so that predictions become less sure. Without the norm's scale it has no effect.

**Choice.** With w what a neuron of the last MLP writes and u_v what the logit of token v reads (the last norm's gain and centring folded in, relative to the mean over the \
vocabulary): `logit_var` is the unbiased variance over v of cos(w, u_v), `norm` is |w|, and neurons are ordered by `ratio` = norm / logit_var. The first of them on `choose_on`, or those \
that are listed, are ablated in all models. `candidates` holds the first 100.

**Null space.** The unembedding's singular directions run from what it reads most to what it reads least; `singular_value` is over the largest. `profile` holds the squared cosine of w with each, and \
their sum so far. `null_mass` is the share on the last `null_directions`; of a neuron that writes anywhere it would be about null_directions / directions. The direction of the mean is none of \
them where it changes no logit: a LayerNorm takes it away, and where the norms are part of the weights the unembedding reads less than 1e-6 of its largest singular value there. w is then meant without its mean.

**Ablation.** The neuron's activation becomes its mean over the corpus, at every row that predicts a token that counts; only what comes after the last MLP is computed again. With r and r' the \
residual stream before and after, σ the scale of the last norm and m the loss or the entropy of a prediction:

- `total` = m(r', σ(r')) − m(r, σ(r));
- `direct` = m(r', σ(r)) − m(r, σ(r)): the scale stays what it was;
- `through_scale` = m(r', σ(r')) − m(r', σ(r)): what the change of the scale adds. The two sum to the total.

In a model whose last norm is frozen or removed σ does not depend on r, and the part through the scale is 0. `effects` has the mean of each part, `size`, the mean of its absolute value, and of the total its quartiles over predictions and \
`relative`, its mean in percent of the measure without ablation. Neurons are ablated each alone, then the first two, the first three and so on together. Metrics `ce_loss` and `entropy` are those \
without ablation; `ce_loss_change` is `relative`. Intervals hold 95 percent of 1,000 draws of documents.

**A control of the method.** With `plant: true` every model is measured once more with an entropy neuron in it (tag and column `planted`): the neuron whose activation varies most writes along the last singular direction \
instead, of the sign that makes the direction's largest entry positive, so much that one standard deviation of its activation is half of the usual length of the residual stream. On a model with a live norm it has to come first among the candidates and act through the scale. A model may have no entropy neurons of its own; a note says so when no chosen one changes entropy more through the scale than directly.

Sources: Stolfo et al. 2024, Confidence Regulation Neurons in Language Models (arXiv:2406.16254); Gurnee et al. 2024, Universal Neurons in GPT2 Language Models (arXiv:2401.12181); Baroni et al. 2025 \
(arXiv:2507.02559).";

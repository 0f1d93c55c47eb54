//! `evaluate_sae`: how well do autoencoders reconstruct, and what does splicing them into their model cost?

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use mediant_artifact::{
    ArtifactWriter, DictionaryFacts, Facts, Kind, TableFacts, TableMeta, Tokens, write_metrics, write_table,
};
use mediant_dict::evaluate::{ByBatch, Variant};
use mediant_engine::{
    Docs, InputFacts, Output, Port, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_lm::HookPoint;
use mediant_methods::sae_eval::{Options, SaeEvaluation, SpecialTokens, Spliced, sae_eval};
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::compute_device;
use crate::model_input::check_tokens;
use crate::sae_input::{Dictionary, check_dictionary, foreign, read_dictionary, written};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct EvaluateSae;

/// Options of `evaluate_sae`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// What happens at BOS and separators (tokens whose mask is not set).
    #[serde(default)]
    special_tokens: SpecialTokens,
    /// How active latents are chosen.
    #[serde(default, skip_serializing_if = "Choose::is_inference")]
    choose: Choose,
    /// Other definitions of explained variance to give beside `ev_mc`, for comparison with published numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    variants: Vec<Variant>,
    /// Bins of equal width of an activation for `mdl_entropy`.
    #[serde(default = "seven_bits")]
    mdl_bins: usize,
    /// Positions in the table `zf`, evenly spaced over all that are measured.
    #[serde(default = "thousand")]
    zf_rows: usize,
    /// Of the bootstrap.
    #[serde(default)]
    seed: u64,
}

/// How active latents are chosen.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Choose {
    /// As the autoencoder does it at inference; `batchtopk` and `matryoshka` have a threshold then.
    #[default]
    Inference,
    /// Of `batchtopk` and `matryoshka`: the largest of each batch of positions, with the k and the batch of the training.
    Batch,
}

impl Choose {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
    fn is_inference(&self) -> bool {
        *self == Self::Inference
    }
}

fn seven_bits() -> usize {
    128
}

fn thousand() -> usize {
    1000
}

const PORTS: &[Port] = &[
    Port::one("model", &[Kind::Model], "The model that dictionaries are spliced into."),
    Port::optional("sae", &[Kind::Dictionary], "The autoencoder or transcoder; it knows its hook points."),
    Port::any(
        "saes",
        &[Kind::Dictionary],
        "Instead of `sae`: several that write different hook points, spliced in together.",
    ),
    Port::one("tokens", &[Kind::Tokens], "What is measured on."),
];

const DENSITY: [&str; 5] = ["hook", "sae", "low", "high", "latents"];
const ZF: [&str; 7] = ["hook", "sae", "example", "position", "z_norm", "f_norm", "eps_lbo"];

impl Stage for EvaluateSae {
    type Config = Config;
    const NAME: &'static str = "evaluate_sae";
    const VERSION: u32 = 2;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Reconstruction, sparsity, and the model's predictions with autoencoders in place",
            details: DETAILS,
            example: "eval:\n  uses: evaluate_sae\n  inputs: { model: model, sae: sae, tokens: tokens.test }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![
            Output::new("metrics", Kind::Metrics, "`ev_mc`, `l0`, `ce_score`, `kl_score` and others, with intervals."),
            Output::new("density", Kind::Table, "How many latents are active how often: a row a bin."),
            Output::new("zf", Kind::Table, "Norms of inputs and codes: a row a position."),
        ]
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        let mut problems = Problems::none();
        if !(1..=1 << 16).contains(&config.mdl_bins) {
            problems.push(Problems::config("mdl_bins", "must be between 1 and 65536"));
        }
        for (i, variant) in config.variants.iter().enumerate() {
            if config.variants[..i].contains(variant) {
                problems.push(Problems::config(format!("variants[{i}]"), "is listed twice"));
            }
        }
        problems.finish()
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let mut problems = Problems::none();
        problems.check(check_tokens(inputs, "model", "tokens"));
        match (inputs.many("sae").is_empty(), inputs.many("saes").is_empty()) {
            (true, true) => {
                let nothing = Problems::config("", "no autoencoder is connected");
                problems.push(nothing.help("connect one to `sae`, or several of different hooks to `saes`"));
            }
            (false, false) => {
                let both = Problems::input("saes", "is connected beside `sae`");
                problems.push(both.help("connect all that are spliced in together to `saes`"));
            }
            _ => {}
        }
        let mut hooks: Vec<&str> = Vec::new();
        for (port, sae) in connected(inputs) {
            if let Some(model) = inputs.model("model") {
                problems.check(check_dictionary(port, sae, model));
                problems.check(check_order(port, sae));
            }
            let (out, _) = written(sae);
            if hooks.contains(&out) {
                let twice = Problems::input(port, format!("two of them write `{out}`"));
                problems.push(twice.help("only one can be spliced in at a hook point; connect them to `sae` of stages of their own, or make a matrix of them"));
            }
            hooks.push(out);
            if config.choose == Choose::Batch && sae.architecture != "jumprelu" {
                let message = format!("a `{}` autoencoder does not choose by batch", sae.architecture);
                problems.push(
                    Problems::config("choose", message)
                        .help("`batch` is for those trained as `batchtopk` or `matryoshka`"),
                );
            }
        }
        problems.finish()?;
        let table = |columns: &[&str]| {
            Facts::Table(TableFacts { columns: Some(columns.iter().map(|name| (*name).to_owned()).collect()) })
        };
        Ok(vec![
            ("metrics".to_owned(), Facts::Metrics),
            ("density".to_owned(), table(&DENSITY)),
            ("zf".to_owned(), table(&ZF)),
        ])
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        Resources::all_cpus()
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let mut spliced = Vec::new();
        let mut own_model = true;
        let members = cx.members("sae")?.into_iter().map(|member| (false, member));
        for (several, member) in members.chain(cx.members("saes")?.into_iter().map(|member| (true, member))) {
            let Dictionary { sae, meta, hook, out } = read_dictionary(&member.artifact)?;
            if let Some(note) = foreign(&meta, cx.input_digest("model")?) {
                own_model = false;
                cx.note(note);
            }
            let labels = member.labels.iter().map(|(axis, label)| format!("{axis}={label}"));
            let labels = member.name.into_iter().chain(labels).collect::<Vec<_>>().join(",");
            let name = (several && !labels.is_empty()).then_some(labels);
            let batch = match config.choose {
                Choose::Inference => None,
                Choose::Batch => Some(ByBatch::of_training(&meta)?),
            };
            spliced.push(Spliced { name, sae, hook, out, batch });
        }
        let tokens = Tokens::read(&cx.input("tokens")?)?;
        let options = Options {
            special_tokens: config.special_tokens,
            variants: config.variants.clone(),
            mdl_bins: config.mdl_bins,
            zf_rows: config.zf_rows,
        };
        let found = on_device!(compute_device(cx.device()), C, device => {
            let model = mediant_lm::load::<C>(&cx.input("model")?, &device)?;
            sae_eval(&model, spliced, &tokens, &options, |done, total| {
                cx.progress(done, total, "tokens");
                cx.check_cancelled()
            })
        })?;
        let mut metrics = found.metrics(config.seed);
        for row in &mut metrics {
            row.split = Some(tokens.meta.split.clone());
            if !own_model {
                row.tags.insert("model".to_owned(), "not the one trained on".to_owned());
            }
        }
        write_metrics(cx.output("metrics")?, &metrics)?;
        write_density(cx.output("density")?, &found)?;
        write_zf(cx.output("zf")?, &found)
    }
}

/// A transcoder can be spliced in where a pass comes to what it reads before it comes to what it writes.
fn check_order(port: &str, sae: &DictionaryFacts) -> Result<(), Problems> {
    let point = |name: &str| name.parse::<HookPoint>().ok();
    match &sae.hook_out {
        Some(out) if point(&out.name) < point(&sae.hook) => {
            let (hook, out) = (&sae.hook, &out.name);
            let message = format!("it writes `{out}`, which a forward pass reaches before `{hook}`, which it reads");
            Err(Problems::input(port, message))
        }
        _ => Ok(()),
    }
}

/// The dictionaries and their ports.
fn connected(inputs: &InputFacts) -> impl Iterator<Item = (&'static str, &DictionaryFacts)> {
    ["sae", "saes"].into_iter().flat_map(|port| {
        let members = inputs.many(port).iter();
        members.filter_map(move |member| Some((port, member.facts.dictionary()?)))
    })
}

fn write_density(artifact: ArtifactWriter, found: &SaeEvaluation) -> Result<(), StageError> {
    let rows = found.density().flat_map(|(hook, sae, bins)| bins.into_iter().map(move |bin| (hook.clone(), sae, bin)));
    let rows: Vec<_> = rows.collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.iter().map(|(hook, ..)| hook))),
        Arc::new(rows.iter().map(|(_, sae, _)| *sae).collect::<StringArray>()),
        Arc::new(rows.iter().map(|(.., bin)| bin.low).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|(.., bin)| bin.high).collect::<Float64Array>()),
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|(.., bin)| bin.latents))),
    ];
    let types = [DataType::Utf8, DataType::Utf8, DataType::Float64, DataType::Float64, DataType::UInt64];
    let meta =
        ("Density of latents", "Latents by log10 of the part of the positions in which they are active; null: never");
    write(artifact, &DENSITY, types, columns, meta)
}

fn write_zf(artifact: ArtifactWriter, found: &SaeEvaluation) -> Result<(), StageError> {
    let rows = found.zf().flat_map(|(hook, sae, rows)| rows.iter().map(move |row| (hook.clone(), sae, row)));
    let rows: Vec<_> = rows.collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.iter().map(|(hook, ..)| hook))),
        Arc::new(rows.iter().map(|(_, sae, _)| *sae).collect::<StringArray>()),
        Arc::new(UInt32Array::from_iter_values(rows.iter().map(|(.., row)| row.example))),
        Arc::new(UInt32Array::from_iter_values(rows.iter().map(|(.., row)| row.position))),
        Arc::new(Float64Array::from_iter_values(rows.iter().map(|(.., row)| row.point.z_norm))),
        Arc::new(Float64Array::from_iter_values(rows.iter().map(|(.., row)| row.point.f_norm))),
        Arc::new(Float64Array::from_iter_values(rows.iter().map(|(.., row)| row.point.eps_lbo))),
    ];
    let number = DataType::Float64;
    let types =
        [DataType::Utf8, DataType::Utf8, DataType::UInt32, DataType::UInt32, number.clone(), number.clone(), number];
    let meta =
        ("Norms of inputs and codes", "‖z‖ of what the latents are to make, ‖f‖ of the code, and the bound eps_lbo");
    write(artifact, &ZF, types, columns, meta)
}

fn write<const N: usize>(
    artifact: ArtifactWriter,
    names: &[&str; N],
    types: [DataType; N],
    columns: Vec<ArrayRef>,
    (title, description): (&str, &str),
) -> Result<(), StageError> {
    // Null is an autoencoder without a name, and the bins of latents that are never active.
    let nullable = |name: &str| ["sae", "low", "high"].contains(&name);
    let fields = names.iter().zip(types).map(|(name, of)| Field::new(*name, of, nullable(name)));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let rows = RecordBatch::try_new(schema.clone(), columns)?;
    let meta = TableMeta { title: title.to_owned(), description: description.to_owned() };
    write_table(artifact, schema, [Ok(rows)], &meta)?;
    Ok(())
}

const DETAILS: &str = "\
At the hook of each autoencoder, over all positions whose mask is set, with x the activation, f its code and x̂ its reconstruction (n \
positions, d dimensions, h latents; for transcoders see below):

- `ev_mc` = 1 − E‖x − x̂‖² / (E‖x‖² − ‖E x‖²): explained variance about the mean (SAELens since 6.45.1). A reconstruction that is the \
  mean scores 0. Numerator and denominator are `mse` and the variance; `nmse` = 1 − `ev_mc` is their quotient (the normalised MSE of Gao et \
  al. 2024);
- `mse` = E‖x − x̂‖², summed over dimensions; `cossim` = E cos(x, x̂); `relative_reconstruction_bias` = E‖x̂‖² / E x·x̂ \
  (arXiv:2404.16014);
- `l2_norm_in` = E‖x‖, `l2_norm_out` = E‖x̂‖; `l2_ratio` = E ‖x̂‖/‖x‖, where ‖x‖ below 1e-4 counts as 1 (SAELens); `shrinkage` = the mean of \
  ‖x̂‖/‖x‖ over positions with ‖x‖ above 1e-6 (SAELens' synthetic benchmark): below 1 where the autoencoder shrinks;
- `l0` = mean number of active latents, `l1` = mean of Σ|f|;
- `mdl_l0` = `l0` · (7 + log2 h) bits: an index and seven bits of value for each active latent; `mdl_entropy` = \
  Σ_i H(p_i) + p_i H_i bits, where p_i is the part of the positions at which latent i is active, H(p) = −p log2 p − (1 − p) log2 (1 − p), and \
  H_i the entropy of its active values in `mdl_bins` bins of equal width from 0 to its largest: how long a code is for one who knows \
  these frequencies (Ayonrinde et al. 2024, arXiv:2410.11179; they choose the bins by the error that rounding makes);
- `eps_lbo` = |‖x‖² − ‖f‖²| / ((h − 1) ‖f‖²), quantiles over positions (tag `quantile`): so much must some two decoder directions overlap. \
  Here ‖f‖ is that of the latents times the norms of their decoder rows, with ‖b_dec‖ as one more (top-AFA);
- `dead_fraction`: latents never active in these tokens; `density_above_1pct`, `density_above_10pct`: latents active in more than that \
  part of them. Their numerators are the counts.

`variants` adds other definitions of explained variance under their own names, each as its tool computes it on a batch that is the \
whole sample: `ev_token_legacy`, the mean of 1 − ‖x − x̂‖²/‖x − E x‖² (SAELens before 6.45.1); `ev_saebench060`, \
1 − `mse` / (E‖x‖² − (E‖x‖²/d)²), which calls the mean alone nearly perfect; `ev_trainer` (SAELens' training log) and `fvu_sparsify`, on \
the whole sample `ev_mc` and 1 − `ev_mc`; `fve_dl`, 1 − Σ Var(x − x̂)/Σ Var(x), to which a constant offset is no error \
(dictionary_learning); `r2_overcomplete`, about one mean of all numbers.

In the model, as the mean over predicted tokens whose mask is set, in nats: `ce_clean`, the cross-entropy as it is (the `ce_loss` of \
`evaluate_lm`), `ce_sae` with x̂ in the place of x, `ce_zero_ablation` with zeros at every position of the hook, `ce_mean_ablation` with E x where x̂ \
would be; `kl_sae`, `kl_zero_ablation`, `kl_mean_ablation`: KL(as it is ‖ changed) of the same predictions. Of these, each kept with numerator \
and denominator,

- `ce_score` = (`ce_zero_ablation` − `ce_sae`) / (`ce_zero_ablation` − `ce_clean`) (SAELens' `ce_loss_score`, dictionary_learning's \
  `frac_recovered`), and `ce_score_mean` with `ce_mean_ablation` in the place of `ce_zero_ablation`: zeros are far from any activation, so that \
  nearly everything recovers much of what they cost;
- `kl_score` = (`kl_zero_ablation` − `kl_sae`) / `kl_zero_ablation`, and `kl_score_mean`.

**Transcoders.** f is of the activation x at `hook`, and what is measured is the output ŷ against the activation y at `hook_out`: y and ŷ stand for x \
and x̂ in all metrics above, `l2_norm_in` = E‖y‖ among them, and in the table `zf`. What a skip connection makes is part of ŷ; ‖x‖ in `eps_lbo` and `zf` \
is ‖y − x W_skipᵀ‖ then, the norm of what is left for the latents. In the model ŷ is put in at `hook_out`, made of what the pass with all dictionaries in place has at \
`hook`; zeros and the mean of y are put in there too. Metrics have the tag `hook_out`. (SAELens 6.54 has no evaluation of transcoders; where it attaches them \
to a model, `HookedSAETransformer`, it leaves W_skip out.)

BOS and separators keep their activations when the autoencoder is spliced in and are not measured at the hook, as in SAELens and SAEBench; \
`special_tokens: replaced` treats them like all others. (SAELens also leaves out the loss of predictions made at those positions, and \
takes divergences at last positions too.)

The tag `latents` says how active latents were chosen: `relu`, `gated`, `topk`, `threshold` (`jumprelu`, and `batchtopk` and `matryoshka` at \
inference), or `batch`. With `choose: batch` the ⌊k · batch⌋ largest activations of each batch are active, with the k and batch of \
the training; batches are of measured positions in their order, the last may be smaller, and where several autoencoders are spliced in \
the least active value of a batch is that of the unchanged activations.

With `saes` several autoencoders of different hooks are spliced in at once. What is measured at hooks is that of each on unchanged activations \
(tag `hook`, and `sae` where labels of axes or names tell them apart); what is measured in the model is that of all together, each reading what those before it leave.

`density` is the histogram of log10 of the part of the positions at which a latent is active, in bins of a quarter (`low` < x ≤ `high`, null: \
never active). `zf` has ‖x‖, ‖f‖ and `eps_lbo` at `zf_rows` positions, evenly spaced: the data of a ZF plot.

Intervals are 95 percent percentile bootstrap intervals over sequences, which are taken together in at most 200 groups of neighbours; 1,000 \
draws, the same for all metrics. `n` is the number of positions or of predicted tokens.";

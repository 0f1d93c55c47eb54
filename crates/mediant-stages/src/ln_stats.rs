//! `ln_stats`: what the norms of a model divide by.

use mediant_artifact::{Facts, Kind, Tokens};
use mediant_engine::{
    Docs, InputFacts, Output, Port, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_lm::{ScaleStatistics, scale_statistics};
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::columns::{Columns, table_facts};
use crate::device::compute_device;
use crate::model_input::check_tokens;

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct LnStats;

/// `ln_stats` has no options.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {}

const PORTS: &[Port] =
    &[Port::one("model", &[Kind::Model], "The model."), Port::one("tokens", &[Kind::Tokens], "What it reads.")];

const COLUMNS: [&str; 6] = ["norm", "position", "token", "n", "mean", "sd"];

/// The quantiles, with the names of their columns.
const QUANTILES: [(&str, f64); 9] = [
    ("min", 0.0),
    ("p1", 0.01),
    ("p5", 0.05),
    ("p25", 0.25),
    ("p50", 0.5),
    ("p75", 0.75),
    ("p95", 0.95),
    ("p99", 0.99),
    ("max", 1.0),
];

impl Stage for LnStats {
    type Config = Config;
    const NAME: &'static str = "ln_stats";
    const VERSION: u32 = 1;

    fn docs(&self) -> Docs {
        Docs {
            summary: "What each norm of a language model divides by, by position and token",
            details: DETAILS,
            example: "scales:\n  uses: ln_stats\n  inputs: { model: model, tokens: tokens.test }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![Output::new("scales", Kind::Table, "A row a norm and class of tokens.")]
    }

    fn infer(&self, _: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        check_tokens(inputs, "model", "tokens")?;
        Ok(vec![("scales".to_owned(), table_facts(&[&COLUMNS[..], &QUANTILES.map(|(name, _)| name)].concat()))])
    }

    fn resources(&self, _: &Config, inputs: &InputFacts) -> Resources {
        let norms = inputs.model("model").map_or(0, |model| 2 * model.n_layers as u64 + 1);
        let tokens = inputs.tokens("tokens").and_then(|tokens| tokens.tokens).unwrap_or(0);
        let parameters = inputs.model("model").map_or(0, |model| model.parameters);
        Resources { memory: 4 * (norms * tokens + parameters) + 16 * tokens + (256 << 20), ..Resources::all_cpus() }
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let tokens = Tokens::read(&cx.input("tokens")?)?;
        let shares = QUANTILES.map(|(_, share)| share);
        let statistics = on_device!(compute_device(cx.device()), C, device => {
            let model = mediant_lm::load::<C>(&cx.input("model")?, &device)?;
            scale_statistics(&model, &tokens, &shares, |done, total| {
                cx.progress(done, total, "tokens");
                cx.check_cancelled()
            })
        })?;
        table(&statistics).write(
            cx.output("scales")?,
            "Scales of the norms",
            "What each norm computes to divide by, or would if it were live",
        )
    }
}

fn table(statistics: &[ScaleStatistics]) -> Columns {
    let class = |class: Option<bool>, [yes, no]: [&'static str; 2]| match class {
        Some(true) => yes,
        Some(false) => no,
        None => "all",
    };
    let shared = Columns::default()
        .text("norm", statistics.iter().map(|row| &row.norm))
        .text("position", statistics.iter().map(|row| class(row.first, ["first", "rest"])))
        .text("token", statistics.iter().map(|row| class(row.special, ["separator", "other"])))
        .count("n", statistics.iter().map(|row| row.n))
        .number("mean", statistics.iter().map(|row| row.mean))
        .number("sd", statistics.iter().map(|row| row.sd));
    let quantiles = QUANTILES.iter().enumerate();
    quantiles.fold(shared, |table, (index, (name, _))| {
        table.number(name, statistics.iter().map(move |row| row.quantiles[index]))
    })
}

const DETAILS: &str = "\
σ of a row x is `√(mean((x − mean(x))²) + ε)` for a LayerNorm and `√(mean(x²) + ε)` for an RMSNorm, with x what the norm reads: the residual stream before attention (`blocks.0.ln1`), before the MLP \
(`blocks.0.ln2`), before the unembedding (`ln_final`). It is computed whether the norm is live, frozen or part of the weights. Queries, keys and values read the same stream \
and so have one σ. The norms after a part (Gemma 2) are not among these.

Rows come in classes: `position` is `first` in a sequence or `rest`, `token` is a `separator` (the token between documents, or BOS) or `other`; `all` and `all` are all rows together. Classes \
without a row are left out. `sd` is over n, quantiles are between neighbours by linear interpolation. All tokens count, whether they are predicted or not.";

//! `ln_stats`: what the norms of a model divide by.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{Field, Schema};
use mediant_artifact::{Facts, Kind, TableFacts, TableMeta, Tokens, write_table};
use mediant_engine::{
    Docs, InputFacts, Output, Port, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_lm::{ScaleStatistics, scale_statistics};
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

/// The quantiles, in percent.
const QUANTILES: [u32; 7] = [1, 5, 25, 50, 75, 95, 99];

const COLUMNS: [&str; 6] = ["norm", "position", "token", "n", "mean", "sd"];

fn columns() -> Vec<String> {
    let quantiles = ["min".to_owned()].into_iter().chain(QUANTILES.map(|percent| format!("p{percent}")));
    COLUMNS.map(str::to_owned).into_iter().chain(quantiles).chain(["max".to_owned()]).collect()
}

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
        Ok(vec![("scales".to_owned(), Facts::Table(TableFacts { columns: Some(columns()) }))])
    }

    fn resources(&self, _: &Config, inputs: &InputFacts) -> Resources {
        let norms = inputs.model("model").map_or(0, |model| 2 * model.n_layers as u64 + 1);
        let tokens = inputs.tokens("tokens").and_then(|tokens| tokens.tokens).unwrap_or(0);
        let parameters = inputs.model("model").map_or(0, |model| model.parameters);
        Resources { memory: 4 * (norms * tokens + parameters) + 16 * tokens + (256 << 20), ..Resources::all_cpus() }
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let tokens = Tokens::read(&cx.input("tokens")?)?;
        let shares: Vec<f64> =
            [0.0].into_iter().chain(QUANTILES.map(|percent| f64::from(percent) / 100.0)).chain([1.0]).collect();
        let statistics = on_device!(compute_device(cx.device()), C, device => {
            let model = mediant_lm::load::<C>(&cx.input("model")?, &device)?;
            scale_statistics(&model, &tokens, &shares, |done, total| {
                cx.progress(done, total, "tokens");
                cx.check_cancelled()
            })
        })?;
        let table = table(&statistics)?;
        let meta = TableMeta {
            title: "Scales of the norms".to_owned(),
            description: "What each norm computes to divide by, or would if it were live".to_owned(),
        };
        write_table(cx.output("scales")?, table.schema(), [Ok(table)], &meta)?;
        Ok(())
    }
}

fn table(statistics: &[ScaleStatistics]) -> Result<RecordBatch, StageError> {
    let class = |class: Option<bool>, [yes, no]: [&'static str; 2]| match class {
        Some(true) => yes,
        Some(false) => no,
        None => "all",
    };
    let texts = |text: &dyn Fn(&ScaleStatistics) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(statistics.iter().map(text)))
    };
    let numbers = |number: &dyn Fn(&ScaleStatistics) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(statistics.iter().map(number)))
    };
    let mut arrays = vec![
        texts(&|row| row.norm.clone()),
        texts(&|row| class(row.first, ["first", "rest"]).to_owned()),
        texts(&|row| class(row.special, ["separator", "other"]).to_owned()),
        Arc::new(UInt64Array::from_iter_values(statistics.iter().map(|row| row.n))),
        numbers(&|row| row.mean),
        numbers(&|row| row.sd),
    ];
    arrays.extend((0..QUANTILES.len() + 2).map(|index| numbers(&|row| row.quantiles[index])));
    let fields: Vec<Field> = columns()
        .into_iter()
        .zip(&arrays)
        .map(|(name, array)| Field::new(name, array.data_type().clone(), false))
        .collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}

const DETAILS: &str = "\
σ of a row x is `√(mean((x − mean(x))²) + ε)` for a LayerNorm and `√(mean(x²) + ε)` for an RMSNorm, with x what the norm reads: the residual stream before attention (`blocks.0.ln1`), before the MLP \
(`blocks.0.ln2`), before the unembedding (`ln_final`). It is computed whether the norm is live, frozen or part of the weights. Queries, keys and values read the same stream \
and so have one σ. The norms after a part (Gemma 2) are not among these.

Rows come in classes: `position` is `first` in a sequence or `rest`, `token` is a `separator` (the token between documents, or BOS) or `other`; `all` and `all` are all rows together. Classes \
without a row are left out. `sd` is over n, quantiles are between neighbours by linear interpolation. All tokens count, whether they are predicted or not.";

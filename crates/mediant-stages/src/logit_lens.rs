//! `logit_lens`: what the model would answer after each layer.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use mediant_artifact::{Contrast, Facts, Kind, ModelReader, TableFacts, TableMeta, write_table};
use mediant_engine::{
    Docs, InputFacts, Output, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_lm::Positions;
use mediant_lm::text::Tokenizer;
use mediant_methods::{Lens, Metric, Reading};
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::compute_device;
use crate::measuring::{self, Asked, Counterfactual};
use crate::prompts_input::{check_positions, check_reach};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct LogitLens;

/// Options of `logit_lens`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Where to look.
    #[serde(default = "last")]
    positions: Positions,
    /// What is measured of the answer.
    #[serde(default)]
    metric: Metric,
    /// How many of the most probable tokens are kept.
    #[serde(default = "five")]
    top: usize,
    /// Of the bootstrap.
    #[serde(default)]
    seed: u64,
}

fn last() -> Positions {
    Positions::Last
}

fn five() -> usize {
    5
}

const LENS: [&str; 6] = ["example", "layer", "position", "metric", "probability", "rank"];
const TOP: [&str; 7] = ["example", "layer", "position", "place", "token", "probability", "text"];

impl Config {
    fn asked(&self) -> Asked<'_> {
        Asked { metric: self.metric, counterfactual: Counterfactual::None, seed: self.seed }
    }
}

impl Stage for LogitLens {
    type Config = Config;
    const NAME: &'static str = "logit_lens";
    const VERSION: u32 = 2;

    fn docs(&self) -> Docs {
        Docs {
            summary: "What the model would answer if the residual stream after each layer were its last",
            details: DETAILS,
            example: "lens:\n  uses: logit_lens\n  inputs: { model: model, prompts: prompts }\n  with: { metric: prob, top: 3 }\n",
        }
    }

    fn inputs(&self) -> Ports {
        measuring::PORTS
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        let mut outputs = vec![
            Output::new(
                "lens",
                Kind::Table,
                "A row an example, layer and position: metric, probability and rank of the right answer.",
            ),
            Output::new(
                "top",
                Kind::Table,
                "The most probable tokens of each of these rows, with their probabilities.",
            ),
        ];
        outputs.extend(measuring::outputs());
        outputs
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        match config.top {
            0 => Err(Problems::config("top", "must be at least 1")),
            _ => Ok(()),
        }
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let mut problems = config.asked().check(inputs);
        problems.check(check_positions("positions", &config.positions, inputs));
        problems.check(check_reach("positions", &config.positions, inputs));
        if let Some(model) = inputs.model("model").filter(|model| config.top > model.vocab_size) {
            problems.push(Problems::config("top", format!("the model has only {} tokens", model.vocab_size)));
        }
        let measured = measuring::facts(problems)?;
        let table = |columns: &[&str]| {
            Facts::Table(TableFacts { columns: Some(columns.iter().map(|name| (*name).to_owned()).collect()) })
        };
        let mut facts = vec![("lens".to_owned(), table(&LENS)), ("top".to_owned(), table(&TOP))];
        facts.extend(measured);
        Ok(facts)
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        measuring::RESOURCES
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let run = config.asked().open(cx, Self::NAME)?;
        let tokenizer = Tokenizer::from_files(&ModelReader::open(&run.model)?.files)?;
        let lens = Lens { positions: config.positions.clone(), metric: config.metric, top: config.top };
        let mut readings = Vec::new();
        on_device!(compute_device(cx.device()), C, device => {
            let model = mediant_lm::load::<C>(&run.model, &device)?;
            let settings = [("positions", config.positions.to_string())];
            let mediators = lens.mediators(model.config().n_layers, &run.pairs);
            let mut recorder = run.recorder(Contrast::Share, settings, mediators)?;
            let each = |some| {
                readings.extend(some);
                Ok(())
            };
            lens.look(&model, &run.pairs, &mut recorder, each, run.progress())?;
            run.finish(recorder)
        })?;
        if readings.is_empty() {
            return Err(StageError::new("no prompt has a position that `positions` chooses"));
        }
        let meta =
            |title: &str, description: &str| TableMeta { title: title.to_owned(), description: description.to_owned() };
        let rows = lens_rows(&readings)?;
        let about = meta("Logit lens", "What the model would answer after each layer");
        write_table(cx.output("lens")?, rows.schema(), [Ok(rows)], &about)?;
        let rows = top_rows(&readings, tokenizer.as_ref())?;
        let about = meta("Logit lens: most probable tokens", "What the model would say after each layer");
        write_table(cx.output("top")?, rows.schema(), [Ok(rows)], &about)?;
        Ok(())
    }
}

fn schema(names: &[&str], types: &[DataType]) -> SchemaRef {
    let fields = names.iter().zip(types).map(|(name, of)| Field::new(*name, of.clone(), *of == DataType::Utf8));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn lens_rows(readings: &[Reading]) -> Result<RecordBatch, StageError> {
    use DataType::{Float64, UInt32};
    let counts = |value: fn(&Reading) -> u32| -> ArrayRef {
        Arc::new(UInt32Array::from_iter_values(readings.iter().map(value)))
    };
    let numbers = |value: fn(&Reading) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(readings.iter().map(value)))
    };
    let columns = vec![
        counts(|reading| reading.example),
        counts(|reading| reading.layer),
        counts(|reading| reading.position),
        numbers(|reading| reading.metric),
        numbers(|reading| reading.probability),
        counts(|reading| reading.rank),
    ];
    Ok(RecordBatch::try_new(schema(&LENS, &[UInt32, UInt32, UInt32, Float64, Float64, UInt32]), columns)?)
}

/// The text of a token is as the tokenizer decodes it alone; none without a tokenizer.
fn top_rows(readings: &[Reading], tokenizer: Option<&Tokenizer>) -> Result<RecordBatch, StageError> {
    use DataType::{Float64, UInt32, Utf8};
    let all = readings.iter().flat_map(|reading| reading.top.iter().enumerate().map(move |top| (reading, top)));
    let all: Vec<_> = all.collect();
    let counts = |value: fn(&Reading, usize, u32) -> u32| -> ArrayRef {
        let values = all.iter().map(|(reading, (place, (token, _)))| value(reading, *place, *token));
        Arc::new(UInt32Array::from_iter_values(values))
    };
    let texts = all.iter().map(|(_, (_, (token, _)))| match tokenizer {
        Some(tokenizer) => Ok(Some(tokenizer.decode(&[*token])?)),
        None => Ok(None),
    });
    let texts = texts.collect::<Result<Vec<Option<String>>, StageError>>()?;
    let columns: Vec<ArrayRef> = vec![
        counts(|reading, _, _| reading.example),
        counts(|reading, _, _| reading.layer),
        counts(|reading, _, _| reading.position),
        counts(|_, place, _| place as u32 + 1),
        counts(|_, _, token| token),
        Arc::new(Float64Array::from_iter_values(all.iter().map(|(_, (_, (_, probability)))| *probability))),
        Arc::new(StringArray::from(texts)),
    ];
    Ok(RecordBatch::try_new(schema(&TOP, &[UInt32, UInt32, UInt32, UInt32, UInt32, Float64, Utf8]), columns)?)
}

const DETAILS: &str = "\
After layer l the lens shows softmax(unembed(ln_final(`blocks.l.hook_resid_post`))): the model's own last norm and unembedding (with its \
soft cap, in Gemma 2), as if the later blocks were not there. After the last layer that is the model's answer.

`lens` has a row an example, layer and position: the `metric` through the lens, judged by the prompt's answers; `probability` of \
the right answers together; `rank` of the most probable right answer, 1 the first. `top` has the `top` most probable tokens of each row by \
`place`, with their probabilities, and their text where the model has a tokenizer. At the last position, the default, the answers are \
what comes next; elsewhere they are asked for early.

In the effects `patched` is the metric through the lens and `clean` that of the model's own answer at the last position; score = patched / \
clean, the share of the answer that is there after a layer. There is a mediator a layer, or a layer and position where `positions` is not \
`last`. The interval holds 95 percent of 1,000 draws of groups of prompts.

Source: nostalgebraist 2020, interpreting GPT: the logit lens. Early layers may speak in another basis than the unembedding reads (Belrose \
et al. 2023, arXiv:2303.08112), so a low rank there does not say that the answer is not there.";

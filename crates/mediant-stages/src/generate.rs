//! `generate`: continuing texts.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema};
use mediant_artifact::{Facts, Kind, ModelReader, ModelTokenizer, TableFacts, TableMeta, write_table};
use mediant_engine::{
    Docs, InputFacts, Output, Port, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_lm::text::Tokenizer;
use mediant_lm::{Sampling, Until};
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::compute_device;
use crate::direction::DICTIONARY;
use crate::interventions::{ACTIVATIONS, Intervention, Scene, check, resolve, with_interventions};
use crate::model_input::loaded_facts;

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct Generate;

/// Options of `generate`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Texts to continue; an empty one starts from BOS alone.
    prompts: Vec<String>,
    /// Most tokens to add to each.
    max_tokens: usize,
    /// How the next token is chosen; greedy unless a temperature is set.
    #[serde(default)]
    sampling: Sampling,
    /// Put BOS before every prompt.
    #[serde(default = "yes")]
    prepend_bos: bool,
    /// End a text after EOS.
    #[serde(default = "yes")]
    stop_at_eos: bool,
    /// Changes of activations on the way: `[{ at: blocks.2.hook_resid_post, do: zero, positions: { exclude_first: 1 } }]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    interventions: Vec<Intervention>,
    /// Of the draws.
    #[serde(default)]
    seed: u64,
}

fn yes() -> bool {
    true
}

const PORTS: &[Port] = &[Port::one("model", &[Kind::Model], "The model, with its tokenizer."), ACTIVATIONS, DICTIONARY];

const COLUMNS: [&str; 3] = ["prompt", "continuation", "tokens"];

impl Stage for Generate {
    type Config = Config;
    const NAME: &'static str = "generate";
    const VERSION: u32 = 2;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Continues texts, greedily or by sampling",
            details: DETAILS,
            example: "texts:\n  uses: generate\n  inputs: { model: model }\n  with: { prompts: [\"Once upon a time\"], max_tokens: 50 }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![Output::new("texts", Kind::Table, "A row a prompt: prompt, continuation, number of tokens added.")]
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        let mut problems = Problems::none();
        if config.prompts.is_empty() {
            problems.push(Problems::config("prompts", "there is no text to continue"));
        }
        if config.max_tokens == 0 {
            problems.push(Problems::config("max_tokens", "must be at least 1"));
        }
        let Sampling { temperature, top_k, top_p } = config.sampling;
        if !(temperature.is_finite() && temperature >= 0.0) {
            problems.push(Problems::config("sampling.temperature", "must be 0 or more"));
        }
        if temperature == 0.0 && (top_k.is_some() || top_p.is_some()) {
            let unused = if top_k.is_some() { "top_k" } else { "top_p" };
            let problem = Problems::config(format!("sampling.{unused}"), "changes nothing without a temperature");
            problems.push(problem.help("set `temperature` above 0, or remove it"));
        }
        if top_k == Some(0) {
            problems.push(Problems::config("sampling.top_k", "must be at least 1"));
        }
        if top_p.is_some_and(|p| !(p > 0.0 && p <= 1.0)) {
            problems.push(Problems::config("sampling.top_p", "must be above 0 and at most 1"));
        }
        problems.finish()
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let mut problems = Problems::none();
        if inputs.model("model").is_some_and(|model| model.tokenizer == ModelTokenizer::Absent) {
            problems.push(Problems::input("model", "this model has no tokenizer, and prompts are text"));
        }
        let context = inputs.model("model").map(|model| model.context);
        let scene = Scene { growing: true, context, ..Scene::default() };
        problems.check(check(&config.interventions, inputs, scene));
        problems.finish()?;
        let columns = COLUMNS.map(str::to_owned).to_vec();
        Ok(vec![("texts".to_owned(), Facts::Table(TableFacts { columns: Some(columns) }))])
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        Resources::all_cpus()
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let model = cx.input("model")?;
        let tokenizer = Tokenizer::from_files(&ModelReader::open(&model)?.files)?;
        let tokenizer = tokenizer.ok_or_else(|| StageError::new("this model has no tokenizer"))?;
        let needed = |wanted: bool, token: Option<u32>, what: &str| {
            let missing = || StageError::new(format!("{what}, and the tokenizer has none"));
            wanted.then(|| token.map(|id| id as i32).ok_or_else(missing)).transpose()
        };
        let bos = needed(config.prepend_bos, tokenizer.bos(), "`prepend_bos: true` needs a BOS token")?;
        let stop = needed(config.stop_at_eos, tokenizer.eos(), "`stop_at_eos: true` needs an EOS token")?;
        let prompts = config.prompts.iter().map(|prompt| {
            let ids = tokenizer.encode(prompt)?.ids;
            Ok(bos.into_iter().chain(ids.into_iter().map(|id| id as i32)).collect())
        });
        let prompts = prompts.collect::<Result<Vec<Vec<i32>>, StageError>>()?;
        let context = loaded_facts(&model)?.context;
        if let Some((index, prompt)) = prompts.iter().enumerate().find(|(_, prompt)| prompt.len() >= context) {
            let tokens = prompt.len();
            let why =
                format!("`prompts[{index}]` has {tokens} tokens, and the model's context of {context} leaves no room");
            return Err(StageError::new(why));
        }
        let until = Until { tokens: config.max_tokens, stop };
        let added = on_device!(compute_device(cx.device()), C, device => {
            let model = mediant_lm::load::<C>(&model, &device)?;
            let edits = resolve(cx, &config.interventions, &model, config.seed, None)?;
            let hooks = || edits.hooks();
            mediant_lm::generate(&model, &prompts, &config.sampling, &until, config.seed, hooks, |done| {
                cx.progress(done as u64, prompts.len() as u64, "prompts");
                cx.check_cancelled()
            })
        })?;
        let rows = rows(&tokenizer, &config.prompts, &prompts, &added)?;
        let meta = TableMeta {
            title: "Continuations".to_owned(),
            description: "Prompts as the model continues them".to_owned(),
        };
        write_table(cx.output("texts")?, rows.schema(), [Ok(rows)], &meta)?;
        Ok(())
    }
}

fn rows(
    tokenizer: &Tokenizer,
    texts: &[String],
    prompts: &[Vec<i32>],
    added: &[Vec<i32>],
) -> Result<RecordBatch, StageError> {
    let decode = |ids: &[i32]| tokenizer.decode(&ids.iter().map(|&id| id as u32).collect::<Vec<_>>());
    // Some tokenizers drop the space before a text's first word, so a continuation is what the whole text has more than its
    // beginning.
    let continuation = |(prompt, added): (&Vec<i32>, &Vec<i32>)| {
        let (start, whole) = (decode(prompt)?, decode(&[&prompt[..], added].concat())?);
        Ok(whole.strip_prefix(&start).map_or_else(|| decode(added), |rest| Ok(rest.to_owned()))?)
    };
    let continuations = prompts.iter().zip(added).map(continuation).collect::<Result<Vec<String>, StageError>>()?;
    let [prompt, text, tokens] = COLUMNS;
    let schema = Arc::new(Schema::new(vec![
        Field::new(prompt, DataType::Utf8, false),
        Field::new(text, DataType::Utf8, false),
        Field::new(tokens, DataType::UInt32, false),
    ]));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(texts)),
        Arc::new(StringArray::from(continuations)),
        Arc::new(UInt32Array::from_iter_values(added.iter().map(|added| added.len() as u32))),
    ];
    Ok(RecordBatch::try_new(schema, columns)?)
}

const DETAILS: &str = with_interventions!(
    "\
Keys and values of earlier tokens are kept, so that each step computes one position. With `temperature: 0` the token with the largest \
logit follows (the lowest id among equals). Otherwise a token is drawn from softmax(logits / `temperature`), limited to the `top_k` \
tokens with the largest logits, then to the fewest of these, by falling probability, whose probabilities reach `top_p` of what is left. \
A text ends after `max_tokens`, after EOS, or at the model's context.

The draws for a prompt come from a stream of their own, by `seed` and the prompt's place in the list; a prompt given twice is continued \
in two ways. No continuation depends on the other prompts.

Interventions are made at prompts and continuations alike, by position counted from the start of the text, BOS included; what the cache \
holds is what a pass over the whole text under the same interventions computes."
);

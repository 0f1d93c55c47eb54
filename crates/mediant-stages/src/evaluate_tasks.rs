//! `evaluate_tasks`: does the model prefer the right continuation?

use mediant_artifact::{Facts, Kind, ModelReader, ModelTokenizer, TableFacts, TableMeta, write_metrics, write_table};
use mediant_engine::{
    Docs, InputFacts, Output, Port, Ports, Problems, Resources, RunContext, Source, SourceKind, SourcePaths, Stage,
    StageError,
};
use mediant_lm::tasks::{JUDGED_COLUMNS, judge, judged_rows, read_items, summarize, table_items};
use mediant_lm::text::Tokenizer;
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::compute_device;
use crate::direction::DICTIONARY;
use crate::interventions::{ACTIVATIONS, Intervention, Scene, check, resolve, with_interventions};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct EvaluateTasks;

/// Options of `evaluate_tasks`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// A JSONL file of items: `right`, `wrong` and, as wanted, `prompt`, `task`, `split`, `group`, `condition`. Or connect `tasks`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// Put BOS before every text.
    #[serde(default = "yes")]
    prepend_bos: bool,
    /// Changes of activations on the way: `[{ at: blocks.2.hook_resid_post, do: zero, positions: { exclude_first: 1 } }]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    interventions: Vec<Intervention>,
    /// Of the bootstrap, and of interventions.
    #[serde(default)]
    seed: u64,
}

fn yes() -> bool {
    true
}

const PORTS: &[Port] = &[
    Port::one("model", &[Kind::Model], "The model, with its tokenizer."),
    Port::optional(
        "tasks",
        &[Kind::Table],
        "A table of items, such as `tasks` of `generate_corpus`, in place of `source`.",
    ),
    ACTIVATIONS,
    DICTIONARY,
];

impl Stage for EvaluateTasks {
    type Config = Config;
    const NAME: &'static str = "evaluate_tasks";
    const VERSION: u32 = 2;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Accuracy and logit differences on minimal pairs and cloze items",
            details: DETAILS,
            example: "tasks:\n  uses: evaluate_tasks\n  inputs: { model: model, tasks: corpus.tasks }\n",
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
                "`accuracy`, `top1_accuracy` and `logit_diff` of every task, group and condition.",
            ),
            Output::new("items", Kind::Table, "Every item with the log-probabilities of its continuations."),
        ]
    }

    fn sources(&self, config: &Config) -> Vec<Source> {
        let source = |path: &String| Source { field: "source".to_owned(), path: path.clone(), what: SourceKind::File };
        config.source.as_ref().map(source).into_iter().collect()
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let mut problems = Problems::none();
        if inputs.model("model").is_some_and(|model| model.tokenizer == ModelTokenizer::Absent) {
            problems.push(Problems::input("model", "this model has no tokenizer, and items are text"));
        }
        match (&config.source, inputs.table("tasks")) {
            (None, None) => problems
                .push(Problems::config("", "no items are given").help("set `source`, or connect the input `tasks`")),
            (Some(_), Some(_)) => {
                let both = Problems::config("source", "there are two lists of items, this one and the input `tasks`");
                problems.push(both.help("remove one of them"));
            }
            (None, Some(table)) => {
                let missing = |columns: &Vec<String>| {
                    ["right", "wrong"].into_iter().find(|name| !columns.iter().any(|known| known == name))
                };
                if let Some(missing) = table.columns.as_ref().and_then(missing) {
                    problems.push(Problems::input("tasks", format!("this table has no column `{missing}`")));
                }
            }
            (Some(_), None) => {}
        }
        let scene = Scene { context: inputs.model("model").map(|model| model.context), ..Scene::default() };
        problems.check(check(&config.interventions, inputs, scene));
        problems.finish()?;
        let columns = JUDGED_COLUMNS.map(str::to_owned).to_vec();
        Ok(vec![
            ("metrics".to_owned(), Facts::Metrics),
            ("items".to_owned(), Facts::Table(TableFacts { columns: Some(columns) })),
        ])
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        Resources::all_cpus()
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let items = match cx.optional("tasks")? {
            Some(table) => table_items(&table)?,
            None => read_items(cx.source("source")?)?,
        };
        let model = cx.input("model")?;
        let tokenizer = Tokenizer::from_files(&ModelReader::open(&model)?.files)?;
        let tokenizer = tokenizer.ok_or_else(|| StageError::new("this model has no tokenizer"))?;
        let bos = match (config.prepend_bos, tokenizer.bos()) {
            (true, None) => return Err(StageError::new("`prepend_bos: true` needs a BOS token, and none is known")),
            (prepend, bos) => bos.filter(|_| prepend),
        };
        let verdicts = on_device!(compute_device(cx.device()), C, device => {
            let model = mediant_lm::load::<C>(&model, &device)?;
            let total = items.len() as u64;
            let edits = resolve(cx, &config.interventions, &model, config.seed, None)?;
            judge(&model, &tokenizer, &items, bos, || edits.hooks(), |done| {
                cx.progress(done, total, "items");
                cx.check_cancelled()
            })
        })?;
        write_metrics(cx.output("metrics")?, &summarize(&items, &verdicts, config.seed))?;
        let rows = judged_rows(&items, &verdicts)?;
        let meta = TableMeta {
            title: "Task items".to_owned(),
            description: "Items with the model's log-probabilities".to_owned(),
        };
        write_table(cx.output("items")?, rows.schema(), [Ok(rows)], &meta)?;
        Ok(())
    }
}

const DETAILS: &str = with_interventions!(
    "\
An item is a prompt with a right and a wrong continuation, of any lengths; with an empty prompt the two are whole sentences, a minimal \
pair. Prompt and continuation are tokenized together. With s = log p(text) of either text in nats,

- `accuracy` is the share of items with s(right) > s(wrong);
- `logit_diff` is the mean of s(right) − s(wrong). What both texts begin with cancels; where each continuation is one token this is the \
  difference of their logits at the last position of the prompt;
- `top1_accuracy` is the share whose right continuation begins with the most probable of all tokens. It says more than `accuracy` where \
  the context leaves one answer (indirect object, induction, capitals), and nothing where it leaves many.

Each is given for every task and split (tag `task`, column `split`), and within it for every `group` and every `condition`. 95 percent \
intervals: of a task, a percentile bootstrap of 1,000 draws over groups, since items of one template are alike (over items where there are fewer than two groups); of one group or \
condition, Wilson's interval for shares and a bootstrap over items for the difference.

Interventions are made in the passes of both continuations; their positions are counted in prompt and continuation together, without the last \
token, which is only predicted."
);

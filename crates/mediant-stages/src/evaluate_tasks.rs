//! `evaluate_tasks`: does the model prefer the right continuation?

use mediant_artifact::{
    Artifact, Facts, Kind, MetricRow, ModelReader, ModelTokenizer, TableMeta, write_metrics, write_table,
};
use mediant_engine::{
    Docs, InputFacts, Output, Port, Ports, Problems, Resources, RunContext, Source, SourceKind, SourcePaths, Stage,
    StageError,
};
use mediant_lm::tasks::{
    JUDGED_COLUMNS, Summary, TaskItem, Verdict, judge, judged_rows, read_items, summarize, summarize_deltas,
    table_items,
};
use mediant_lm::text::Tokenizer;
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::against::{Against, MODEL, MODELS, named_models};
use crate::columns::table_facts;
use crate::device::compute_device;
use crate::direction::DICTIONARY;
use crate::interventions::{ACTIVATIONS, Intervention, Scene, check, resolve, with_interventions};
use crate::named::tags;

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
    /// With `models`: the one that the others are compared with, trained as they were with its norms kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    control: Option<String>,
    /// Instead of `control`: the one that the others are compared with, which is no control for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    without_control: Option<String>,
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
    MODEL,
    MODELS,
    Port::optional(
        "tasks",
        &[Kind::Table],
        "A table of items, such as `tasks` of `generate_corpus`, in place of `source`.",
    ),
    ACTIVATIONS,
    DICTIONARY,
];

impl Config {
    fn against(&self) -> Against<'_> {
        Against { control: &self.control, without_control: &self.without_control }
    }
}

impl Stage for EvaluateTasks {
    type Config = Config;
    const NAME: &'static str = "evaluate_tasks";
    const VERSION: u32 = 4;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Accuracy and logit differences on minimal pairs and cloze items, and how they differ from a control's",
            details: DETAILS,
            example: "tasks:\n  uses: evaluate_tasks\n  inputs: { models: { original: model, control: finetuned, ln_free: ln_free }, tasks: corpus.tasks }\n  with: { control: control }\n",
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
                "`accuracy`, `top1_accuracy` and `logit_diff` of every task, group and condition, and `accuracy_delta` and the like.",
            ),
            Output::new(
                "items",
                Kind::Table,
                "Every item with the log-probabilities of its continuations under each model.",
            ),
        ]
    }

    fn sources(&self, config: &Config) -> Vec<Source> {
        let source = |path: &String| Source { field: "source".to_owned(), path: path.clone(), what: SourceKind::File };
        config.source.as_ref().map(source).into_iter().collect()
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        config.against().check()
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let mut problems = config.against().check_models(inputs, &config.interventions);
        for port in ["model", "models"] {
            let mut models = inputs.many(port).iter().filter_map(|member| member.facts.model());
            if models.any(|model| model.tokenizer == ModelTokenizer::Absent) {
                problems.push(Problems::input(port, "this model has no tokenizer, and items are text"));
            }
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
        Ok(vec![("metrics".to_owned(), Facts::Metrics), ("items".to_owned(), table_facts(&JUDGED_COLUMNS))])
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
        let models = named_models(cx)?;
        let mut judged = Vec::new();
        for model in &models {
            let done = (judged.len() * items.len()) as u64;
            judged.push((model.label.as_str(), verdicts(cx, &model.artifact, &items, done, models.len())?));
        }
        write_metrics(cx.output("metrics")?, &metrics(config, &items, &judged))?;
        let rows = judged.iter().map(|(model, verdicts)| judged_rows(model, &items, verdicts));
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        let meta = TableMeta {
            title: "Task items".to_owned(),
            description: "Items with the models' log-probabilities".to_owned(),
        };
        let schema = rows[0].schema();
        write_table(cx.output("items")?, schema, rows.into_iter().map(Ok), &meta)?;
        Ok(())
    }
}

/// What one of so many models makes of the items; `done` are those before, of the models before.
fn verdicts(
    cx: &RunContext<'_, Config>,
    model: &Artifact,
    items: &[TaskItem],
    done: u64,
    models: usize,
) -> Result<Vec<Verdict>, StageError> {
    let config = cx.config();
    let tokenizer = Tokenizer::from_files(&ModelReader::open(model)?.files)?;
    let tokenizer = tokenizer.ok_or_else(|| StageError::new("this model has no tokenizer"))?;
    let bos = match (config.prepend_bos, tokenizer.bos()) {
        (true, None) => return Err(StageError::new("`prepend_bos: true` needs a BOS token, and none is known")),
        (prepend, bos) => bos.filter(|_| prepend),
    };
    let total = (items.len() * models) as u64;
    on_device!(compute_device(cx.device()), C, device => {
        let model = mediant_lm::load::<C>(model, &device)?;
        let edits = resolve(cx, &config.interventions, &model, config.seed, None)?;
        judge(&model, &tokenizer, items, bos, || edits.hooks(), |more| {
            cx.progress(done + more, total, "items");
            cx.check_cancelled()
        })
    })
}

/// Of tasks first, all models; then of their parts.
fn metrics(config: &Config, items: &[TaskItem], judged: &[(&str, Vec<Verdict>)]) -> Vec<MetricRow> {
    let (mut tasks, mut parts) = (Vec::new(), Vec::new());
    for (model, verdicts) in judged {
        let mut add = |summary: Summary, told: &[(&str, &str)]| {
            let told = tags(told.iter().copied());
            let tell = |mut row: MetricRow| {
                row.tags.extend(told.clone());
                row
            };
            tasks.extend(summary.tasks.into_iter().map(tell));
            parts.extend(summary.parts.into_iter().map(tell));
        };
        add(summarize(items, verdicts, config.seed), &[("model", model)]);
        let other = config.against().other_than(model);
        let other = other.and_then(|(tag, name)| Some((tag, judged.iter().find(|(label, _)| *label == name)?)));
        if let Some((tag, (name, others))) = other {
            let deltas = summarize_deltas(items, verdicts, others, config.seed);
            add(deltas, &[("model", model), (tag, name)]);
        }
    }
    tasks.append(&mut parts);
    tasks
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

**Several models** judge the same items; tag `model` names them. `accuracy_delta`, `top1_accuracy_delta` and `logit_diff_delta` are the mean \
of a model's values less those of the model that `control` names (tag `against`), item by item. Their intervals are paired: a draw holds the same \
groups, or items, for both models; of a part it is a bootstrap over items for shares too. A model whose norms are frozen or removed is compared with a control alone, \
which was trained as it was with its norms kept, unless `without_control` names another; the tag is then `without_control`.

Interventions are made in the passes of both continuations; their positions are counted in prompt and continuation together, without the last \
token, which is only predicted."
);

//! `build_prompts`: prompts with counterfactuals, from built-in templates or a file.

mod built_in;
mod from_file;

use std::sync::LazyLock;

use mediant_artifact::{Facts, Kind, ModelTokenizer, PromptsFacts, write_prompts};
use mediant_corpus::{PromptTask, Split};
use mediant_engine::{
    Docs, InputFacts, Output, Port, Ports, Problems, Resources, RunContext, Source, SourceKind, SourcePaths, Stage,
    StageError,
};
use mediant_lm::prompts::{Assembler, Columns, Layout, check_source, is_source};
use mediant_spec::did_you_mean;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::vocabulary::Vocabulary;

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct BuildPrompts;

/// Options of `build_prompts`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// A built-in task. Give `task` or `source`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    task: Option<Task>,
    /// A file of prompts: `.csv` with a header, `.jsonl`, or `.json` with a list of objects, by itself or under `prompts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// The columns of `source`, where they are those of a known data set; `plain` if absent: `clean`, `corrupted`, `right`, `wrong`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layout: Option<Layout>,
    /// The columns of `source`, one by one, in place of `layout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    columns: Option<Columns>,
    /// Number of prompts: of a task 200 if absent; of a source only so many rows, the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    n: Option<u64>,
    /// Only words and templates of this part of the grammar of `generate_corpus`; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    split: Option<Part>,
    /// The counterfactuals of every prompt; the task's default if absent, or all of the source. May be none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    counterfactuals: Option<Vec<String>>,
    /// Begin every text with BOS.
    #[serde(default = "yes")]
    prepend_bos: bool,
    /// What to do with rows of a source that do not fit the tokenizer; `error` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    on_mismatch: Option<OnMismatch>,
    /// Chooses the prompts of a task.
    #[serde(default)]
    seed: u64,
}

/// A built-in task.
#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Task {
    /// Indirect objects.
    Ioi,
    /// Years later than another.
    GreaterThan,
    /// Agreement of subject and verb.
    Agreement,
    /// He or she.
    Pronoun,
    /// Capitals of countries.
    Capitals,
    /// Repeated patterns of words.
    Induction,
}

/// A part of the grammar.
#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Part {
    /// What its training sentences use.
    Train,
    /// What they never use.
    HeldOut,
}

/// What to do with a row whose versions differ in length or whose answers are not one token.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum OnMismatch {
    /// Stop, and say which rows.
    Error,
    /// Leave it out.
    Drop,
}

fn yes() -> bool {
    true
}

/// Prompts of a task unless the pipeline says otherwise.
const PROMPTS: u64 = 200;

/// Prompts are made in memory.
const MOST_PROMPTS: u64 = 1_000_000;

impl Task {
    fn prompts(self) -> PromptTask {
        match self {
            Self::Ioi => PromptTask::Ioi,
            Self::GreaterThan => PromptTask::GreaterThan,
            Self::Agreement => PromptTask::Agreement,
            Self::Pronoun => PromptTask::Pronoun,
            Self::Capitals => PromptTask::Capitals,
            Self::Induction => PromptTask::Induction,
        }
    }
}

impl Config {
    fn split(&self) -> Option<Split> {
        self.split.map(|part| match part {
            Part::Train => Split::Train,
            Part::HeldOut => Split::HeldOut,
        })
    }

    /// The columns of the source.
    fn columns(&self) -> Columns {
        self.columns.clone().unwrap_or_else(|| self.layout.unwrap_or_default().columns())
    }

    /// The counterfactuals there are, the usual one of a task first.
    fn known(&self) -> Vec<String> {
        match self.task {
            Some(task) => task.prompts().counterfactuals().iter().map(|&name| name.to_owned()).collect(),
            None => self.columns().counterfactuals.into_keys().collect(),
        }
    }

    /// The counterfactuals wanted.
    fn counterfactuals(&self) -> Vec<String> {
        let usual = || self.known().into_iter().take(if self.task.is_some() { 1 } else { usize::MAX }).collect();
        self.counterfactuals.clone().unwrap_or_else(usual)
    }

    /// Names of the spans that versions may have, sorted.
    fn spans(&self) -> Vec<String> {
        let mut names: Vec<String> = match self.task {
            Some(task) => {
                let marks = task.prompts().marks().iter().chain(task.prompts().further_marks());
                marks.map(|&name| name.to_owned()).collect()
            }
            None => self.columns().spans.into_keys().collect(),
        };
        names.push("last".to_owned());
        names.sort_unstable();
        names
    }

    /// Names of the causal variables that some version may have.
    fn variables(&self) -> Vec<String> {
        match self.task {
            Some(task) => task.prompts().variables().iter().map(|&name| name.to_owned()).collect(),
            None => self.columns().variables,
        }
    }

    /// Whether there are wrong answers to every prompt. A list in a file may be empty in some row.
    fn wrong(&self) -> Option<bool> {
        match self.task {
            Some(_) => Some(true),
            None => (!self.columns().has_wrong()).then_some(false),
        }
    }

    /// Options that mean nothing beside those given.
    fn check_beside(&self) -> Problems {
        let mut problems = Problems::none();
        let mut only = |given: bool, option: &str, of: &str| {
            if given {
                problems.push(Problems::config(option, format!("this is for prompts of a `{of}`")));
            }
        };
        match (self.task, &self.source) {
            (None, None) => {
                problems.push(Problems::config("", "no prompts are given").help("set `task` or `source`"));
            }
            (Some(_), Some(_)) => {
                let both = Problems::config("source", "there are two lists of prompts, this one and the `task`");
                problems.push(both.help("remove one of them"));
            }
            (Some(task), None) => {
                only(self.layout.is_some(), "layout", "source");
                only(self.columns.is_some(), "columns", "source");
                only(self.on_mismatch.is_some(), "on_mismatch", "source");
                if self.split.is_some() && !task.prompts().has_splits() {
                    problems.push(Problems::config("split", "the grammar has no sentences of this task"));
                }
            }
            (None, Some(source)) => {
                only(self.split.is_some(), "split", "task");
                if !is_source(source) {
                    problems
                        .push(Problems::config("source", "prompts are read from `.csv`, `.jsonl` and `.json` files"));
                }
                if self.layout.is_some() && self.columns.is_some() {
                    let both = Problems::config("columns", "`layout` says already what the columns are");
                    problems.push(both.help("remove one of them"));
                }
            }
        }
        problems
    }

    /// Names of counterfactuals that there are not, or twice.
    fn check_counterfactuals(&self) -> Problems {
        let mut problems = Problems::none();
        let known = self.known();
        for (index, name) in self.counterfactuals.iter().flatten().enumerate() {
            let problem = |message: String| Problems::config(format!("counterfactuals[{index}]"), message);
            if self.counterfactuals.iter().flatten().take(index).any(|earlier| earlier == name) {
                problems.push(problem(format!("`{name}` is in the list twice")));
            }
            if !known.contains(name) {
                let help = match did_you_mean(name, known.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if known.is_empty() => "there are none".to_owned(),
                    None => format!("there are `{}`", known.join("`, `")),
                };
                problems.push(problem(format!("no counterfactual `{name}` of these prompts")).help(help));
            }
        }
        problems
    }
}

const PORTS: &[Port] = &[
    Port::optional("model", &[Kind::Model], "A model, for its tokenizer."),
    Port::optional("tokenizer", &[Kind::Tokenizer], "A tokenizer, in place of a model."),
];

impl Stage for BuildPrompts {
    type Config = Config;
    const NAME: &'static str = "build_prompts";
    const VERSION: u32 = 2;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Prompts with counterfactuals, answers and named spans, from templates or a file",
            details: &DETAILS,
            example: "prompts:\n  uses: build_prompts\n  inputs: { model: model }\n  with: { task: ioi, n: 500, counterfactuals: [s2_io_flip, abc] }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![Output::new("prompts", Kind::Prompts, "The prompts, each with its counterfactuals.")]
    }

    fn sources(&self, config: &Config) -> Vec<Source> {
        let source = |path: &String| Source { field: "source".to_owned(), path: path.clone(), what: SourceKind::File };
        config.source.as_ref().map(source).into_iter().collect()
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        let mut problems = config.check_beside();
        if config.n.is_some_and(|n| n == 0 || n > MOST_PROMPTS) {
            problems.push(Problems::config("n", format!("must be from 1 to {MOST_PROMPTS}")));
        }
        for (path, message) in config.columns.iter().flat_map(Columns::problems) {
            problems.push(Problems::config(format!("columns.{path}"), message));
        }
        if config.task.is_some() != config.source.is_some() {
            problems.push(config.check_counterfactuals());
        }
        problems.finish()
    }

    fn infer(
        &self,
        config: &Config,
        inputs: &InputFacts,
        sources: &SourcePaths,
    ) -> Result<Vec<(String, Facts)>, Problems> {
        let (model, tokenizer) = (inputs.model("model"), inputs.tokenizer("tokenizer"));
        let mut problems = Problems::none();
        match (model, tokenizer) {
            (Some(_), Some(_)) => problems.push(
                Problems::input("tokenizer", "there are two tokenizers, this one and the model's")
                    .help("remove one of them"),
            ),
            (Some(model), None) if model.tokenizer == ModelTokenizer::Absent => problems.push(
                Problems::input("model", "this model has no tokenizer, and prompts are text")
                    .help("connect `tokenizer`, or a model that has one"),
            ),
            (None, None) => problems.push(
                Problems::input("tokenizer", "no tokenizer is given, and prompts are text")
                    .help("connect `tokenizer`, or a model that has one"),
            ),
            _ => {}
        }
        if let Some(path) = sources.get("source")
            && let Err(error) = check_source(path, &config.columns())
        {
            problems.push(Problems::config("source", error.to_string()));
        }
        problems.finish()?;
        let facts = PromptsFacts {
            counterfactuals: config.counterfactuals(),
            spans: Some(config.spans()),
            tokenizer: model
                .and_then(|model| model.tokenizer.digest())
                .or(tokenizer.and_then(|tokenizer| tokenizer.digest)),
            vocab_size: model.map(|model| model.vocab_size).or(tokenizer.map(|tokenizer| tokenizer.vocab_size)),
            longest: None,
            prompts: config.task.map(|_| config.n.unwrap_or(PROMPTS)),
            prepend_bos: config.prepend_bos,
            wrong: config.wrong(),
            variables: Some(config.variables()),
        };
        Ok(vec![("prompts".to_owned(), Facts::Prompts(facts))])
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        Resources { gpus: 0, ..Resources::all_cpus() }
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let vocabulary = Vocabulary::open(cx.optional("model")?.as_ref(), cx.optional("tokenizer")?.as_ref())?;
        let bos = config.prepend_bos.then(|| vocabulary.bos("prepend_bos")).transpose()?;
        let Vocabulary { tokenizer: Some(tokenizer), size: Some(size), .. } = &vocabulary else {
            return Err(StageError::new("this model has no tokenizer"));
        };
        let counterfactuals = config.counterfactuals();
        let assembler = Assembler { tokenizer, bos, counterfactuals: &counterfactuals };
        let prompts = match config.task {
            Some(task) => built_in::prompts(config, task.prompts(), &assembler, |done, total| {
                cx.progress(done, total, "prompts");
                cx.check_cancelled()
            })?,
            None => {
                let (prompts, left_out) = from_file::prompts(config, cx.source("source")?, &assembler)?;
                left_out.iter().for_each(|note| cx.note(note));
                prompts
            }
        };
        let lengths = || prompts.iter().map(|prompt| prompt.clean.ids.len());
        let (shortest, longest) = (lengths().min().unwrap_or(0), lengths().max().unwrap_or(0));
        cx.note(format!("{} prompts of {shortest} to {longest} tokens", prompts.len()));
        let artifact = cx.output("prompts")?;
        write_prompts(artifact, &counterfactuals, tokenizer.digest(), *size, config.prepend_bos, &prompts)?;
        Ok(())
    }
}

static DETAILS: LazyLock<String> =
    LazyLock::new(|| [GENERAL, mediant_corpus::PROMPTS.trim_end(), BUILT_IN, FROM_FILE].join("\n\n"));

const GENERAL: &str = "\
A prompt has a clean version and its counterfactuals, each with its own text, tokens, right and wrong answers (sets of next tokens), \
spans and variables; further its `task`, its `template`, and as `group` what makes prompts alike: template and name pair, template and \
country. All versions of a prompt have as many tokens and the same spans, so that what one has at a place can be put into another. \
`last`, the token at which the answer is predicted, is a span of every prompt; BOS counts in positions. A span that only some prompts have \
(`attractor_2`) can be chosen as any other: what is done there has effects on those prompts alone.

An answer is the one token with which the prompt goes on when both are tokenized together. Where the tokenizer would join the two \
(1900 as one token, not 19 and 00), it is the token that the answer has alone, if the text that is decoded with it is the same.

**Built-in tasks.** In the examples the right answers are bold, and what follows them is wrong.";

const BUILT_IN: &str = "\
Words that differ between versions, marked words and answers are one token each where they stand, with this tokenizer; too few such words \
are an error that counts them. A drawn prompt that does not fit in place (a name that begins the text and has no space before it) is \
drawn again, and no prompt comes twice. The counterfactuals chosen change nothing in the prompts. Words and templates are those of \
`generate_corpus`, and hold for English in general; `split` restricts them to what its training sentences use or never use. Sources: \
`ioi` Wang et al. 2022 (arXiv:2211.00593), `greater_than` Hanna et al. 2023 (arXiv:2305.00586; years 1102 to 1798 whose last two \
digits are one token), `agreement` Linzen et al. 2016 (arXiv:1611.01368) and Finlayson et al. 2021 (arXiv:2106.06087), `induction` \
Olsson et al. 2022 (arXiv:2209.11895).";

const FROM_FILE: &str = "\
**A file.** `layout` names the columns of a known data set; `columns` gives them one by one.

| `layout` | prompt | right, wrong | counterfactuals | further |
|---|---|---|---|---|
| `plain` | `clean` | `right`, `wrong` | `corrupted` in `corrupted` | |
| `eap_greater_than` (EAP-IG, Hanna et al. 2024, arXiv:2403.17806) | `clean` | numbers above `label`, the others | `corrupted` in `corrupted` | |
| `eap_ioi` (EAP-IG) | `clean` | token ids `correct_idx`, `incorrect_idx` | `corrupted` in `corrupted`; `corrupted_hard` in `corrupted_hard`, right and wrong exchanged | |
| `auto_circuit` (Miller et al. 2024, arXiv:2407.08734) | `clean` | lists `answers`, `wrong_answers` | `corrupt` in `corrupt` | |
| `sva` (Marks et al. 2024, arXiv:2403.19647) | `clean_prefix` | `clean_answer`, `patch_answer` | `patch` in `patch_prefix`, right and wrong exchanged | variable `case` |
| `facts` (`known_1000` of ROME, Meng et al. 2022, arXiv:2202.05262) | `prompt` | `attribute` after a space, none | none | span and variable `subject`, `template`, `relation_id` as group and variable |

A missing column is an error with file and line; other columns are passed over. `task` is the layout's name, or `columns`; without a \
column for them `template` is the same and every row is a group. Spans of a source are whole words of the clean text, the first that fit, at the same tokens in all versions. A \
counterfactual without answers of its own has the prompt's. A prompt without wrong answers has only right ones to be measured.

Rows whose versions differ in length, or with an answer of several tokens, do not fit: with `on_mismatch: error` the stage stops and names \
the first of them, with `drop` they are left out and counted. Text that a tokenizer cannot take fits no better.";

#[cfg(test)]
mod tests;

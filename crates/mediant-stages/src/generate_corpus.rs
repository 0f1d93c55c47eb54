//! `generate_corpus`: English sentences with known structure.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use mediant_artifact::{Facts, Kind, LabelRow, LabelsWriter, TableFacts, TableMeta, write_table};
use mediant_corpus::{Corpus, Document, TaskItem, tasks};
use mediant_engine::{Docs, InputFacts, Output, Ports, Problems, RunContext, SourcePaths, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct GenerateCorpus;

/// Options of `generate_corpus`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Number of sentences, about 12 words each, in documents of one to six.
    sentences: u64,
    /// Chooses the sentences and the task items.
    #[serde(default)]
    seed: u64,
    /// Items of each task and split in the task sets.
    #[serde(default = "five_hundred")]
    items: u32,
}

fn five_hundred() -> u32 {
    500
}

/// Task items are made in memory.
const MOST_ITEMS: u32 = 1_000_000;

/// Documents written at a time.
const BATCH: usize = 1024;

const TASK_COLUMNS: [&str; 7] = ["task", "split", "group", "condition", "prompt", "right", "wrong"];

impl Stage for GenerateCorpus {
    type Config = Config;
    const NAME: &'static str = "generate_corpus";
    const VERSION: u32 = 3;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Short English sentences with known structure, their latent variables, and task sets",
            details: &DETAILS,
            example: "corpus:\n  uses: generate_corpus\n  with: { sentences: 100000, seed: 0 }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(&[])
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![
            Output::new("corpus", Kind::Table, "A row a document: `document`, counted from 0, and `text`."),
            Output::new(
                "labels",
                Kind::Labels,
                "The latent variables of every sentence and word, over bytes of the documents.",
            ),
            Output::new(
                "tasks",
                Kind::Table,
                "Task items: prompts with a right and a wrong continuation, `split` train or held_out.",
            ),
        ]
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        // Documents are numbered by 32 bits, and each has a sentence at least.
        match config.sentences {
            0 => Err(Problems::config("sentences", "a corpus needs at least one sentence")),
            sentences if sentences > u64::from(u32::MAX) => {
                Err(Problems::config("sentences", "a corpus has at most 4294967295 sentences"))
            }
            _ if config.items > MOST_ITEMS => {
                Err(Problems::config("items", format!("a task set has at most {MOST_ITEMS} items")))
            }
            _ => Ok(()),
        }
    }

    fn infer(&self, _: &Config, _: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let table = |columns: &[&str]| {
            Facts::Table(TableFacts { columns: Some(columns.iter().map(|&name| name.to_owned()).collect()) })
        };
        Ok(vec![
            ("corpus".to_owned(), table(&["document", "text"])),
            ("labels".to_owned(), Facts::Labels),
            ("tasks".to_owned(), table(&TASK_COLUMNS)),
        ])
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let &Config { sentences, seed, items } = cx.config();
        let artifact = cx.output("corpus")?;
        let mut table = artifact.table("rows", schema())?;
        let mut labels = LabelsWriter::new(cx.output("labels")?)?;
        let mut corpus = Corpus::new(seed, sentences);
        let mut number = 0;
        while corpus.left() > 0 {
            let documents: Vec<Document> = corpus.by_ref().take(BATCH).collect();
            table.write(&batch(&documents, number)?)?;
            write_labels(&mut labels, &documents, number)?;
            number += documents.len() as u32;
            cx.progress(sentences - corpus.left(), sentences, "sentences");
            cx.check_cancelled()?;
        }
        table.close()?;
        let description = format!("{sentences} sentences of the grammar, seed {seed}");
        artifact.finish(&TableMeta { title: "Corpus".to_owned(), description })?;
        labels.finish()?;

        let items = task_rows(&tasks(seed, items as usize))?;
        let description = format!("Task sets of the grammar, seed {seed}");
        let meta = TableMeta { title: "Task items".to_owned(), description };
        write_table(cx.output("tasks")?, items.schema(), [Ok(items)], &meta)?;
        Ok(())
    }
}

fn schema() -> SchemaRef {
    let required = |name: &str, data_type| Field::new(name, data_type, false);
    Arc::new(Schema::new(vec![required("document", DataType::UInt32), required("text", DataType::Utf8)]))
}

fn batch(documents: &[Document], first: u32) -> mediant_artifact::Result<RecordBatch> {
    let numbers = UInt32Array::from_iter_values(first..first + documents.len() as u32);
    let texts = StringArray::from_iter_values(documents.iter().map(|document| &document.text));
    Ok(RecordBatch::try_new(schema(), vec![Arc::new(numbers), Arc::new(texts)])?)
}

fn write_labels(labels: &mut LabelsWriter, documents: &[Document], first: u32) -> mediant_artifact::Result<()> {
    for (document, number) in documents.iter().zip(first..) {
        for label in &document.labels {
            let span = Some((label.start, label.end));
            labels.label(LabelRow { document: number, span, variable: label.variable, value: label.value })?;
        }
    }
    Ok(())
}

fn task_rows(items: &[TaskItem]) -> Result<RecordBatch, StageError> {
    let column = |of: fn(&TaskItem) -> &str| Arc::new(StringArray::from_iter_values(items.iter().map(of))) as ArrayRef;
    let columns: [fn(&TaskItem) -> &str; 7] = [
        |item| item.task,
        |item| item.split.name(),
        |item| item.template,
        |item| item.condition,
        |item| &item.prompt,
        |item| &item.right,
        |item| &item.wrong,
    ];
    let columns = TASK_COLUMNS.into_iter().zip(columns).map(|(name, of)| (name, column(of)));
    Ok(RecordBatch::try_from_iter(columns)?)
}

static DETAILS: LazyLock<String> = LazyLock::new(|| {
    [
        "Each document has one to six sentences. The same seed gives the same bytes on every machine.",
        mediant_corpus::KINDS.trim_end(),
        REST,
    ]
    .join("\n\n")
});

const REST: &str = "\
An item's `group` is its template, its `condition` what may make it hard: the order of the names, \
`match` or `mismatch` of the attractor, `alone` or `distractor`, the country, the sum, the length of the pattern.

Labels: over sentences `kind`, `template`, `order`, `indirect_object`, `subject`, `subject_number`, `attractor_number`, `attractors`, \
`gender`, `antecedent`, `country`, `capital`, `sum`, `period`; over words `word_class`, `role`, `gender`, `number`, `antecedent`, \
`country`, `capital`, `operand`, `sum`, `position`, `repeat`. Documents are counted from 0 as in `corpus`; ranges are bytes.

The indirect-object form is that of Wang et al. 2022 (arXiv:2211.00593), the agreement question that of Linzen et al. 2016 \
(arXiv:1611.01368), the repeated patterns those of Olsson et al. 2022 (arXiv:2209.11895).";

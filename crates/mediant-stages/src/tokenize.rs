//! `tokenize`: documents to rows of tokens.

use mediant_artifact::{Facts, Kind, ModelTokenizer, TokensFacts};
use mediant_engine::{
    Docs, InputFacts, Output, Port, Ports, Problems, Resources, RunContext, Source, SourcePaths, Stage, StageError,
};
use mediant_lm::text::{Boundary, TokenizeOptions, tokenize};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::corpus_input::CorpusInput;
use crate::vocabulary::Vocabulary;

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct Tokenize;

/// Options of `tokenize`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// A file or folder of documents: text; `.jsonl` or `.json` with strings or objects with `text` or `input_ids`; `.parquet` with a
    /// column `text` or `input_ids`; a folder of such files at any depth. Or connect `corpus`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// Where a document of a text file ends: `line`, `blank_line` (the default) or `file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    documents: Option<Boundary>,
    /// Longest row, in tokens, BOS included.
    context: usize,
    /// Share of the documents that goes to `test`, at least 0 and below 1.
    #[serde(default)]
    test_fraction: f64,
    /// Let documents follow each other in full rows, with EOS between them; else each document has a row of its own, cut at `context`.
    #[serde(default = "yes")]
    pack: bool,
    /// Begin every row with BOS.
    #[serde(default = "yes")]
    prepend_bos: bool,
    /// Only so many documents, the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    /// Chooses the test documents.
    #[serde(default)]
    seed: u64,
}

fn yes() -> bool {
    true
}

impl Config {
    fn corpus(&self) -> CorpusInput<'_> {
        CorpusInput { source: self.source.as_deref(), documents: self.documents }
    }
}

const PORTS: &[Port] = &[
    Port::optional("model", &[Kind::Model], "A model, for its tokenizer; ids and context must fit it."),
    Port::optional("tokenizer", &[Kind::Tokenizer], "A tokenizer, in place of a model."),
    Port::optional("corpus", &[Kind::Table], "A table with a column `text` or `input_ids`, in place of `source`."),
];

impl Stage for Tokenize {
    type Config = Config;
    const NAME: &'static str = "tokenize";
    const VERSION: u32 = 1;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Documents to rows of token ids, split into train and test",
            details: DETAILS,
            example: "tokens:\n  uses: tokenize\n  inputs: { model: model }\n  with: { source: stories.txt, context: 128, test_fraction: 0.1 }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![
            Output::new("train", Kind::Tokens, "Rows of the documents that are not for testing."),
            Output::new("test", Kind::Tokens, "Rows of the test documents."),
        ]
    }

    fn sources(&self, config: &Config) -> Vec<Source> {
        config.corpus().sources()
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        let mut problems = Problems::none();
        let least = 1 + usize::from(config.prepend_bos);
        if config.context < least {
            problems.push(Problems::config("context", format!("a row needs room for {least} tokens at least")));
        }
        if !(0.0..1.0).contains(&config.test_fraction) {
            problems.push(Problems::config("test_fraction", "must be at least 0 and below 1"));
        }
        problems.finish()
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let (model, tokenizer) = (inputs.model("model"), inputs.tokenizer("tokenizer"));
        let mut problems = Problems::none();
        problems.check(config.corpus().check(inputs));
        if model.is_some() && tokenizer.is_some() {
            problems.push(
                Problems::input("tokenizer", "there are two tokenizers, this one and the model's")
                    .help("remove one of them"),
            );
        }
        let without = tokenizer.is_none() && model.is_none_or(|model| model.tokenizer == ModelTokenizer::Absent);
        if without && config.corpus().is_text(inputs) {
            let (at, message) = match model {
                Some(_) => ("model", "this model has no tokenizer, and the corpus is text"),
                None => ("tokenizer", "no tokenizer is given, and the corpus is text"),
            };
            problems.push(Problems::input(at, message).help("connect `tokenizer`, or a model that has one"));
        }
        if let Some(model) = model
            && config.context > model.context
        {
            let message = format!("the model's context is {} tokens", model.context);
            problems.push(Problems::config("context", message).help(format!("at most {}", model.context)));
        }
        problems.finish()?;
        let facts = TokensFacts {
            tokenizer: model
                .and_then(|model| model.tokenizer.digest())
                .or(tokenizer.and_then(|tokenizer| tokenizer.digest)),
            vocab_size: model.map(|model| model.vocab_size).or(tokenizer.map(|tokenizer| tokenizer.vocab_size)),
            context: config.context,
            prepend_bos: config.prepend_bos,
            sequences: None,
            tokens: None,
        };
        let mut test = facts.clone();
        if config.test_fraction == 0.0 {
            (test.sequences, test.tokens) = (Some(0), Some(0));
        }
        Ok(vec![("train".to_owned(), Facts::Tokens(facts)), ("test".to_owned(), Facts::Tokens(test))])
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        Resources { gpus: 0, ..Resources::all_cpus() }
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let corpus = cx.optional("corpus")?;
        let vocabulary = Vocabulary::open(cx.optional("model")?.as_ref(), cx.optional("tokenizer")?.as_ref())?;
        let options = TokenizeOptions {
            context: config.context,
            pack: config.pack,
            bos: config.prepend_bos.then(|| vocabulary.bos("prepend_bos")).transpose()?,
            separator: config.pack.then(|| vocabulary.eos("pack")).transpose()?,
            vocab_size: vocabulary.size,
            test_fraction: config.test_fraction,
            seed: config.seed,
            limit: config.limit,
        };
        let outputs = [cx.output("train")?, cx.output("test")?];
        let documents = config.corpus().open(cx, corpus.as_ref())?;
        let made = tokenize(documents, vocabulary.tokenizer.as_ref(), &options, outputs, |done| {
            cx.progress(done, config.limit.unwrap_or(0), "documents");
            cx.check_cancelled()
        })?;
        cx.note(format!(
            "{} tokens in {} training rows, {} in {} test rows",
            made.train.tokens, made.train.sequences, made.test.tokens, made.test.sequences
        ));
        if made.cut > 0 {
            cx.note(format!("{} tokens beyond the context of {} were left out", made.cut, config.context));
        }
        Ok(())
    }
}

const DETAILS: &str = "\
Documents are numbered from 0 in the order of the source; every token keeps its document and the bytes of it that it stands for, so \
that labels can be joined to it. A file's format follows from its name: `.jsonl` has one JSON value a line, `.json` an array of them \
(a string, or an object with `text` or `input_ids`), `.parquet` a column `text` or `input_ids`; any other file is UTF-8 text, divided \
by `documents`. Blank documents of text files are left out and not counted. In a folder all `.txt`, `.jsonl`, `.json` and `.parquet` \
files count, by path in byte order.

**Split.** One document of every run of 1/f consecutive ones is a test document, drawn by `seed` (f = `test_fraction`): of any N \
documents at the start, the floor or the ceiling of N·f. More documents at the end change nothing before.

**Rows.** With `pack`, the documents of a split follow each other with EOS between them, and all rows but the last have exactly \
`context` tokens. Without, each document has its own row, and what is beyond `context` is left out. With `prepend_bos`, the first token \
of every row is BOS, and counts in `context`; ready-made ids that begin with it get no second one. `mask` is false for BOS and \
separators: their loss and activations do not count. Documents without a token are in no row.

BOS and EOS are those that `tokenizer_config.json` names (else a common name such as `<|endoftext|>` or `</s>` in the vocabulary, else \
the ids in the model's `config.json`). An id outside the model's vocabulary is an error.";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use mediant_artifact::{TableFacts, TokenizerFacts};
    use mediant_engine::MemberFacts;
    use mediant_lm::{LmConfig, model_facts};
    use serde_json::{Value, json};

    use super::*;

    fn member(facts: Facts) -> Vec<MemberFacts> {
        vec![MemberFacts { labels: Vec::new(), name: None, facts: Arc::new(facts) }]
    }

    fn table(columns: &[&str]) -> (String, Vec<MemberFacts>) {
        let columns = Some(columns.iter().map(|&name| name.to_owned()).collect());
        ("corpus".to_owned(), member(Facts::Table(TableFacts { columns })))
    }

    fn tokenizer() -> (String, Vec<MemberFacts>) {
        ("tokenizer".to_owned(), member(Facts::Tokenizer(TokenizerFacts { vocab_size: 512, digest: None })))
    }

    /// A model with a context of 64 and no tokenizer.
    fn model() -> (String, Vec<MemberFacts>) {
        let config =
            json!({ "model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 2, "vocab_size": 9, "n_positions": 64 });
        (
            "model".to_owned(),
            member(Facts::Model(model_facts(&LmConfig::from_json(&config).unwrap(), ModelTokenizer::Absent))),
        )
    }

    fn infer(with: Value, ports: Vec<(String, Vec<MemberFacts>)>) -> Result<TokensFacts, Vec<String>> {
        let config: Config = serde_json::from_value(with).unwrap();
        let told = |problems: Problems| problems.iter().map(|problem| problem.message.clone()).collect::<Vec<_>>();
        Tokenize.check(&config).map_err(told)?;
        let facts = Tokenize.infer(&config, &InputFacts::new(ports), &SourcePaths::default()).map_err(told)?;
        Ok(facts[0].1.tokens().unwrap().clone())
    }

    #[test]
    fn facts_follow_from_what_is_connected() {
        let facts = infer(json!({ "context": 32 }), vec![tokenizer(), table(&["document", "text"])]).unwrap();
        assert_eq!((facts.vocab_size, facts.context, facts.prepend_bos), (Some(512), 32, true));
        let ready_made = json!({ "context": 32, "source": "ids.parquet", "pack": false, "prepend_bos": false });
        assert_eq!(infer(ready_made, vec![]).unwrap().vocab_size, None);
    }

    #[test]
    fn what_cannot_work_is_found_before_anything_runs() {
        let text = json!({ "context": 32, "source": "a.txt" });
        for (with, ports, message) in [
            (json!({ "context": 32 }), vec![tokenizer()], "no text is given"),
            (text.clone(), vec![tokenizer(), table(&["text"])], "there are two corpora"),
            (text.clone(), vec![tokenizer(), model()], "there are two tokenizers"),
            (text.clone(), vec![], "no tokenizer is given"),
            (text, vec![model()], "this model has no tokenizer"),
            (json!({ "context": 65, "source": "a.jsonl" }), vec![model()], "the model's context is 64"),
            (
                json!({ "context": 32 }),
                vec![tokenizer(), table(&["prompt"])],
                "no column `text` or `input_ids`; it has prompt",
            ),
            (
                json!({ "context": 32, "source": "a.jsonl", "documents": "line" }),
                vec![tokenizer()],
                "this is for text files",
            ),
            (json!({ "context": 1, "source": "a.txt" }), vec![tokenizer()], "room for 2 tokens"),
            (json!({ "context": 8, "source": "a.txt", "test_fraction": 1.0 }), vec![tokenizer()], "below 1"),
        ] {
            let problems = infer(with.clone(), ports).unwrap_err();
            assert!(problems.iter().any(|problem| problem.contains(message)), "{with}: {problems:?}");
        }
    }
}

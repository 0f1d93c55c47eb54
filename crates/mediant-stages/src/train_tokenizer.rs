//! `train_tokenizer`: a byte-level BPE learned from a corpus.

use mediant_artifact::{Facts, Kind, TokenizerFacts, write_tokenizer};
use mediant_engine::{
    Docs, InputFacts, Output, Port, Ports, Problems, Resources, RunContext, Source, SourcePaths, Stage, StageError,
};
use mediant_lm::text::{Boundary, BpeOptions, Document, train_bpe};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::corpus_input::CorpusInput;

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct TrainTokenizer;

/// Options of `train_tokenizer`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// A text file, a JSONL, JSON or Parquet file, or a folder of them, as for `tokenize`; or connect `corpus`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// Where a document of a text file ends: `line`, `blank_line` (the default) or `file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    documents: Option<Boundary>,
    /// Size of the vocabulary: the special token, the 256 bytes, and as many merges as fit. More than 257.
    vocab_size: usize,
    /// Put a space before every text, so that its first word has the token that it has anywhere else; decoding takes it off.
    #[serde(default)]
    add_prefix_space: bool,
    /// The token that begins and ends texts; its id is 0.
    #[serde(default = "end_of_text")]
    special_token: String,
    /// Learn from so many documents only, the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
}

fn end_of_text() -> String {
    "<|endoftext|>".to_owned()
}

impl Config {
    fn corpus(&self) -> CorpusInput<'_> {
        CorpusInput { source: self.source.as_deref(), documents: self.documents }
    }
}

const CORPUS: &[Port] =
    &[Port::optional("corpus", &[Kind::Table], "A table with a column `text`, in place of `source`.")];

impl Stage for TrainTokenizer {
    type Config = Config;
    const NAME: &'static str = "train_tokenizer";
    const VERSION: u32 = 1;

    fn docs(&self) -> Docs {
        Docs {
            summary: "A byte-level BPE tokenizer learned from text",
            details: "Byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909) over the bytes of words, as GPT-2 does it: the text is \
                      split by GPT-2's pattern; then the most frequent pair of neighbouring tokens within words becomes a token, again and \
                      again (of equally frequent pairs the one with the smaller ids) until the vocabulary has `vocab_size` entries. \
                      Id 0 is the special token, ids 1 to 256 are the bytes. A corpus with too few pairs for the vocabulary is an error.\n\n\
                      The result is a Hugging Face `tokenizer.json` with its `tokenizer_config.json`, and any text can be encoded and decoded.",
            example: "tokenizer:\n  uses: train_tokenizer\n  inputs: { corpus: corpus }\n  with: { vocab_size: 2000, add_prefix_space: true }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(CORPUS)
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![Output::new("tokenizer", Kind::Tokenizer, "The tokenizer: `tokenizer.json` and `tokenizer_config.json`.")]
    }

    fn sources(&self, config: &Config) -> Vec<Source> {
        config.corpus().sources()
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        let mut problems = Problems::none();
        if config.vocab_size <= 257 {
            problems.push(
                Problems::config("vocab_size", "the special token and 256 bytes leave no room for a merge")
                    .help("more than 257"),
            );
        }
        // Ids are 32-bit integers everywhere.
        if config.vocab_size > i32::MAX as usize {
            problems.push(Problems::config("vocab_size", "token ids have 31 bits"));
        }
        if config.special_token.is_empty() {
            problems.push(Problems::config("special_token", "a token needs a name"));
        }
        problems.finish()
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        config.corpus().check(inputs)?;
        let facts = TokenizerFacts { vocab_size: config.vocab_size, digest: None };
        Ok(vec![("tokenizer".to_owned(), Facts::Tokenizer(facts))])
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        Resources { gpus: 0, ..Resources::all_cpus() }
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let corpus = cx.optional("corpus")?;
        let limit = config.limit.map_or(usize::MAX, |limit| limit.try_into().unwrap_or(usize::MAX));
        let mut done = 0;
        let texts = config.corpus().open(cx, corpus.as_ref())?.take(limit).map(|document| {
            if done % 1024 == 0 {
                cx.progress(done, config.limit.unwrap_or(0), "documents");
                cx.check_cancelled()?;
            }
            done += 1;
            match document? {
                Document::Text(text) => Ok(text),
                Document::Ids(_) => Err(StageError::new(format!("document {} holds token ids, not text", done - 1))),
            }
        });
        let options = BpeOptions {
            vocab_size: config.vocab_size,
            add_prefix_space: config.add_prefix_space,
            special_token: config.special_token.clone(),
        };
        let files = train_bpe(texts, &options)?;
        let files = [("tokenizer.json", &files.tokenizer[..]), ("tokenizer_config.json", &files.config)];
        write_tokenizer(cx.output("tokenizer")?, config.vocab_size, &files)?;
        Ok(())
    }
}

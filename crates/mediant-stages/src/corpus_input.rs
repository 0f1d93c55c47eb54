//! Where the stages that read text find it: a file or folder, or a table of the pipeline.

use mediant_artifact::Artifact;
use mediant_engine::{InputFacts, Problems, RunContext, Source, SourceKind, StageError};
use mediant_lm::text::{Boundary, Document, documents, table_documents};

/// The options of a stage that reads text, besides its input `corpus`.
#[derive(Clone, Copy)]
pub(crate) struct CorpusInput<'a> {
    pub(crate) source: Option<&'a str>,
    pub(crate) documents: Option<Boundary>,
}

/// What a folder is searched for: what `documents` reads.
const FILES: &[&str] = &["**/*.txt", "**/*.jsonl", "**/*.json", "**/*.parquet"];

impl CorpusInput<'_> {
    pub(crate) fn sources(self) -> Vec<Source> {
        let source = |path: &str| Source {
            field: "source".to_owned(),
            path: path.to_owned(),
            what: SourceKind::FileOrFolder(FILES),
        };
        self.source.map(source).into_iter().collect()
    }

    /// Whether there is one corpus, and whether `documents` means anything for it.
    pub(crate) fn check(self, inputs: &InputFacts) -> Result<(), Problems> {
        let corpus = inputs.one("corpus");
        match (self.source, corpus) {
            (None, None) => {
                return Err(
                    Problems::config("", "no text is given").help("set `source`, or connect the input `corpus`")
                );
            }
            (Some(_), Some(_)) => {
                return Err(Problems::config("source", "there are two corpora, this one and the input `corpus`")
                    .help("remove one of them"));
            }
            _ => {}
        }
        let columns = corpus.and_then(|facts| facts.table()).and_then(|table| table.columns.as_ref());
        if let Some(columns) = columns
            && !columns.iter().any(|name| name == "text" || name == "input_ids")
        {
            let message = format!("this table has no column `text` or `input_ids`; it has {}", columns.join(", "));
            return Err(Problems::input("corpus", message));
        }
        let structured = self.source.is_none_or(structured);
        if self.documents.is_some() && structured {
            return Err(Problems::config(
                "documents",
                "this is for text files; elsewhere documents are divided already",
            ));
        }
        Ok(())
    }

    /// Whether all documents are text for certain, so that a tokenizer is needed.
    pub(crate) fn is_text(self, inputs: &InputFacts) -> bool {
        let columns = inputs.table("corpus").and_then(|table| table.columns.as_ref());
        columns.is_some_and(|columns| columns.iter().any(|name| name == "text"))
            || self.source.is_some_and(|source| source.ends_with(".txt"))
    }

    /// The documents.
    pub(crate) fn open<'c, C>(
        self,
        cx: &RunContext<'_, C>,
        corpus: Option<&'c Artifact>,
    ) -> Result<Box<dyn Iterator<Item = mediant_lm::Result<Document>> + 'c>, StageError> {
        match corpus {
            Some(corpus) => Ok(Box::new(table_documents(corpus)?)),
            None => Ok(Box::new(documents(cx.source("source")?, self.documents.unwrap_or_default())?)),
        }
    }
}

/// Whether a file says itself where its documents end.
fn structured(source: &str) -> bool {
    [".jsonl", ".json", ".parquet"].iter().any(|extension| source.ends_with(extension))
}

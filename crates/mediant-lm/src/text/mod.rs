//! From text to tokens: tokenizers, training them, reading corpora, cutting and packing documents.

mod bpe;
mod columns;
mod documents;
mod json;
mod pack;
mod split;
mod tokenize;
mod tokenizer;

pub use bpe::{BpeOptions, TokenizerFiles, train_bpe};
pub use columns::table_documents;
pub(crate) use documents::text_lines;
pub use documents::{Boundary, Document, Documents, documents};
pub use tokenize::{TokenizeOptions, Tokenized, tokenize};
pub use tokenizer::{Encoded, Tokenizer};

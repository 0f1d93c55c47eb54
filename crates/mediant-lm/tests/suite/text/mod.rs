//! Text to tokens: tokenizers, training them, corpora, cutting and packing.

mod bpe;
mod documents;
mod rows;
mod tokenizer;

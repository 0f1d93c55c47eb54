//! Documents to rows of tokens, in constant memory.

use mediant_artifact::{ArtifactWriter, TokensMeta, TokensWriter};
use rayon::prelude::*;

use super::documents::Document;
use super::pack::{Layout, Rows};
use super::split::Split;
use super::tokenizer::{Encoded, Tokenizer};
use crate::{Error, Result};

/// Documents tokenized at a time, and bytes of text after which no more are added.
const CHUNK: usize = 1024;
const CHUNK_BYTES: usize = 4 << 20;

/// How a corpus becomes rows of tokens.
#[derive(Clone, Debug)]
pub struct TokenizeOptions {
    /// Longest row, in tokens.
    pub context: usize,
    /// Whether documents follow each other in rows that are all full but the last, with a separator between them; else each
    /// document has a row of its own, cut at `context`.
    pub pack: bool,
    /// What each row begins with. Not put before ready-made ids that begin with it.
    pub bos: Option<u32>,
    /// What stands between packed documents.
    pub separator: Option<u32>,
    /// Every id has to be below this. Without it the vocabulary ends with the largest id found.
    pub vocab_size: Option<usize>,
    /// The share of documents for testing, at least 0 and at most 1: of any N documents ⌊N·f⌋ or ⌈N·f⌉.
    pub test_fraction: f64,
    /// Chooses the test documents.
    pub seed: u64,
    /// Only so many documents, the first.
    pub limit: Option<u64>,
}

/// What became of a corpus.
#[derive(Clone, Debug)]
pub struct Tokenized {
    /// Description of the training rows.
    pub train: TokensMeta,
    /// Description of the test rows.
    pub test: TokensMeta,
    /// Documents with no tokens, which are in no row; their numbers are not given to others.
    pub empty: u64,
    /// Tokens beyond the context, which unpacked rows have no place for.
    pub cut: u64,
}

/// Tokenizes documents and writes the training and the test rows.
///
/// Documents are numbered from 0 in the order of the source, through both splits: the numbers that `labels` use. BOS and separators
/// have `mask` false and the empty span, in the document that they precede; so have special tokens inside ready-made ids.
/// `progress` is told the number of documents done and may stop the work with an error.
///
/// # Errors
/// Whatever reading gives; [`Error::Tokens`] for text without a tokenizer, for an id outside the vocabulary, and for a context
/// without room for a token.
pub fn tokenize<E: From<Error>>(
    documents: impl Iterator<Item = Result<Document>>,
    tokenizer: Option<&Tokenizer>,
    options: &TokenizeOptions,
    [train, test]: [ArtifactWriter; 2],
    mut progress: impl FnMut(u64) -> Result<(), E>,
) -> Result<Tokenized, E> {
    let &TokenizeOptions { context, pack, bos, separator, .. } = options;
    if context < 1 + usize::from(bos.is_some()) {
        return Err(Error::Tokens(format!("a context of {context} has no room for a token")).into());
    }
    let layout = Layout { context, pack, bos, separator };
    let new = |writer| -> Result<Rows> { Ok(Rows::new(layout, TokensWriter::new(writer)?)) };
    let mut rows = [new(train)?, new(test)?];
    let mut split = Split::new(options.test_fraction, options.seed);
    let mut documents =
        documents.take(options.limit.map_or(usize::MAX, |limit| limit.try_into().unwrap_or(usize::MAX)));
    let (mut number, mut empty, mut largest) = (0_u32, 0, [bos, separator].into_iter().flatten().max().unwrap_or(0));
    loop {
        let chunk = next_chunk(&mut documents)?;
        if chunk.is_empty() {
            break;
        }
        let encoded: Vec<_> = chunk.into_par_iter().map(|document| encode(document, tokenizer)).collect();
        for tokens in encoded {
            let tokens = tokens.map_err(|error| Error::Tokens(format!("document {number}: {error}")))?;
            let found = tokens.ids.iter().copied().max();
            check(number, found, options.vocab_size)?;
            largest = largest.max(found.unwrap_or(0));
            let is_test = split.next_is_test();
            match found {
                None => empty += 1,
                Some(_) => rows[usize::from(is_test)].document(number, &tokens)?,
            }
            number = number.checked_add(1).ok_or_else(|| Error::Tokens("more than 2^32 documents".to_owned()))?;
        }
        progress(number.into())?;
    }
    let vocab_size = options.vocab_size.unwrap_or(largest as usize + 1);
    let cut = rows.iter().map(|rows| rows.cut).sum();
    let [train, test] = rows;
    let meta = |split: &str, documents, writer: &TokensWriter| TokensMeta {
        tokenizer: tokenizer.map(Tokenizer::digest),
        vocab_size,
        context,
        packed: pack,
        prepend_bos: bos.is_some(),
        bos,
        separator: separator.filter(|_| pack),
        split: split.to_owned(),
        documents,
        tokens: writer.tokens(),
        sequences: writer.sequences(),
    };
    let finish = |split: &str, rows: Rows| -> Result<TokensMeta> {
        let documents = rows.documents;
        let writer = rows.finish()?;
        let meta = meta(split, documents, &writer);
        writer.finish(&meta)?;
        Ok(meta)
    };
    Ok(Tokenized { train: finish("train", train)?, test: finish("test", test)?, empty, cut })
}

fn next_chunk(documents: &mut impl Iterator<Item = Result<Document>>) -> Result<Vec<Document>> {
    let (mut chunk, mut bytes) = (Vec::new(), 0);
    while chunk.len() < CHUNK && bytes < CHUNK_BYTES {
        let Some(document) = documents.next().transpose()? else { break };
        bytes += match &document {
            Document::Text(text) => text.len(),
            Document::Ids(ids) => 4 * ids.len(),
        };
        chunk.push(document);
    }
    Ok(chunk)
}

fn encode(document: Document, tokenizer: Option<&Tokenizer>) -> Result<Encoded> {
    match (document, tokenizer) {
        (Document::Ids(ids), _) => Ok(Encoded { spans: vec![(0, 0); ids.len()], ids }),
        (Document::Text(text), Some(tokenizer)) => tokenizer.encode(&text),
        (Document::Text(_), None) => Err(Error::Tokens("this is text, and no tokenizer is given".to_owned())),
    }
}

fn check(document: u32, largest: Option<u32>, vocab_size: Option<usize>) -> Result<()> {
    match (largest, vocab_size) {
        (Some(id), Some(size)) if id as usize >= size => {
            Err(Error::Tokens(format!("document {document} holds token {id}, but the vocabulary has {size} tokens")))
        }
        _ => Ok(()),
    }
}

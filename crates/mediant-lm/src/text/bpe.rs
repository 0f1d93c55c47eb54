//! Training of byte-level byte-pair encodings.
//!
//! Sennrich et al. 2016, arXiv:1508.07909, over bytes as GPT-2 does. Written out here since the library's trainer goes through hash
//! maps in an order that, where one string arises from two merges, can reach its result; for the same texts this one always gives
//! the same bytes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};

use rayon::prelude::*;
use serde_json::json;
use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::sequence::Sequence;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use crate::{Error, Result};

/// Options of [`train_bpe`].
#[derive(Clone, Debug)]
pub struct BpeOptions {
    /// Size of the vocabulary, the special token and the 256 bytes included.
    pub vocab_size: usize,
    /// Whether a text starts with a space, so that its first word has the token it has anywhere else. Decoding takes the space off.
    pub add_prefix_space: bool,
    /// The one special token: it begins and ends texts. Its id is 0.
    pub special_token: String,
}

/// The files of a new tokenizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenizerFiles {
    /// `tokenizer.json`.
    pub tokenizer: Vec<u8>,
    /// `tokenizer_config.json`.
    pub config: Vec<u8>,
}

type Pair = (u32, u32);

/// Texts that are counted at a time.
const CHUNK: usize = 1024;

/// Learns a byte-level BPE: again and again the most frequent pair of neighbouring tokens within words becomes a token; of equally
/// frequent pairs the one with the smaller ids. Words are what GPT-2's pattern splits a text into.
///
/// # Errors
/// [`Error::Tokenizer`] if the vocabulary has no room for the bytes, or the texts do not have that many pairs to merge; whatever
/// reading a text gives.
pub fn train_bpe<E: From<Error>>(
    texts: impl Iterator<Item = Result<String, E>>,
    options: &BpeOptions,
) -> Result<TokenizerFiles, E> {
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    if options.vocab_size <= alphabet.len() {
        return Err(Error::Tokenizer(format!(
            "a byte-level vocabulary needs room for {} bytes and the special token, not {}",
            alphabet.len(),
            options.vocab_size
        ))
        .into());
    }
    let pre_tokenizer = ByteLevel::new(options.add_prefix_space, true, true);
    let counts = count_words(texts, &pre_tokenizer)?;
    let mut names = vec![options.special_token.clone()];
    names.extend(alphabet.iter().map(char::to_string));
    let merges = Merger::new(names, &counts).run(options.vocab_size);
    let found = merges.names.len();
    if found < options.vocab_size {
        let wanted = options.vocab_size;
        let why = format!("these texts give a vocabulary of {found} tokens at most, not {wanted}");
        return Err(Error::Tokenizer(why).into());
    }
    Ok(files(merges, pre_tokenizer, options)?)
}

/// How often each word occurs, in the byte alphabet.
fn count_words<E: From<Error>>(
    mut texts: impl Iterator<Item = Result<String, E>>,
    pre_tokenizer: &ByteLevel,
) -> Result<BTreeMap<String, u64>, E> {
    let mut counts = BTreeMap::new();
    loop {
        let chunk = texts.by_ref().take(CHUNK).collect::<Result<Vec<_>, E>>()?;
        if chunk.is_empty() {
            return Ok(counts);
        }
        let words = chunk.par_iter().map(|text| words(text, pre_tokenizer)).collect::<Result<Vec<_>>>()?;
        for word in words.into_iter().flatten() {
            *counts.entry(word).or_insert(0) += 1;
        }
    }
}

fn words(text: &str, pre_tokenizer: &ByteLevel) -> Result<Vec<String>> {
    let mut text = PreTokenizedString::from(text);
    pre_tokenizer.pre_tokenize(&mut text).map_err(|error| Error::Tokenizer(error.to_string()))?;
    let splits = text.get_splits(OffsetReferential::Normalized, OffsetType::None);
    Ok(splits.into_iter().map(|(word, ..)| word.to_owned()).collect())
}

/// Words as sequences of tokens, and how often neighbours meet.
struct Merger {
    /// The text of each token, in the byte alphabet.
    names: Vec<String>,
    ids: HashMap<String, u32>,
    words: Vec<(Vec<u32>, u64)>,
    counts: HashMap<Pair, u64>,
    /// The words that a pair has stood in; it may have left some since.
    places: HashMap<Pair, BTreeSet<u32>>,
    /// Pairs by count, some of them outdated.
    queue: BinaryHeap<(u64, Reverse<Pair>)>,
}

/// A vocabulary in the order of ids, and merges in the order of learning.
struct Merges {
    names: Vec<String>,
    merges: Vec<(String, String)>,
}

impl Merger {
    fn new(names: Vec<String>, counts: &BTreeMap<String, u64>) -> Self {
        let ids: HashMap<_, _> = names.iter().cloned().zip(0..).collect();
        let tokens = |word: &str| word.chars().filter_map(|c| ids.get(c.to_string().as_str()).copied()).collect();
        let words = counts.iter().map(|(word, &count)| (tokens(word), count)).collect();
        let mut merger =
            Self { names, ids, words, counts: HashMap::new(), places: HashMap::new(), queue: BinaryHeap::new() };
        for word in 0..merger.words.len() as u32 {
            merger.count(word, &mut BTreeSet::new());
        }
        merger.queue = merger.counts.iter().map(|(&pair, &count)| (count, Reverse(pair))).collect();
        merger
    }

    fn run(mut self, vocab_size: usize) -> Merges {
        let mut merges = Vec::new();
        while self.names.len() < vocab_size {
            let Some((count, Reverse(pair))) = self.queue.pop() else { break };
            if count != self.counts.get(&pair).copied().unwrap_or(0) {
                // Outdated: the present count has an entry of its own.
                continue;
            }
            let parts = (self.names[pair.0 as usize].clone(), self.names[pair.1 as usize].clone());
            let name = format!("{}{}", parts.0, parts.1);
            // Two merges may give one string; it stays one token.
            let id = *self.ids.entry(name.clone()).or_insert(self.names.len() as u32);
            if id as usize == self.names.len() {
                self.names.push(name);
            }
            merges.push(parts);
            self.merge(pair, id);
        }
        Merges { names: self.names, merges }
    }

    fn merge(&mut self, pair: Pair, id: u32) {
        let mut changed = BTreeSet::new();
        for word in self.places.remove(&pair).unwrap_or_default() {
            let (tokens, count) = &self.words[word as usize];
            for pair in pairs(tokens) {
                if let Some(total) = self.counts.get_mut(&pair) {
                    *total -= count;
                    changed.insert(pair);
                }
            }
            self.words[word as usize].0 = merged(tokens, pair, id);
            self.count(word, &mut changed);
        }
        for pair in changed {
            let count = self.counts.get(&pair).copied().unwrap_or(0);
            if count == 0 {
                self.counts.remove(&pair);
            } else {
                self.queue.push((count, Reverse(pair)));
            }
        }
    }

    /// Adds the pairs of a word to the counts.
    fn count(&mut self, word: u32, changed: &mut BTreeSet<Pair>) {
        let (tokens, count) = &self.words[word as usize];
        for pair in pairs(tokens) {
            *self.counts.entry(pair).or_insert(0) += count;
            self.places.entry(pair).or_default().insert(word);
            changed.insert(pair);
        }
    }
}

fn pairs(tokens: &[u32]) -> impl Iterator<Item = Pair> {
    tokens.windows(2).map(|pair| (pair[0], pair[1]))
}

/// The tokens with `pair` replaced by `id`, from the left.
fn merged(tokens: &[u32], pair: Pair, id: u32) -> Vec<u32> {
    let mut out = Vec::with_capacity(tokens.len());
    let mut rest = tokens;
    while let [first, after @ ..] = rest {
        let found = after.first().is_some_and(|second| (*first, *second) == pair);
        out.push(if found { id } else { *first });
        rest = if found { &after[1..] } else { after };
    }
    out
}

fn files(merges: Merges, pre_tokenizer: ByteLevel, options: &BpeOptions) -> Result<TokenizerFiles> {
    let failed = |error: &dyn std::fmt::Display| Error::Tokenizer(error.to_string());
    let vocab: HashMap<String, u32> = merges.names.into_iter().zip(0..).collect();
    let model = BPE::builder()
        .vocab_and_merges(vocab.into_iter().collect::<tokenizers::models::bpe::Vocab>(), merges.merges)
        .build()
        .map_err(|error| failed(&error))?;
    let mut tokenizer = tokenizers::Tokenizer::new(model);
    let mut decoders: Vec<DecoderWrapper> = vec![pre_tokenizer.into()];
    if options.add_prefix_space {
        decoders.push(Strip::new(' ', 1, 0).into());
    }
    tokenizer.with_decoder(Some(Sequence::new(decoders)));
    tokenizer.with_post_processor(Some(pre_tokenizer));
    tokenizer.with_pre_tokenizer(Some(pre_tokenizer));
    let special = AddedToken::from(options.special_token.clone(), true);
    tokenizer.add_special_tokens([special]).map_err(|error| failed(&error))?;
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": options.special_token,
        "eos_token": options.special_token,
    });
    let tokenizer = tokenizer.to_string(true).map_err(|error| failed(&error))?;
    let config = serde_json::to_string_pretty(&config).map_err(|error| failed(&error))?;
    Ok(TokenizerFiles { tokenizer: tokenizer.into_bytes(), config: config.into_bytes() })
}

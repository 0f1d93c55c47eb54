//! The `tokens` kind: table `sequences`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int32Array, ListArray, RecordBatch, UInt32Array};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use super::column::{column, items, required_list};
use crate::write::Cut;
use crate::{Artifact, ArtifactWriter, Digest, Error, Kind, Manifest, Result, TableWriter};

const SEQUENCES: &str = "sequences";

/// Longest sequence: so many that a batch of them stays within Arrow's 31-bit offsets.
pub(super) const LONGEST: usize = 1 << 23;

/// What is known of token sequences besides the tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokensMeta {
    /// Digest of the `tokenizer.json` that made the ids, where one did.
    pub tokenizer: Option<Digest>,
    /// Every id is below this.
    pub vocab_size: usize,
    /// No sequence is longer than this, in tokens.
    pub context: usize,
    /// Whether documents share sequences.
    pub packed: bool,
    /// Whether each sequence starts with the BOS token.
    pub prepend_bos: bool,
    /// The BOS token.
    pub bos: Option<u32>,
    /// The token between packed documents.
    pub separator: Option<u32>,
    /// Which part of the source this is: `train`, `test`, ...
    pub split: String,
    /// Number of documents.
    pub documents: u64,
    /// Number of tokens, BOS and separators included.
    pub tokens: u64,
    /// Number of sequences.
    pub sequences: u64,
}

/// One sequence; the five slices have one entry a token. Padding is never part of it.
#[derive(Clone, Copy, Debug)]
pub struct Sequence<'a> {
    /// Token ids.
    pub ids: &'a [i32],
    /// True where the token's activations and loss count.
    pub mask: &'a [bool],
    /// The document that the token comes from.
    pub document: &'a [u32],
    /// First byte of the token in its document's text; 0 for BOS and separators.
    pub start: &'a [u32],
    /// The byte after the token in its document's text; 0 for BOS and separators.
    pub end: &'a [u32],
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        required_list("ids", DataType::Int32),
        required_list("mask", DataType::Boolean),
        required_list("document", DataType::UInt32),
        required_list("start", DataType::UInt32),
        required_list("end", DataType::UInt32),
    ]))
}

/// Writes token sequences.
pub struct TokensWriter {
    artifact: ArtifactWriter,
    table: TableWriter,
    waiting: Waiting,
    sequences: u64,
    tokens: u64,
    longest: usize,
    largest: i32,
}

#[derive(Default)]
struct Waiting {
    lengths: Vec<usize>,
    ids: Vec<i32>,
    mask: Vec<bool>,
    document: Vec<u32>,
    start: Vec<u32>,
    end: Vec<u32>,
}

impl TokensWriter {
    /// Starts token sequences in an empty folder.
    ///
    /// # Errors
    /// If the writer is not of kind [`Kind::Tokens`] or the file cannot be created.
    pub fn new(artifact: ArtifactWriter) -> Result<Self> {
        artifact.expect(Kind::Tokens)?;
        let table = artifact.table_cut(SEQUENCES, &schema(), Cut::SEQUENCES)?;
        let waiting = Waiting::default();
        Ok(Self { artifact, table, waiting, sequences: 0, tokens: 0, longest: 0, largest: 0 })
    }

    /// Appends a sequence.
    ///
    /// # Errors
    /// If it is empty, its slices differ in length, an id is negative, or writing fails.
    pub fn sequence(&mut self, sequence: Sequence<'_>) -> Result<()> {
        let Sequence { ids, mask, document, start, end } = sequence;
        let length = ids.len();
        if [mask.len(), document.len(), start.len(), end.len()] != [length; 4] || !(1..=LONGEST).contains(&length) {
            return Err(Error::Invalid(format!("sequence {} has {length} ids, or unequal columns", self.sequences)));
        }
        for id in ids {
            self.largest = self.largest.max(*id);
            if *id < 0 {
                return Err(Error::Invalid(format!("sequence {} holds the id {id}", self.sequences)));
            }
        }
        self.sequences += 1;
        self.tokens += length as u64;
        self.longest = self.longest.max(length);
        self.waiting.lengths.push(length);
        self.waiting.ids.extend_from_slice(ids);
        self.waiting.mask.extend_from_slice(mask);
        self.waiting.document.extend_from_slice(document);
        self.waiting.start.extend_from_slice(start);
        self.waiting.end.extend_from_slice(end);
        if self.waiting.lengths.len() == Cut::SEQUENCES.batch_rows { self.write_waiting() } else { Ok(()) }
    }

    /// Number of sequences so far.
    pub fn sequences(&self) -> u64 {
        self.sequences
    }

    /// Number of tokens so far.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    fn write_waiting(&mut self) -> Result<()> {
        let Waiting { lengths, ids, mask, document, start, end } = std::mem::take(&mut self.waiting);
        let offsets = OffsetBuffer::from_lengths(lengths);
        let list = |items: ArrayRef| -> Result<ArrayRef> {
            let item = Arc::new(Field::new_list_field(items.data_type().clone(), false));
            Ok(Arc::new(ListArray::try_new(item, offsets.clone(), items, None)?))
        };
        let columns = vec![
            list(Arc::new(Int32Array::from(ids)))?,
            list(Arc::new(BooleanArray::from(mask)))?,
            list(Arc::new(UInt32Array::from(document)))?,
            list(Arc::new(UInt32Array::from(start)))?,
            list(Arc::new(UInt32Array::from(end)))?,
        ];
        self.table.write(&RecordBatch::try_new(schema(), columns)?)
    }

    /// Writes what is left and the manifest.
    ///
    /// # Errors
    /// If `meta` contradicts the sequences, or writing fails.
    pub fn finish(mut self, meta: &TokensMeta) -> Result<Manifest> {
        if meta.sequences != self.sequences || meta.tokens != self.tokens {
            let why = format!("wrote {} sequences of {} tokens, not as announced", self.sequences, self.tokens);
            return Err(Error::Invalid(why));
        }
        if self.longest > meta.context || (self.tokens > 0 && self.largest as usize >= meta.vocab_size) {
            let (longest, largest) = (self.longest, self.largest);
            let why = format!("a sequence has {longest} tokens, an id is {largest}: outside context or vocabulary");
            return Err(Error::Invalid(why));
        }
        self.write_waiting()?;
        self.table.close()?;
        self.artifact.finish(meta)
    }
}

/// Token sequences in memory: five bytes a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// The description.
    pub meta: TokensMeta,
    /// Where each sequence starts in `ids` and `mask`, and where the last ends: one more than there are sequences.
    pub offsets: Vec<usize>,
    /// The ids of all sequences.
    pub ids: Vec<i32>,
    /// True where the token's activations and loss count.
    pub mask: Vec<bool>,
}

impl Tokens {
    /// Reads ids and masks.
    ///
    /// # Errors
    /// If the artifact is of another kind, damaged, or an id is not below the vocabulary's size.
    pub fn read(artifact: &Artifact) -> Result<Self> {
        artifact.expect(Kind::Tokens)?;
        let meta: TokensMeta = artifact.meta()?;
        let mut tokens = Self { meta, offsets: vec![0], ids: Vec::new(), mask: Vec::new() };
        for batch in artifact.columns(SEQUENCES, &["ids", "mask"])? {
            let batch = batch?;
            let lists = same_lengths(&batch, &["ids", "mask"], &mut tokens.offsets)?;
            tokens.ids.extend_from_slice(items::<Int32Array>(lists[0], "ids")?.values());
            tokens.mask.extend(items::<BooleanArray>(lists[1], "mask")?.values().iter());
        }
        let Self { meta, offsets, ids, .. } = &tokens;
        let known = |id: &i32| usize::try_from(*id).is_ok_and(|id| id < meta.vocab_size);
        let lengths = offsets.windows(2).all(|pair| (1..=meta.context).contains(&(pair[1] - pair[0])));
        let counts = meta.sequences == tokens.len() as u64 && meta.tokens == ids.len() as u64;
        if counts && lengths && ids.iter().all(known) {
            Ok(tokens)
        } else {
            Err(Error::damaged(artifact.dir(), "its sequences are not those that its meta describes"))
        }
    }

    /// Number of sequences.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The ids of a sequence, which has to exist.
    pub fn sequence(&self, i: usize) -> &[i32] {
        &self.ids[self.offsets[i]..self.offsets[i + 1]]
    }

    /// The mask of a sequence, which has to exist.
    pub fn mask_of(&self, i: usize) -> &[bool] {
        &self.mask[self.offsets[i]..self.offsets[i + 1]]
    }
}

/// Where the tokens come from: one entry a token, in the order of [`Tokens::ids`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenSpans {
    /// The document that the token comes from.
    pub document: Vec<u32>,
    /// First byte of the token in its document's text; 0 for BOS and separators.
    pub start: Vec<u32>,
    /// The byte after the token in its document's text; 0 for BOS and separators.
    pub end: Vec<u32>,
}

impl TokenSpans {
    /// Reads documents and offsets.
    ///
    /// # Errors
    /// If the artifact is of another kind or damaged.
    pub fn read(artifact: &Artifact) -> Result<Self> {
        artifact.expect(Kind::Tokens)?;
        let names = ["ids", "document", "start", "end"];
        let mut spans = Self::default();
        let mut offsets = vec![0];
        for batch in artifact.columns(SEQUENCES, &names)? {
            let batch = batch?;
            let lists = same_lengths(&batch, &names, &mut offsets)?;
            spans.document.extend_from_slice(items::<UInt32Array>(lists[1], "document")?.values());
            spans.start.extend_from_slice(items::<UInt32Array>(lists[2], "start")?.values());
            spans.end.extend_from_slice(items::<UInt32Array>(lists[3], "end")?.values());
        }
        Ok(spans)
    }

    /// Reads the documents alone.
    ///
    /// # Errors
    /// As [`TokenSpans::read`].
    pub fn documents(artifact: &Artifact) -> Result<Vec<u32>> {
        artifact.expect(Kind::Tokens)?;
        let names = ["ids", "document"];
        let (mut documents, mut offsets) = (Vec::new(), vec![0]);
        for batch in artifact.columns(SEQUENCES, &names)? {
            let batch = batch?;
            let lists = same_lengths(&batch, &names, &mut offsets)?;
            documents.extend_from_slice(items::<UInt32Array>(lists[1], "document")?.values());
        }
        Ok(documents)
    }
}

/// Columns of lists that all have the same lengths; appends where the lists end.
fn same_lengths<'a>(batch: &'a RecordBatch, names: &[&str], ends: &mut Vec<usize>) -> Result<Vec<&'a ListArray>> {
    let lists = names.iter().map(|name| column::<ListArray>(batch, name)).collect::<Result<Vec<_>>>()?;
    let Some(first) = lists.first() else {
        return Ok(lists);
    };
    let (begin, end) = (first.offsets()[0], first.offsets().last());
    let dense = |list: &&ListArray| list.offsets() == first.offsets() && list.values().len() == end as usize;
    if begin != 0 || !lists.iter().all(dense) {
        return Err(Error::Invalid("the columns of a sequence differ in length".to_owned()));
    }
    let start = ends.last().copied().unwrap_or(0);
    ends.extend(first.offsets().iter().skip(1).map(|&end| start + end as usize));
    Ok(lists)
}

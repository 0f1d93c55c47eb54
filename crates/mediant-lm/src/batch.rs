//! Several token sequences for one forward pass.

use std::ops::Range;

use mediant_tensor::{Autodiff, Compute, Int, Tensor, TensorData};

use crate::{Error, LmConfig, Result, Spans};

/// Token sequences laid end to end, so that one of any length costs only its own rows: there is no padding to compute or
/// to mask. Activations are rows in (sequence, position) order; only attention looks at where sequences begin.
#[derive(Clone, Debug)]
pub struct Batch<C: Compute> {
    ids: Tensor<C, 2, Int>,
    positions: Tensor<C, 2, Int>,
    sequences: Vec<Sequence>,
    spans: Vec<Spans>,
    examples: Vec<u64>,
}

/// Where a sequence stands in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// Its first row.
    pub start: usize,
    /// Its number of rows.
    pub len: usize,
    /// Tokens before it whose keys and values are in a cache; the position of its first row.
    pub past: usize,
}

impl Sequence {
    /// Its rows.
    pub fn rows(self) -> Range<usize> {
        self.start..self.start + self.len
    }
}

impl<C: Compute> Batch<C> {
    /// A batch of whole sequences.
    ///
    /// # Errors
    /// [`Error::Tokens`] if there is none, if one is empty or longer than the model's context, or if an id is outside the
    /// vocabulary.
    pub fn new(config: &LmConfig, sequences: &[&[i32]], device: &C::Device) -> Result<Self> {
        Self::after(config, sequences, &vec![0; sequences.len()], device)
    }

    /// A batch of sequences that each go on after `past` tokens.
    pub(crate) fn after(config: &LmConfig, sequences: &[&[i32]], past: &[usize], device: &C::Device) -> Result<Self> {
        if sequences.is_empty() {
            return Err(Error::Tokens("a batch needs at least one sequence".to_owned()));
        }
        let (mut ids, mut positions, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (&sequence, &past)) in sequences.iter().zip(past).enumerate() {
            check(config, index, sequence, past)?;
            places.push(Sequence { start: ids.len(), len: sequence.len(), past });
            ids.extend_from_slice(sequence);
            positions.extend((past..past + sequence.len()).map(|position| position as i32));
        }
        let rows = ids.len();
        let int = |values| Tensor::from_data(TensorData::new::<i32, _>(values, [1, rows]), device);
        Ok(Self {
            ids: int(ids),
            positions: int(positions),
            sequences: places,
            spans: Vec::new(),
            examples: Vec::new(),
        })
    }

    /// With the named spans of each sequence.
    #[must_use]
    pub fn with_spans(self, spans: Vec<Spans>) -> Self {
        Self { spans, ..self }
    }

    /// With the number of each sequence in its data set, which random edits draw by.
    #[must_use]
    pub fn with_examples(self, examples: Vec<u64>) -> Self {
        Self { examples, ..self }
    }

    /// The named spans of each sequence, where there are any.
    pub fn spans(&self) -> &[Spans] {
        &self.spans
    }

    /// The number of a sequence in its data set; its place in the batch if none was given.
    pub fn example(&self, sequence: usize) -> u64 {
        self.examples.get(sequence).copied().unwrap_or(sequence as u64)
    }

    /// The same batch for another backend of the same device, such as the one with gradients.
    pub(crate) fn lifted(&self) -> Batch<Autodiff<C>> {
        let lift = |x: &Tensor<C, 2, Int>| Tensor::from_inner(x.clone());
        Batch {
            ids: lift(&self.ids),
            positions: lift(&self.positions),
            sequences: self.sequences.clone(),
            spans: self.spans.clone(),
            examples: self.examples.clone(),
        }
    }

    /// Token ids `[1, rows]`.
    pub fn ids(&self) -> Tensor<C, 2, Int> {
        self.ids.clone()
    }

    /// Position of each row in its sequence `[1, rows]`.
    pub fn positions(&self) -> Tensor<C, 2, Int> {
        self.positions.clone()
    }

    /// The sequences, in order.
    pub fn sequences(&self) -> &[Sequence] {
        &self.sequences
    }

    /// Number of rows: the sum of the lengths.
    pub fn rows(&self) -> usize {
        self.sequences.last().map_or(0, |last| last.start + last.len)
    }

    /// Length of the longest sequence, with what came before it: the width of attention patterns.
    pub fn keys(&self) -> usize {
        self.sequences.iter().map(|sequence| sequence.past + sequence.len).max().unwrap_or(0)
    }

    /// Where the batch is.
    pub fn device(&self) -> C::Device {
        self.ids.device()
    }

    /// Runs of neighbouring sequences of one length, which attention takes together.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &[Sequence]> {
        self.sequences.chunk_by(|a, b| (a.len, a.past) == (b.len, b.past))
    }
}

fn check(config: &LmConfig, index: usize, sequence: &[i32], past: usize) -> Result<()> {
    if sequence.is_empty() {
        return Err(Error::Tokens(format!("sequence {index} is empty")));
    }
    if past + sequence.len() > config.context {
        let (len, context) = (past + sequence.len(), config.context);
        return Err(Error::Tokens(format!("sequence {index} has {len} tokens, but the model's context is {context}")));
    }
    match sequence.iter().find(|&&id| usize::try_from(id).map_or(true, |id| id >= config.vocab_size)) {
        Some(id) => Err(Error::Tokens(format!(
            "sequence {index} holds token {id}, but the model's vocabulary has {} tokens",
            config.vocab_size
        ))),
        None => Ok(()),
    }
}

//! The training curve.

use mediant_artifact::CurveRow;
use mediant_tensor::checkpoint::{Checkpoint, State};

use crate::{Error, Result};

/// Points at increasing steps, each with the same named numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Curve {
    names: Vec<String>,
    /// Steps done at each point.
    steps: Vec<u64>,
    /// `[points, names]`.
    values: Vec<f64>,
}

impl Curve {
    pub(crate) fn new(names: Vec<String>) -> Self {
        Self { names, ..Self::default() }
    }

    /// Adds a point; the numbers stand in the order of the names.
    pub(crate) fn push(&mut self, step: u64, values: &[f64]) {
        debug_assert_eq!(values.len(), self.names.len());
        self.steps.push(step);
        self.values.extend_from_slice(values);
    }

    /// The last number of this name.
    pub(crate) fn last(&self, name: &str) -> Option<f64> {
        let place = self.names.iter().position(|known| known == name)?;
        self.values.rchunks(self.names.len()).next().map(|point| point[place])
    }

    pub(crate) fn save(&self, state: &mut State<'_>) {
        let bits: Vec<u64> = self.values.iter().map(|value| value.to_bits()).collect();
        state.words("curve.steps", &self.steps);
        state.words("curve.values", &bits);
    }

    pub(crate) fn restore(&mut self, checkpoint: &mut Checkpoint) -> Result<()> {
        self.steps = checkpoint.word_list("curve.steps")?;
        self.values = checkpoint.word_list("curve.values")?.into_iter().map(f64::from_bits).collect();
        if self.values.len() != self.steps.len() * self.names.len() {
            return Err(Error::Data("the curve of the checkpoint is not one of this training".to_owned()));
        }
        Ok(())
    }

    /// The curve as an artifact holds it.
    pub(crate) fn rows(&self, batch: usize) -> Vec<CurveRow> {
        let points = self.steps.iter().zip(self.values.chunks(self.names.len().max(1)));
        points
            .flat_map(|(&step, values)| {
                self.names.iter().zip(values).map(move |(name, &value)| CurveRow {
                    step,
                    tokens: step * batch as u64,
                    name: name.clone(),
                    value,
                })
            })
            .collect()
    }
}

//! Where effects go: to disk, with a [`Recorder`], or into memory.

use crate::{Error, Recorder, Result};

/// Takes effects as they come, as [`Recorder`] does.
pub trait Sink {
    /// As [`Recorder::record`].
    ///
    /// # Errors
    /// As [`Recorder::record`].
    fn record(
        &mut self,
        mediator: usize,
        first: u32,
        clean: &[f64],
        counterfactual: Option<&[f64]>,
        patched: &[f64],
        reached: impl Fn(usize) -> bool,
    ) -> Result<()>;

    /// As [`Recorder::count`].
    fn count(&mut self, prompts: usize, share: f64);
}

impl Sink for Recorder {
    fn record(
        &mut self,
        mediator: usize,
        first: u32,
        clean: &[f64],
        counterfactual: Option<&[f64]>,
        patched: &[f64],
        reached: impl Fn(usize) -> bool,
    ) -> Result<()> {
        Recorder::record(self, mediator, first, clean, counterfactual, patched, reached)
    }

    fn count(&mut self, prompts: usize, share: f64) {
        Recorder::count(self, prompts, share);
    }
}

/// An effect on an example.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Kept {
    pub(crate) example: usize,
    /// The clean value less that of the counterfactual.
    pub(crate) total: f64,
    /// The patched value less that of the counterfactual.
    pub(crate) restored: f64,
}

/// Effects of patches into counterfactual runs, in memory, by mediator.
pub(crate) struct InMemory(pub(crate) Vec<Vec<Kept>>);

impl Sink for InMemory {
    fn record(
        &mut self,
        mediator: usize,
        first: u32,
        clean: &[f64],
        counterfactual: Option<&[f64]>,
        patched: &[f64],
        reached: impl Fn(usize) -> bool,
    ) -> Result<()> {
        let missing = || Error::Data("what is restored is measured from a counterfactual".to_owned());
        let counterfactual = counterfactual.ok_or_else(missing)?;
        let examples = (first as usize..).zip(clean.iter().zip(counterfactual).zip(patched));
        let kept = |(example, ((clean, counterfactual), patched)): (usize, ((&f64, &f64), &f64))| Kept {
            example,
            total: clean - counterfactual,
            restored: patched - counterfactual,
        };
        self.0[mediator].extend(examples.filter(|(example, _)| reached(*example)).map(kept));
        Ok(())
    }

    fn count(&mut self, _: usize, _: f64) {}
}

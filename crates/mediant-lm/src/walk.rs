//! What is read and changed on the way through a model.

use std::collections::BTreeSet;

use mediant_tensor::{Compute, Tensor, TensorData};

use crate::attention::Rotation;
use crate::{Batch, Edit, Error, HookPoint, KvCache, LmConfig, Result};

/// Receives activations as a pass reaches them. The shape is that of [`Edit`]'s activation.
pub type Reader<'a, C> = dyn FnMut(HookPoint, Tensor<C, 3>) -> Result<()> + 'a;

/// What to read and what to change during a pass. A reader sees what the edits at the same point leave; several edits at
/// one point apply in the order given. Reading changes no later bit.
pub struct Hooks<'a, C: Compute> {
    edits: Vec<(HookPoint, &'a dyn Edit<C>)>,
    points: BTreeSet<HookPoint>,
    reader: Option<&'a mut Reader<'a, C>>,
}

impl<'a, C: Compute> Hooks<'a, C> {
    /// Nothing.
    pub fn none() -> Self {
        Self { edits: Vec::new(), points: BTreeSet::new(), reader: None }
    }

    /// Also changes the activation at `point`.
    #[must_use]
    pub fn edit(mut self, point: HookPoint, edit: &'a dyn Edit<C>) -> Self {
        self.edits.push((point, edit));
        self
    }

    /// Hands the activations at `points` to `reader`, in the order of the pass.
    #[must_use]
    pub fn read<'b>(self, points: impl IntoIterator<Item = HookPoint>, reader: &'b mut Reader<'b, C>) -> Hooks<'b, C>
    where
        'a: 'b,
    {
        Hooks { edits: self.edits, points: points.into_iter().collect(), reader: Some(reader) }
    }

    /// The last point that is read.
    pub(crate) fn last_read(&self) -> Option<HookPoint> {
        self.points.last().copied()
    }

    /// The last point that is read or changed.
    fn last(&self) -> Option<HookPoint> {
        self.edits.iter().map(|(point, _)| *point).chain(self.last_read()).max()
    }

    /// Every point is one that the model has.
    fn check(&self, config: &LmConfig) -> Result<()> {
        let asked = self.points.iter().chain(self.edits.iter().map(|(point, _)| point));
        match asked.into_iter().find(|point| !config.has_hook(**point)) {
            Some(point) => {
                let model = config.architecture.model_type;
                Err(Error::Hook(format!("this {model} model has no hook point `{point}`")))
            }
            None => Ok(()),
        }
    }
}

/// Which rows of a batch a pass ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Every position of every sequence.
    All,
    /// The last position of every sequence. What only the others need is not computed in the last block.
    Last,
}

/// Why a pass ended before the last layer.
pub(crate) enum Stop {
    /// Everything that was asked for has been read.
    Done,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// One pass under way.
pub(crate) struct Walk<'w, 'a, C: Compute> {
    pub(crate) batch: &'w Batch<C>,
    pub(crate) cache: Option<&'w mut KvCache<C>>,
    pub(crate) rotation: Option<Rotation<C>>,
    hooks: Hooks<'a, C>,
    /// Where to stop: the last point that is read, if nothing else is wanted.
    pub(crate) stop_at: Option<HookPoint>,
    rows: Rows,
    /// Whether only the last row of each sequence is left.
    pub(crate) trimmed: bool,
}

impl<'w, 'a, C: Compute> Walk<'w, 'a, C> {
    pub(crate) fn new(config: &LmConfig, batch: &'w Batch<C>, hooks: Hooks<'a, C>, rows: Rows) -> Result<Self> {
        hooks.check(config)?;
        let rotation = Rotation::new(config, batch);
        Ok(Self { batch, cache: None, rotation, hooks, stop_at: None, rows, trimmed: false })
    }

    /// Whether only last rows are wanted, all are still there, and nobody looks at or changes anything from `point` on.
    pub(crate) fn may_trim(&self, point: HookPoint) -> bool {
        self.rows == Rows::Last && !self.trimmed && self.hooks.last().is_none_or(|last| last < point)
    }

    /// Keeps the last row of each sequence, if no others are wanted and nobody looks at anything from `point` on, nor
    /// anywhere further if there is none.
    pub(crate) fn trim<const D: usize>(&mut self, point: Option<HookPoint>, x: Tensor<C, D>) -> Tensor<C, D> {
        let may = match point {
            Some(point) => self.may_trim(point),
            None => self.rows == Rows::Last && !self.trimmed,
        };
        if !may {
            return x;
        }
        self.trimmed = true;
        self.last_rows(x)
    }

    /// The last rows of every sequence.
    pub(crate) fn last_rows<const D: usize>(&self, x: Tensor<C, D>) -> Tensor<C, D> {
        let rows: Vec<i32> = self.batch.sequences().iter().map(|s| (s.start + s.len - 1) as i32).collect();
        let count = rows.len();
        x.select(0, Tensor::from_data(TensorData::new(rows, [count]), &self.batch.device()))
    }

    /// Whether anybody changes the activation at this point.
    pub(crate) fn edits(&self, point: HookPoint) -> bool {
        self.hooks.edits.iter().any(|(at, _)| *at == point)
    }

    /// Whether anybody reads or changes the activation at this point.
    pub(crate) fn wants(&self, point: HookPoint) -> bool {
        self.hooks.points.contains(&point) || self.edits(point)
    }

    /// Whether nobody needs what is computed from `from` up to `to`: the first edit at `to` puts something else in its place, and nobody
    /// looks at anything between.
    pub(crate) fn skips(&self, from: HookPoint, to: HookPoint) -> bool {
        let between = |point: &HookPoint| (from..to).contains(point);
        let first = self.hooks.edits.iter().find(|(at, _)| *at == to);
        first.is_some_and(|(_, edit)| edit.overwrites())
            && self.cache.is_none()
            && !self.hooks.points.iter().any(between)
            && !self.hooks.edits.iter().any(|(at, _)| between(at))
    }

    /// Passes a hook point with an activation `[rows, units, width]`.
    pub(crate) fn visit(&mut self, point: HookPoint, mut x: Tensor<C, 3>) -> Result<Tensor<C, 3>, Stop> {
        for (_, edit) in self.hooks.edits.iter().filter(|(at, _)| *at == point) {
            let shape = x.dims();
            x = edit.apply(point, x, self.batch)?;
            if x.dims() != shape {
                return Err(Error::Hook(format!("an edit at `{point}` gave shape {:?} for {shape:?}", x.dims())).into());
            }
        }
        if self.hooks.points.contains(&point)
            && let Some(reader) = &mut self.hooks.reader
        {
            reader(point, x.clone())?;
        }
        if self.stop_at == Some(point) { Err(Stop::Done) } else { Ok(x) }
    }

    /// Passes a hook point with an activation `[rows, width]`.
    pub(crate) fn at(&mut self, point: HookPoint, x: Tensor<C, 2>) -> Result<Tensor<C, 2>, Stop> {
        if !self.wants(point) {
            return Ok(x);
        }
        let [rows, width] = x.dims();
        Ok(self.visit(point, x.reshape([rows, 1, width]))?.reshape([rows, width]))
    }
}

//! Activations of many sequences, streamed into an artifact.

use std::sync::mpsc::sync_channel;
use std::thread;

use mediant_artifact::{ActivationsWriter, Tokens};
use mediant_tensor::{Compute, Tensor};

use crate::{Batch, Error, HookPoint, Hooks, LmConfig, Model, Positions, Result, batches};

/// What to capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// The hook points, each once, in the order of the artifact.
    pub hooks: Vec<HookPoint>,
    /// Which positions of each sequence, among those whose mask is set.
    pub positions: Positions,
}

impl Capture {
    /// Numbers of one row over all hooks. Attention scores and patterns have `context` keys, as many as the longest sequence
    /// may have; what lies beyond a sequence is −∞ and 0.
    pub fn width(&self, config: &LmConfig, context: usize) -> usize {
        self.hooks.iter().map(|hook| hook.shape(config, context).iter().product::<usize>()).sum()
    }

    /// Number of rows that these tokens give.
    pub fn rows(&self, tokens: &Tokens) -> u64 {
        (0..tokens.len()).map(|i| self.kept(tokens, i).count() as u64).sum()
    }

    /// The positions of a sequence that are kept.
    pub fn kept<'t>(&'t self, tokens: &'t Tokens, sequence: usize) -> impl Iterator<Item = usize> + 't {
        let mask = tokens.mask_of(sequence);
        (0..mask.len()).filter(move |&position| mask[position] && self.positions.includes(position, mask.len()))
    }

    /// Runs the model, under the edits that `hooks` gives for each batch, over all sequences as far as the last hook needs and writes one row per kept position, in order.
    /// Writing happens on a thread of its own beside the next forward pass, and memory is that of two batches. Rows that
    /// a resumed `writer` holds already are not computed again.
    ///
    /// `progress` hears how many tokens of how many are done; `written` gets the writer after each batch and may save a
    /// checkpoint.
    ///
    /// # Errors
    /// Whatever the model, the writer and the two functions give.
    pub fn run<'e, C: Compute, E: From<Error> + Send>(
        &self,
        model: &Model<C>,
        tokens: &Tokens,
        hooks: impl Fn() -> Hooks<'e, C>,
        mut writer: ActivationsWriter,
        mut progress: impl FnMut(u64, u64) -> Result<(), E>,
        mut written: impl FnMut(&ActivationsWriter) -> Result<(), E> + Send,
    ) -> Result<ActivationsWriter, E> {
        let (first, mut skip) = self.resume_at(tokens, writer.rows());
        let context = tokens.meta.context;
        thread::scope(|scope| {
            let (send, receive) = sync_channel::<Rows<C>>(0);
            let written = scope.spawn(move || {
                for rows in receive {
                    self.write(&mut writer, rows, context)?;
                    written(&writer)?;
                }
                Ok(writer)
            });
            let computed = (|| {
                for range in batches(tokens, model.config(), self.width(model.config(), tokens.meta.context)) {
                    let range = range.start.max(first)..range.end;
                    if range.is_empty() {
                        continue;
                    }
                    let end = tokens.offsets[range.end];
                    let sequences: Vec<usize> = range.collect();
                    let rows = self.compute(model, tokens, hooks(), &sequences, std::mem::take(&mut skip))?;
                    if send.send(rows).is_err() {
                        break; // The writer has failed; its error is the one to show.
                    }
                    progress(end as u64, tokens.meta.tokens)?;
                }
                Ok(())
            })();
            drop(send);
            let written = written.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            computed.and(written)
        })
    }

    /// The vectors of the kept positions of some sequences, in their order: `[rows, width]` a hook point. Attention maps have `context` keys.
    ///
    /// # Errors
    /// As the pass.
    pub fn vectors<C: Compute>(
        &self,
        model: &Model<C>,
        tokens: &Tokens,
        sequences: &[usize],
        context: usize,
    ) -> Result<Vec<Vec<f32>>> {
        let Rows { kept, values, .. } = self.compute(model, tokens, Hooks::none(), sequences, 0)?;
        let all = self.hooks.iter().zip(values);
        all.map(|(&point, values)| chosen(point, values.ok_or_else(|| missed(point))?, &kept, context)).collect()
    }

    /// The sequence to go on with when `rows` rows are there, and how many rows of it are.
    fn resume_at(&self, tokens: &Tokens, mut rows: u64) -> (usize, usize) {
        for sequence in 0..tokens.len() {
            let kept = self.kept(tokens, sequence).count() as u64;
            if rows < kept {
                return (sequence, rows as usize);
            }
            rows -= kept;
        }
        (tokens.len(), 0)
    }

    fn compute<C: Compute>(
        &self,
        model: &Model<C>,
        tokens: &Tokens,
        hooks: Hooks<'_, C>,
        sequences: &[usize],
        skip: usize,
    ) -> Result<Rows<C>> {
        let ids: Vec<&[i32]> = sequences.iter().map(|&i| tokens.sequence(i)).collect();
        let batch = Batch::new(model.config(), &ids, &model.device())?;
        let batch = batch.with_examples(sequences.iter().map(|&example| example as u64).collect());
        let (mut places, mut kept) = (Vec::new(), Vec::new());
        for (&i, sequence) in sequences.iter().zip(batch.sequences()) {
            for position in self.kept(tokens, i) {
                places.push((i, position));
                kept.push(sequence.start + position);
            }
        }
        places.drain(..skip);
        kept.drain(..skip);
        let mut values = vec![None; self.hooks.len()];
        let mut take = |point: HookPoint, x: Tensor<C, 3>| {
            if let Some(index) = self.hooks.iter().position(|hook| *hook == point) {
                values[index] = Some(x);
            }
            Ok(())
        };
        model.read(&batch, hooks.read(self.hooks.iter().copied(), &mut take))?;
        Ok(Rows {
            example: places.iter().map(|(i, _)| *i as u32).collect(),
            position: places.iter().map(|(_, position)| *position as u32).collect(),
            token: places.iter().map(|(i, position)| tokens.sequence(*i)[*position]).collect(),
            kept,
            values,
        })
    }

    /// Writes the kept rows of a batch; reading them from the device happens here, beside the next forward pass.
    fn write<C: Compute>(&self, writer: &mut ActivationsWriter, rows: Rows<C>, context: usize) -> Result<()> {
        writer.index(&rows.example, &rows.position, &rows.token)?;
        for ((hook, &point), values) in writer.hooks_mut().iter_mut().zip(&self.hooks).zip(rows.values) {
            let values = values.ok_or_else(|| missed(point))?;
            hook.write_f32(&chosen(point, values, &rows.kept, context)?)?;
        }
        Ok(())
    }
}

fn missed(point: HookPoint) -> Error {
    Error::Hook(format!("the forward pass did not come to `{point}`"))
}

/// The `kept` rows of `[tokens, units, width]` values; where there is one a key, filled up to `context` keys.
fn chosen<C: Compute>(point: HookPoint, x: Tensor<C, 3>, kept: &[usize], context: usize) -> Result<Vec<f32>> {
    let [rows, units, width] = x.dims();
    let all = x.into_data().into_vec::<f32>().map_err(|e| Error::Hook(format!("`{point}` cannot be read: {e:?}")))?;
    let beyond = if point.per_key() { context - width } else { 0 };
    if kept.len() == rows && beyond == 0 {
        return Ok(all);
    }
    let fill = if point.site() == Some(crate::Site::AttnScores) { f32::NEG_INFINITY } else { 0.0 };
    let padding = vec![fill; beyond];
    let row = |row: &usize| all[row * units * width..(row + 1) * units * width].chunks_exact(width);
    let units = kept.iter().flat_map(row);
    Ok(units.flat_map(|unit| unit.iter().chain(&padding)).copied().collect())
}

/// What a batch gives.
struct Rows<C: Compute> {
    /// One entry a kept row, as in the artifact's index.
    example: Vec<u32>,
    position: Vec<u32>,
    token: Vec<i32>,
    /// Which rows of the batch are kept.
    kept: Vec<usize>,
    /// All rows, by hook in the order of the artifact.
    values: Vec<Option<Tensor<C, 3>>>,
}

//! Activations of many sequences, streamed into an artifact.

use std::sync::mpsc::{Receiver, sync_channel};
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
    fn kept<'t>(&'t self, tokens: &'t Tokens, sequence: usize) -> impl Iterator<Item = usize> + 't {
        let mask = tokens.mask_of(sequence);
        (0..mask.len()).filter(move |&position| mask[position] && self.positions.includes(position, mask.len()))
    }

    /// Runs the model over all sequences as far as the last hook needs and writes one row per kept position, in order.
    /// Writing happens on a thread of its own beside the next forward pass, and memory is that of two batches. Rows that
    /// a resumed `writer` holds already are not computed again.
    ///
    /// `progress` hears how many tokens of how many are done; `written` gets the writer after each batch and may save a
    /// checkpoint.
    ///
    /// # Errors
    /// Whatever the model, the writer and the two functions give.
    pub fn run<C: Compute, E: From<Error> + Send>(
        &self,
        model: &Model<C>,
        tokens: &Tokens,
        writer: ActivationsWriter,
        mut progress: impl FnMut(u64, u64) -> Result<(), E>,
        written: impl FnMut(&ActivationsWriter) -> Result<(), E> + Send,
    ) -> Result<ActivationsWriter, E> {
        let (first, mut skip) = self.resume_at(tokens, writer.rows());
        thread::scope(|scope| {
            let (send, receive) = sync_channel(0);
            let written = scope.spawn(move || write_all(receive, writer, written));
            let computed = (|| {
                for range in batches(tokens, model.config(), self.width(model.config(), tokens.meta.context)) {
                    let range = range.start.max(first)..range.end;
                    if range.is_empty() {
                        continue;
                    }
                    let end = tokens.offsets[range.end];
                    let rows = self.compute(model, tokens, range, std::mem::take(&mut skip))?;
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
        range: std::ops::Range<usize>,
        skip: usize,
    ) -> Result<Rows> {
        let sequences: Vec<&[i32]> = range.clone().map(|i| tokens.sequence(i)).collect();
        let batch = Batch::new(model.config(), &sequences, &model.device())?;
        let places = range.clone().flat_map(|i| self.kept(tokens, i).map(move |position| (i, position)));
        let places: Vec<(usize, usize)> = places.skip(skip).collect();
        let first = tokens.offsets[range.start];
        let batch_rows: Vec<usize> = places.iter().map(|(i, position)| tokens.offsets[*i] + position - first).collect();
        let mut values = vec![Vec::new(); self.hooks.len()];
        let mut take = |point: HookPoint, x: Tensor<C, 3>| {
            let [rows, units, width] = x.dims();
            let all =
                x.into_data().into_vec::<f32>().map_err(|e| Error::Hook(format!("`{point}` cannot be read: {e:?}")))?;
            let beyond = if point.per_key() { tokens.meta.context - width } else { 0 };
            let fill = if point.site() == Some(crate::Site::AttnScores) { f32::NEG_INFINITY } else { 0.0 };
            let chosen = if batch_rows.len() == rows && beyond == 0 {
                all
            } else {
                let padding = vec![fill; beyond];
                let row = |row: &usize| all[row * units * width..(row + 1) * units * width].chunks_exact(width);
                let units = batch_rows.iter().flat_map(row);
                units.flat_map(|unit| unit.iter().chain(&padding)).copied().collect()
            };
            if let Some(index) = self.hooks.iter().position(|hook| *hook == point) {
                values[index] = chosen;
            }
            Ok(())
        };
        model.read(&batch, Hooks::none().read(self.hooks.iter().copied(), &mut take))?;
        Ok(Rows {
            example: places.iter().map(|(i, _)| *i as u32).collect(),
            position: places.iter().map(|(_, position)| *position as u32).collect(),
            token: places.iter().map(|(i, position)| tokens.sequence(*i)[*position]).collect(),
            values,
        })
    }
}

/// The kept rows of one batch.
struct Rows {
    example: Vec<u32>,
    position: Vec<u32>,
    token: Vec<i32>,
    /// By hook, in the order of the artifact.
    values: Vec<Vec<f32>>,
}

fn write_all<E: From<Error>>(
    batches: Receiver<Rows>,
    mut writer: ActivationsWriter,
    mut written: impl FnMut(&ActivationsWriter) -> Result<(), E>,
) -> Result<ActivationsWriter, E> {
    for rows in batches {
        write(&mut writer, &rows)?;
        written(&writer)?;
    }
    Ok(writer)
}

fn write(writer: &mut ActivationsWriter, rows: &Rows) -> Result<()> {
    writer.index(&rows.example, &rows.position, &rows.token)?;
    for (hook, values) in writer.hooks_mut().iter_mut().zip(&rows.values) {
        hook.write_f32(values)?;
    }
    Ok(())
}

//! What models predict at every token of a corpus that counts, few rows of logits at a time.

use mediant_artifact::Tokens;
use mediant_lm::{Hooks, Model, batch_of, batches, predicted};
use mediant_tensor::{Compute, Int, Tensor, TensorData};

use crate::{Error, Result};

/// Logits of all models together, in bytes.
const LOGITS_BYTES: usize = 64 << 20;

/// Gets the predicted tokens by their indices in [`Tokens::ids`], and of each model the logits that predict them, `[tokens,
/// vocabulary]` row after row.
pub(crate) type Predictions<'r> = dyn FnMut(&[usize], &[Vec<f32>]) + 'r;

/// Runs models over a corpus. `progress` hears how many tokens of how many are done.
///
/// # Errors
/// If a model cannot take the tokens, and whatever `progress` gives.
pub(crate) fn predictions<C: Compute, E: From<Error>>(
    models: &[&Model<C>],
    tokens: &Tokens,
    each: &mut Predictions<'_>,
    mut progress: impl FnMut(u64, u64) -> Result<(), E>,
) -> Result<(), E> {
    let Some(widest) = models.iter().map(|model| model.config()).max_by_key(|config| config.d_mlp) else {
        return Ok(());
    };
    for range in batches(tokens, widest, models.len() * widest.d_model) {
        let of_model = |model: &&Model<C>| model.hidden(&batch_of(model, tokens, range.clone())?, Hooks::none());
        let hidden = models.iter().map(of_model).collect::<mediant_lm::Result<Vec<_>>>().map_err(Error::from)?;
        let (targets, rows): (Vec<usize>, Vec<usize>) =
            // The row before a token predicts it.
            predicted(tokens, range.clone()).map(|(token, _)| (token, token - 1 - tokens.offsets[range.start])).unzip();
        let step = (LOGITS_BYTES / (4 * models.len() * widest.vocab_size)).max(64);
        for (targets, rows) in targets.chunks(step).zip(rows.chunks(step)) {
            let of_model = |(model, hidden): (&&Model<C>, &Tensor<C, 2>)| numbers(model.logits(chosen(hidden, rows)));
            let logits = models.iter().zip(&hidden).map(of_model).collect::<Result<Vec<_>>>()?;
            each(targets, &logits);
        }
        progress(tokens.offsets[range.end] as u64, tokens.meta.tokens)?;
    }
    Ok(())
}

/// Some rows of a matrix.
pub(crate) fn chosen<C: Compute, const D: usize>(x: &Tensor<C, D>, rows: &[usize]) -> Tensor<C, D> {
    let index: Vec<i32> = rows.iter().map(|row| *row as i32).collect();
    let index = Tensor::<C, 1, Int>::from_data(TensorData::new(index, [rows.len()]), &x.device());
    x.clone().select(0, index)
}

/// Numbers on the host, row-major.
pub(crate) fn numbers<C: Compute, const D: usize>(x: Tensor<C, D>) -> Result<Vec<f32>> {
    let values = x.into_data().into_vec::<f32>();
    values.map_err(|error| Error::Data(format!("numbers cannot be read from the device: {error:?}")))
}

/// `ln Σ exp(logits)`, in f64.
pub(crate) fn log_sum_exp(logits: &[f32]) -> f64 {
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let total: f64 = logits.iter().map(|x| (f64::from(*x) - largest).exp()).sum();
    largest + total.ln()
}

//! The scales that norms compute, over a corpus.

use std::collections::BTreeMap;

use mediant_artifact::Tokens;
use mediant_tensor::{Compute, Tensor, ops};

use crate::{Batch, BlockNorm, Error, HookPoint, Hooks, Model, NormKind, NormSite, Result, batches};

/// The scales σ of some rows of one norm: `√(var + eps)` of what it reads (LayerNorm), `√(mean square + eps)` (RMSNorm).
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleStatistics {
    /// The norm: `blocks.2.ln1`, `blocks.2.ln2`, `ln_final`.
    pub norm: String,
    /// Whether the rows are the first of their sequences; none if all are counted.
    pub first: Option<bool>,
    /// Whether the tokens are special (BOS, separator); none if all are counted.
    pub special: Option<bool>,
    /// Number of rows.
    pub n: u64,
    /// Mean.
    pub mean: f64,
    /// Standard deviation, that of the rows themselves (over n).
    pub sd: f64,
    /// Values at the asked shares of the sorted rows, between neighbours by linear interpolation.
    pub quantiles: Vec<f64>,
}

/// What each norm before a part computes for the rows of a corpus, or would if it were live: of all rows, and of those of
/// each class that has any, in the order of a pass. `progress` hears how many tokens of how many are done. The scales of all rows are in
/// memory, in f32.
///
/// # Errors
/// What the model, the tokens and `progress` give.
pub fn scale_statistics<C: Compute, E: From<Error>>(
    model: &Model<C>,
    tokens: &Tokens,
    shares: &[f64],
    mut progress: impl FnMut(u64, u64) -> Result<(), E>,
) -> Result<Vec<ScaleStatistics>, E> {
    let config = model.config();
    let inputs: Vec<HookPoint> = (0..config.n_layers)
        .flat_map(|layer| [BlockNorm::QueryKey, BlockNorm::Mlp].map(|norm| NormSite::Block(layer, norm)))
        .chain([NormSite::Final])
        .map(|site| site.input(config))
        .collect();
    let centered = config.norm == NormKind::Layer;
    let mut scales: BTreeMap<HookPoint, Vec<f32>> = BTreeMap::new();
    for range in batches(tokens, config, 0) {
        let sequences: Vec<&[i32]> = range.clone().map(|i| tokens.sequence(i)).collect();
        let batch = Batch::new(config, &sequences, &model.device())?;
        let mut take = |point: HookPoint, x: Tensor<C, 3>| {
            let x = x.reshape([batch.rows(), config.d_model]);
            let of_rows = ops::norm_scales(x, centered, config.norm_eps).into_data().into_vec::<f32>();
            let of_rows = of_rows.map_err(|error| Error::Hook(format!("scales cannot be read: {error:?}")))?;
            scales.entry(point).or_default().extend(of_rows);
            Ok(())
        };
        model.read(&batch, Hooks::none().read(inputs.iter().copied(), &mut take))?;
        progress(tokens.offsets[range.end] as u64, tokens.meta.tokens)?;
    }
    let classes = classes(tokens);
    let statistics = inputs.iter().enumerate().flat_map(|(index, input)| {
        let norm = match (index / 2, index % 2) {
            (layer, _) if layer == config.n_layers => "ln_final".to_owned(),
            (layer, 0) => format!("blocks.{layer}.ln1"),
            (layer, _) => format!("blocks.{layer}.ln2"),
        };
        let scales = scales.get(input).map_or(&[][..], Vec::as_slice);
        of_norm(&norm, scales, &classes, shares)
    });
    Ok(statistics.collect())
}

/// For each row, whether it is the first of its sequence, and whether its token is special.
fn classes(tokens: &Tokens) -> Vec<(bool, bool)> {
    let special = [tokens.meta.bos, tokens.meta.separator].map(|id| id.map(i64::from));
    let of_sequence = |index| {
        let ids = tokens.sequence(index).iter().enumerate();
        ids.map(|(position, id)| (position == 0, special.contains(&Some(i64::from(*id)))))
    };
    (0..tokens.len()).flat_map(of_sequence).collect()
}

fn of_norm(norm: &str, scales: &[f32], classes: &[(bool, bool)], shares: &[f64]) -> Vec<ScaleStatistics> {
    let of_class = |first: Option<bool>, special: Option<bool>| {
        let belongs = |class: &(bool, bool)| {
            first.is_none_or(|first| first == class.0) && special.is_none_or(|special| special == class.1)
        };
        let rows = scales.iter().zip(classes).filter(|(_, class)| belongs(class));
        let mut rows: Vec<f64> = rows.map(|(scale, _)| f64::from(*scale)).collect();
        if rows.is_empty() {
            return None;
        }
        let n = rows.len() as f64;
        let mean = rows.iter().sum::<f64>() / n;
        let variance = rows.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        rows.sort_by(f64::total_cmp);
        let quantiles = shares.iter().map(|share| quantile(&rows, *share)).collect();
        let norm = norm.to_owned();
        Some(ScaleStatistics { norm, first, special, n: rows.len() as u64, mean, sd: variance.sqrt(), quantiles })
    };
    let both = [(true, true), (true, false), (false, true), (false, false)];
    let classes = both.map(|(first, special)| (Some(first), Some(special)));
    [(None, None)].into_iter().chain(classes).filter_map(|(first, special)| of_class(first, special)).collect()
}

/// The value at a share of a sorted list, between neighbours by linear interpolation (NumPy's default); NaN of nothing.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = share * last as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

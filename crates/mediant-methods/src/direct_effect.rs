//! Direct logit attribution of heads beside their direct effects: how wrong it is to hold the last norm's scale.

use mediant_artifact::Tokens;
use mediant_lm::{HookPoint, Hooks, Model, Site, batch_of, batches};
use mediant_tensor::{Compute, Tensor};
use rayon::prelude::*;

use crate::bootstrap::{Estimate, Totals, central, draws, draws_of, estimates, merged};
use crate::groups::ByDocument;
use crate::predictions::{chosen, numbers};
use crate::readout::{Readout, scales};
use crate::{Error, Result};

/// Added to the mean size of direct effects, so that a head without any has an error of 0.
const TINY: f64 = 1e-10;

/// Sums by document begin with the number of sequences; then come four for each head.
const N: usize = 0;
const ERROR: usize = 1;
const SIZE: usize = 2;
const ATTRIBUTED: usize = 3;
const DIRECT: usize = 4;
const WIDTH: usize = 4;

/// Attributions and direct effects of every head of a model.
pub struct DirectEffects {
    layers: usize,
    heads: usize,
    documents: ByDocument,
}

/// A head's attribution beside its direct effect.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeadEffects {
    /// The layer.
    pub layer: usize,
    /// The head.
    pub head: usize,
    /// `100 · mean |attributed − direct effect| / mean |direct effect|`, in percent.
    pub nmae: Estimate,
    /// Mean size of the difference of the two.
    pub error: f64,
    /// Mean size of the direct effect.
    pub size: f64,
    /// Mean attribution.
    pub attributed: f64,
    /// Mean direct effect.
    pub direct: f64,
}

/// Attributes the logit of each sequence's last token, at that token, to every head, and takes every head's output away from the residual
/// stream there. `documents` has one entry a token; a sequence belongs to the document of its last. `progress` hears how many tokens of how many
/// are done.
///
/// # Errors
/// As the passes, and whatever `progress` gives.
pub fn direct_effects<C: Compute, E: From<Error>>(
    model: &Model<C>,
    tokens: &Tokens,
    documents: &[u32],
    mut progress: impl FnMut(u64, u64) -> Result<(), E>,
) -> Result<DirectEffects, E> {
    let config = model.config();
    let readout = Readout::of(model)?;
    let mut found = DirectEffects { layers: config.n_layers, heads: config.n_heads, documents: ByDocument::default() };
    for range in batches(tokens, config, 0) {
        let last: Vec<usize> = range.clone().map(|i| tokens.offsets[i + 1] - 1).collect();
        let run = LastRows::of(model, tokens, range.clone(), &last)?;
        let all: Vec<Vec<[f64; 2]>> = last
            .par_iter()
            .enumerate()
            .map(|(row, token)| run.effects(row, &readout.row(tokens.ids[*token] as usize)))
            .collect();
        for (token, effects) in last.iter().zip(all) {
            let sums = found.documents.of(documents[*token]);
            sums.add(N, 1.0);
            for (head, [attributed, direct]) in effects.into_iter().enumerate() {
                let values = [(attributed - direct).abs(), direct.abs(), attributed, direct];
                for (offset, value) in values.into_iter().enumerate() {
                    sums.add(ERROR + WIDTH * head + offset, value);
                }
            }
        }
        progress(tokens.offsets[range.end] as u64, tokens.meta.tokens)?;
    }
    Ok(found)
}

/// The last rows of some sequences.
struct LastRows {
    width: usize,
    heads: usize,
    /// `[sequences, d_model]`
    resid: Vec<f32>,
    /// What the last norm divides it by.
    scale: Vec<f32>,
    /// By layer: what each head adds, `[sequences, heads, d_model]`, and what the norm divides the rest by, `[sequences, heads]`.
    layers: Vec<(Vec<f32>, Vec<f32>)>,
}

impl LastRows {
    fn of<C: Compute>(
        model: &Model<C>,
        tokens: &Tokens,
        sequences: std::ops::Range<usize>,
        last: &[usize],
    ) -> Result<Self> {
        let config = model.config();
        let batch = batch_of(model, tokens, sequences.clone())?;
        let rows: Vec<usize> = last.iter().map(|token| token - tokens.offsets[sequences.start]).collect();
        let resid_at = HookPoint::Block(config.n_layers - 1, Site::ResidPost);
        let (mut of_heads, mut resid) = (Vec::new(), None);
        let mut take = |point: HookPoint, x: Tensor<C, 3>| {
            let x = chosen(&x, &rows);
            match point {
                HookPoint::Block(layer, Site::Z) => of_heads.push(model.head_results(layer, x)),
                _ => resid = Some(x.reshape([rows.len(), config.d_model])),
            }
            Ok(())
        };
        let points = (0..config.n_layers).map(|layer| HookPoint::Block(layer, Site::Z)).chain([resid_at]);
        model.read(&batch, Hooks::none().read(points, &mut take))?;
        let resid: Tensor<C, 2> = resid.ok_or_else(|| Error::Data(format!("the pass did not come to `{resid_at}`")))?;
        let [n, width] = resid.dims();
        let layers = of_heads.into_iter().map(|added| {
            let [_, heads, _] = added.dims();
            let rest = resid.clone().reshape([n, 1, width]) - added.clone();
            let rest = scales(model, &batch, rest.reshape([n * heads, width]))?;
            Ok((numbers(added)?, numbers(rest)?))
        });
        let layers = layers.collect::<Result<Vec<_>>>()?;
        let scale = numbers(scales(model, &batch, resid.clone())?)?;
        Ok(Self { width, heads: config.n_heads, resid: numbers(resid)?, scale, layers })
    }

    /// Attribution and direct effect of every head on one sequence, all products in f64.
    fn effects(&self, sequence: usize, readout: &[f64]) -> Vec<[f64; 2]> {
        let dot = |x: &[f32]| x.iter().zip(readout).map(|(x, w)| f64::from(*x) * w).sum::<f64>();
        let scale = f64::from(self.scale[sequence]);
        let resid = dot(&self.resid[sequence * self.width..][..self.width]);
        let of_layer = |(added, rest): &(Vec<f32>, Vec<f32>)| -> Vec<[f64; 2]> {
            let of = |head: usize| {
                let place = sequence * self.heads + head;
                let added = dot(&added[place * self.width..][..self.width]);
                [added / scale, resid / scale - (resid - added) / f64::from(rest[place])]
            };
            (0..self.heads).map(of).collect()
        };
        self.layers.iter().flat_map(of_layer).collect()
    }
}

impl DirectEffects {
    /// Number of sequences.
    pub fn sequences(&self) -> u64 {
        merged(self.documents.sums()).at(N) as u64
    }

    fn places(&self) -> Vec<usize> {
        (0..self.layers * self.heads).map(|head| WIDTH * head).collect()
    }

    /// The error over all heads and sequences in percent, with what it is divided: mean size of the difference, mean size of the direct effect.
    /// The interval is over documents and heads, both drawn.
    pub fn overall(&self, seed: u64) -> (Estimate, f64, f64) {
        let (documents, heads) = (self.documents.sums(), self.places());
        let all = merged(documents);
        let interval = (documents.len() > 1).then(|| {
            let drawn = draws(documents.len(), seed).into_par_iter();
            let drawn = drawn.zip(draws_of(heads.len(), seed, "bootstrap heads")).map(|(of_documents, of_heads)| {
                let mut sums = Totals::default();
                of_documents.iter().for_each(|&place| crate::bootstrap::Sums::merge(&mut sums, &documents[place]));
                nmae(&sums, &of_heads.iter().map(|&head| heads[head]).collect::<Vec<_>>())
            });
            central(drawn.collect::<Vec<_>>().into_iter())
        });
        let n = all.at(N) * heads.len() as f64;
        let mean = |of: usize| heads.iter().map(|head| all.at(head + of)).sum::<f64>() / n;
        (Estimate { value: nmae(&all, &heads), interval: interval.flatten() }, mean(ERROR), mean(SIZE))
    }

    /// Every head, intervals over documents.
    pub fn of_heads(&self, seed: u64) -> Vec<HeadEffects> {
        let documents = self.documents.sums();
        let metrics: Vec<_> = self.places().into_iter().map(|head| move |sums: &Totals| nmae(sums, &[head])).collect();
        let all = merged(documents);
        let of = |(place, nmae): (usize, Estimate)| {
            let mean = |of: usize| all.ratio(WIDTH * place + of, N);
            HeadEffects {
                layer: place / self.heads,
                head: place % self.heads,
                nmae,
                error: mean(ERROR),
                size: mean(SIZE),
                attributed: mean(ATTRIBUTED),
                direct: mean(DIRECT),
            }
        };
        estimates(documents, &metrics, seed).into_iter().enumerate().map(of).collect()
    }
}

/// In percent, over these heads, each given by the place before its sums.
fn nmae(sums: &Totals, heads: &[usize]) -> f64 {
    let n = sums.at(N) * heads.len() as f64;
    let mean = |of: usize| heads.iter().map(|head| sums.at(head + of)).sum::<f64>() / n;
    100.0 * mean(ERROR) / (mean(SIZE) + TINY)
}

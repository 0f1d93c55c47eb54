//! Attention sinks: how much attention goes to the first position, and how large the residual stream is there (Xiao et al. 2023,
//! arXiv:2309.17453; Sun et al. 2024, arXiv:2402.17762).

use mediant_artifact::Tokens;
use mediant_lm::{Batch, HookPoint, Hooks, LmConfig, Model, Site, batch_of, batches};
use mediant_tensor::{Compute, Tensor};

use crate::bootstrap::{Estimate, Totals, estimates, merged};
use crate::groups::ByDocument;
use crate::predictions::numbers;
use crate::{Error, Result};

/// Sums by document begin with the number of sequences, then that of their positions but the first.
const SEQUENCES: usize = 0;
const OTHERS: usize = 1;
const FIRST: usize = 2;

/// Attention to the first position, and norms, of a model on a corpus.
pub struct Sinks {
    layers: usize,
    heads: usize,
    documents: ByDocument,
}

/// Attention of a head to the first position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeadSink {
    /// The layer.
    pub layer: usize,
    /// The head.
    pub head: usize,
    /// Share of queries that give it more than the threshold.
    pub rate: f64,
    /// Mean attention that it gets.
    pub weight: f64,
}

/// Mean length of the residual stream at a place, at the first position and at the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StreamNorm {
    /// Where.
    pub point: HookPoint,
    /// At the first position.
    pub first: Estimate,
    /// At the others.
    pub others: Estimate,
}

/// Measures a corpus; `documents` has one entry a token, and a sequence belongs to the document of its first. Sequences of one token are left
/// out. `progress` hears how many tokens of how many are done.
///
/// # Errors
/// As the passes, and whatever `progress` gives.
pub fn sinks<C: Compute, E: From<Error>>(
    model: &Model<C>,
    tokens: &Tokens,
    documents: &[u32],
    threshold: f32,
    mut progress: impl FnMut(u64, u64) -> Result<(), E>,
) -> Result<Sinks, E> {
    let config = model.config();
    let mut found = Sinks { layers: config.n_layers, heads: config.n_heads, documents: ByDocument::default() };
    let patterns = config.n_heads * tokens.meta.context;
    for range in batches(tokens, config, patterns) {
        let batch = batch_of(model, tokens, range.clone()).map_err(Error::from)?;
        let first: Vec<u32> = range.clone().map(|i| documents[tokens.offsets[i]]).collect();
        let mut read = |point: HookPoint, x: Tensor<C, 3>| {
            found.add(point, x, &batch, &first, threshold).map_err(|error| mediant_lm::Error::Hook(error.to_string()))
        };
        let points = (0..config.n_layers).map(|layer| HookPoint::Block(layer, Site::Pattern)).chain(stream(config));
        model.read(&batch, Hooks::none().read(points, &mut read)).map_err(Error::from)?;
        for (document, sequence) in first.iter().zip(batch.sequences()).filter(|(_, s)| s.len > 1) {
            let sums = found.documents.of(*document);
            sums.add(SEQUENCES, 1.0);
            sums.add(OTHERS, (sequence.len - 1) as f64);
        }
        progress(tokens.offsets[range.end] as u64, tokens.meta.tokens)?;
    }
    Ok(found)
}

/// Before every block, and after the last.
fn stream(config: &LmConfig) -> impl Iterator<Item = HookPoint> + use<> {
    let layers = config.n_layers;
    let before = (0..layers).map(|layer| HookPoint::Block(layer, Site::ResidPre));
    before.chain([HookPoint::Block(layers - 1, Site::ResidPost)])
}

impl Sinks {
    fn rate(&self, layer: usize, head: usize) -> usize {
        FIRST + 2 * (layer * self.heads + head)
    }

    fn norm(&self, place: usize) -> usize {
        self.rate(self.layers, 0) + 2 * place
    }

    fn add<C: Compute>(
        &mut self,
        point: HookPoint,
        x: Tensor<C, 3>,
        batch: &Batch<C>,
        documents: &[u32],
        threshold: f32,
    ) -> Result<()> {
        let sequences = batch.sequences().iter().zip(documents).filter(|(s, _)| s.len > 1);
        if let HookPoint::Block(layer, Site::Pattern) = point {
            // The first key's column: `[query rows, heads]`.
            let weights = numbers(x.narrow(2, 0, 1))?;
            for (s, document) in sequences {
                let queries = (s.len - 1) as f64;
                for head in 0..self.heads {
                    let of_queries = (s.start + 1..s.start + s.len).map(|row| weights[row * self.heads + head]);
                    let above = of_queries.clone().filter(|weight| *weight > threshold).count() as f64;
                    let weight = of_queries.map(f64::from).sum::<f64>();
                    let place = self.rate(layer, head);
                    let sums = self.documents.of(*document);
                    sums.add(place, above / queries);
                    sums.add(place + 1, weight / queries);
                }
            }
            return Ok(());
        }
        let place = match point {
            HookPoint::Block(layer, Site::ResidPre) => layer,
            _ => self.layers,
        };
        let place = self.norm(place);
        let squares = numbers((x.clone() * x).sum_dim(2))?;
        for (s, document) in sequences {
            let length = |row: usize| f64::from(squares[row]).sqrt();
            let sums = self.documents.of(*document);
            sums.add(place, length(s.start));
            sums.add(place + 1, (s.start + 1..s.start + s.len).map(length).sum());
        }
        Ok(())
    }

    /// Number of sequences.
    pub fn sequences(&self) -> u64 {
        merged(self.documents.sums()).at(SEQUENCES) as u64
    }

    /// Over all layers and heads: the share of queries that give the first position more than the threshold, and the mean attention that it
    /// gets; intervals over documents.
    pub fn overall(&self, seed: u64) -> [Estimate; 2] {
        let (first, heads) = (self.rate(0, 0), self.layers * self.heads);
        let mean = |offset: usize| {
            move |sums: &Totals| {
                let sum: f64 = (0..heads).map(|head| sums.at(first + 2 * head + offset)).sum();
                sum / (heads as f64 * sums.at(SEQUENCES))
            }
        };
        let found = estimates(self.documents.sums(), &[0, 1].map(mean), seed);
        [found[0], found[1]]
    }

    /// Every head.
    pub fn of_heads(&self) -> Vec<HeadSink> {
        let all = merged(self.documents.sums());
        let of = |layer: usize, head: usize| {
            let place = self.rate(layer, head);
            HeadSink { layer, head, rate: all.ratio(place, SEQUENCES), weight: all.ratio(place + 1, SEQUENCES) }
        };
        (0..self.layers)
            .flat_map(|layer| (0..self.heads).map(move |head| (layer, head)))
            .map(|(l, h)| of(l, h))
            .collect()
    }

    /// Lengths of the residual stream before every block and after the last, intervals over documents.
    pub fn norms(&self, seed: u64) -> Vec<StreamNorm> {
        let means = (0..=self.layers).flat_map(|place| [(place, 0, SEQUENCES), (place, 1, OTHERS)]);
        let means: Vec<_> = means
            .map(|(place, offset, below)| {
                let above = self.norm(place) + offset;
                move |sums: &Totals| sums.ratio(above, below)
            })
            .collect();
        let found = estimates(self.documents.sums(), &means, seed);
        let point = |place: usize| match place == self.layers {
            true => HookPoint::Block(place - 1, Site::ResidPost),
            false => HookPoint::Block(place, Site::ResidPre),
        };
        let of =
            |(place, pair): (usize, &[Estimate])| StreamNorm { point: point(place), first: pair[0], others: pair[1] };
        found.chunks_exact(2).enumerate().map(of).collect()
    }
}

use std::collections::{BTreeMap, BTreeSet};

use mediant_lm::{HookPoint, Hooks, Model};
use mediant_tensor::{Compute, Tensor, TensorData};

use super::Site;
use crate::{Error, Pairs, Result};

/// Which version of the prompts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The prompts themselves.
    Clean,
    /// The counterfactual that is meant.
    Counterfactual,
}

/// The activations of a version at a site.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gathered {
    /// Numbers of a vector.
    pub width: usize,
    /// Vectors `[rows, width]`, by prompt and position.
    pub rows: Vec<f32>,
    /// The prompt of each of them.
    pub prompts: Vec<u32>,
}

impl Gathered {
    /// The vectors.
    pub fn vectors(&self) -> impl Iterator<Item = &[f32]> {
        // No vectors have no width.
        self.rows.chunks_exact(self.width.max(1))
    }

    /// The mean vector of each prompt that has any, with the prompt.
    pub fn means(&self) -> Vec<(u32, Vec<f64>)> {
        let rows: Vec<(u32, &[f32])> = self.prompts.iter().copied().zip(self.vectors()).collect();
        rows.chunk_by(|a, b| a.0 == b.0)
            .map(|rows| {
                let mut sum = vec![0.0; self.width];
                for (_, row) in rows {
                    sum.iter_mut().zip(*row).for_each(|(sum, x)| *sum += f64::from(*x));
                }
                (rows[0].0, sum.into_iter().map(|sum| sum / rows.len() as f64).collect())
            })
            .collect()
    }
}

/// The activations of a version of all prompts, at each site; the positions are those of the version's own spans. `progress` hears
/// how many prompts are done.
///
/// # Errors
/// [`Error::Data`] for a counterfactual that none is, and whatever the passes and `progress` give.
pub fn gather<C: Compute, E: From<Error>>(
    model: &Model<C>,
    pairs: &Pairs,
    which: Which,
    sites: &[Site],
    mut progress: impl FnMut(usize) -> Result<(), E>,
) -> Result<Vec<Gathered>, E> {
    let points: BTreeSet<HookPoint> = sites.iter().map(|site| site.point).collect();
    let mut found = vec![Gathered::default(); sites.len()];
    for range in pairs.ranges() {
        let pair = pairs.batch::<C>(range.clone(), model.config(), &model.device())?;
        let batch = match which {
            Which::Clean => &pair.clean,
            Which::Counterfactual => pair.corrupted()?,
        };
        let mut read: BTreeMap<HookPoint, Tensor<C, 3>> = BTreeMap::new();
        let mut take = |point, x| {
            read.insert(point, x);
            Ok(())
        };
        model.read(batch, Hooks::none().read(points.iter().copied(), &mut take)).map_err(Error::from)?;
        for (site, found) in sites.iter().zip(&mut found) {
            let x = &read[&site.point];
            let [_, units, width] = x.dims();
            found.width = units * width;
            let chosen = site.positions.rows(batch).map_err(Error::from)?;
            let sequences = batch.sequences().iter().enumerate();
            let of_row = sequences.flat_map(|(index, s)| vec![pair.first + index as u32; s.len]);
            let (rows, prompts): (Vec<i32>, Vec<u32>) =
                of_row.enumerate().filter(|(row, _)| chosen[*row]).map(|(row, prompt)| (row as i32, prompt)).unzip();
            if rows.is_empty() {
                continue;
            }
            let count = rows.len();
            let index = Tensor::from_data(TensorData::new(rows, [count]), &x.device());
            let values = x.clone().select(0, index).into_data().into_vec::<f32>();
            found.rows.extend(values.map_err(|error| unreadable(site.point, &error))?);
            found.prompts.extend(prompts);
        }
        progress(range.end)?;
    }
    match sites.iter().zip(&found).find(|(_, found)| found.rows.is_empty()) {
        Some((site, _)) => Err(Error::Data(format!("no prompt has a position of {site}")).into()),
        None => Ok(found),
    }
}

fn unreadable(point: HookPoint, error: &impl std::fmt::Debug) -> Error {
    Error::Data(format!("`{point}` cannot be read: {error:?}"))
}

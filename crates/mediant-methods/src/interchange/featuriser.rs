use mediant_dict::Sae;
use mediant_lm::{Batch, Select};
use mediant_tensor::kernels::sparse::Codes;
use mediant_tensor::{Compute, Tensor, TensorData};

use crate::subspace::{Basis, Site};
use crate::{Error, Result};

/// What an activation is taken apart into.
#[derive(Clone, Debug, PartialEq)]
pub enum Featuriser {
    /// Its numbers.
    Dimensions,
    /// What lies along each vector of a basis.
    Directions(Basis),
    /// The latents of an autoencoder.
    Latents(Box<Sae>),
}

/// Which features come from the counterfactual.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Features {
    /// Everything, whatever the featuriser: the full vector.
    Whole,
    /// These.
    Of(Vec<usize>),
}

impl Featuriser {
    /// How many features a vector of this width has.
    ///
    /// # Errors
    /// [`Error::Data`] for another width than that of the basis or the autoencoder, and for a transcoder.
    pub fn features(&self, width: usize) -> Result<usize> {
        let (what, own, features) = match self {
            Self::Dimensions => return Ok(width),
            Self::Directions(basis) => ("basis", basis.width(), basis.rank()),
            Self::Latents(sae) => {
                let weights = sae.weights();
                if weights.d_out != weights.d_in || weights.w_skip.is_some() {
                    return Err(Error::Data(
                        "a transcoder does not take the activation that it reads apart".to_owned(),
                    ));
                }
                ("autoencoder", weights.d_in, weights.d_sae)
            }
        };
        if own == width {
            Ok(features)
        } else {
            Err(Error::Data(format!("the {what} has vectors of {own} numbers, the activations have {width}")))
        }
    }
}

/// Base and source at a site, taken apart.
pub(super) struct Apart<'a, C: Compute> {
    site: &'a Site,
    featuriser: &'a Featuriser,
    batch: &'a Batch<C>,
    base: Tensor<C, 3>,
    source: Tensor<C, 3>,
    /// Of the chosen rows, where there is an autoencoder.
    codes: Option<Coded>,
}

struct Coded {
    /// The rows of the batch.
    rows: Vec<usize>,
    /// The base's vectors there.
    x: Vec<f32>,
    base: Codes,
    source: Codes,
    whole: Vec<f32>,
}

impl<'a, C: Compute> Apart<'a, C> {
    /// `base` and `source` are the activations `[rows, units, width]` at the site.
    pub(super) fn new(
        site: &'a Site,
        featuriser: &'a Featuriser,
        batch: &'a Batch<C>,
        base: Tensor<C, 3>,
        source: Tensor<C, 3>,
    ) -> Result<Self> {
        let [_, units, width] = base.dims();
        featuriser.features(units * width)?;
        let codes = match featuriser {
            Featuriser::Latents(sae) => Some(Coded::new(sae, site, batch, &base, &source)?),
            Featuriser::Dimensions | Featuriser::Directions(_) => None,
        };
        Ok(Self { site, featuriser, batch, base, source, codes })
    }

    /// The base with these features of the source, at the site's positions.
    pub(super) fn with(&self, features: &Features) -> Result<Tensor<C, 3>> {
        let [rows, units, width] = self.base.dims();
        let flat = [rows, units * width];
        let device = self.base.device();
        let changed = match (features, self.featuriser) {
            (Features::Whole, _) => self.source.clone(),
            (Features::Of(chosen), featuriser) => {
                let known = featuriser.features(units * width)?;
                if let Some(beyond) = chosen.iter().find(|&&index| index >= known) {
                    return Err(Error::Data(format!("{} has no feature {beyond}; it has {known}", self.site)));
                }
                if chosen.is_empty() {
                    return Ok(self.base.clone());
                }
                match (featuriser, &self.codes) {
                    (Featuriser::Dimensions, _) => {
                        let mut mask = vec![false; units * width];
                        chosen.iter().for_each(|&index| mask[index] = true);
                        let mask = Tensor::<C, 3, _>::from_data(TensorData::new(mask, [1, units, width]), &device);
                        self.base.clone().mask_where(mask.expand([rows, units, width]), self.source.clone())
                    }
                    (Featuriser::Directions(basis), _) => {
                        let vectors: Vec<&[f32]> = chosen.iter().map(|&index| basis.vector(index)).collect();
                        let r = Basis::new(&vectors)?.tensor::<C>(&device);
                        let (base, source) = (self.base.clone().reshape(flat), self.source.clone().reshape(flat));
                        let along = (source - base.clone()).matmul(r.clone().transpose());
                        (base + along.matmul(r)).reshape([rows, units, width])
                    }
                    (Featuriser::Latents(sae), Some(codes)) => {
                        let mut added = vec![0f32; rows * units * width];
                        codes.add(sae, chosen, &mut added);
                        let added = Tensor::from_data(TensorData::new(added, [rows, units, width]), &device);
                        self.base.clone() + added
                    }
                    (Featuriser::Latents(_), None) => return Err(Error::Data("there are no codes".to_owned())),
                }
            }
        };
        let select = Select::at(self.site.positions.clone());
        Ok(select.replace(self.site.point, self.base.clone(), changed, self.batch)?)
    }
}

impl Coded {
    fn new<C: Compute>(
        sae: &Sae,
        site: &Site,
        batch: &Batch<C>,
        base: &Tensor<C, 3>,
        source: &Tensor<C, 3>,
    ) -> Result<Self> {
        let chosen = site.positions.rows(batch)?;
        let rows: Vec<usize> = (0..chosen.len()).filter(|&row| chosen[row]).collect();
        let d_in = sae.weights().d_in;
        let at_rows = |x: &Tensor<C, 3>| -> Result<Vec<f32>> {
            let all = x.clone().into_data().into_vec::<f32>();
            let all = all.map_err(|error| Error::Data(format!("`{}` cannot be read: {error:?}", site.point)))?;
            Ok(rows.iter().flat_map(|row| &all[row * d_in..(row + 1) * d_in]).copied().collect())
        };
        let (x, source) = (at_rows(base)?, at_rows(source)?);
        let (base, source) = (sae.encode(&x), sae.encode(&source));
        let whole = sae.decode(&base, &x);
        Ok(Self { rows, x, base, source, whole })
    }

    /// Adds what the chosen latents of the source change in the reconstruction.
    fn add(&self, sae: &Sae, chosen: &[usize], to: &mut [f32]) {
        let d_in = sae.weights().d_in;
        let mut from_source = vec![false; sae.weights().d_sae];
        chosen.iter().for_each(|&latent| from_source[latent] = true);
        let mut mixed = Codes::default();
        for row in 0..self.rows.len() {
            let of = |codes: &'_ Codes, source: bool| -> Vec<(u32, f32)> {
                let (latents, values) = codes.row(row);
                let entries = latents.iter().copied().zip(values.iter().copied());
                entries.filter(|(latent, _)| from_source[*latent as usize] == source).collect()
            };
            let mut entries = of(&self.base, false);
            entries.extend(of(&self.source, true));
            entries.sort_unstable_by_key(|(latent, _)| *latent);
            mixed.push_row(entries);
        }
        let made = sae.decode(&mixed, &self.x);
        for (place, row) in self.rows.iter().enumerate() {
            let part = place * d_in..(place + 1) * d_in;
            let to = &mut to[row * d_in..(row + 1) * d_in];
            for (to, (made, whole)) in to.iter_mut().zip(made[part.clone()].iter().zip(&self.whole[part])) {
                *to = made - whole;
            }
        }
    }
}

//! The parameters of a sparse autoencoder or transcoder.

use mediant_tensor::random;
use rayon::prelude::*;

use crate::EncoderInit;

/// W_enc, b_enc, W_dec, b_dec, and what else the family has; or as many gradients.
///
/// Both matrices have one row a latent, so that what belongs to a latent lies together.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// Width of the input.
    pub d_in: usize,
    /// Width of the output; that of the input if it is an autoencoder.
    pub d_out: usize,
    /// Number of latents.
    pub d_sae: usize,
    /// The encoder, transposed: `[d_sae, d_in]`.
    pub w_enc: Vec<f32>,
    /// `[d_sae]`.
    pub b_enc: Vec<f32>,
    /// The decoder: `[d_sae, d_out]`.
    pub w_dec: Vec<f32>,
    /// `[d_out]`.
    pub b_dec: Vec<f32>,
    /// Of a skip transcoder: `[d_out, d_in]`, x W_skipᵀ is added to the output.
    pub w_skip: Option<Vec<f32>>,
    /// What only some families have.
    pub extra: Extra,
}

/// What activations are multiplied by in training; of an autoencoder both are the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scales {
    /// What is read.
    pub input: f32,
    /// What is reconstructed.
    pub target: f32,
}

impl Scales {
    /// Activations as they are.
    pub const NONE: Self = Self { input: 1.0, target: 1.0 };
}

/// Parameters that only some families have.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Extra {
    /// No further ones.
    #[default]
    None,
    /// matching_pursuit: the encoder is W_dec, and there is no b_enc; `w_enc` and `b_enc` are empty.
    Tied,
    /// jumprelu: above which pre-activation a latent is active, `[d_sae]`.
    Threshold(Vec<f32>),
    /// gated, whose `b_enc` is the gate's bias `b_gate`: the magnitudes are max((x W_enc) ⊙ e^r_mag + b_mag, 0).
    Gate {
        /// `[d_sae]`.
        b_mag: Vec<f32>,
        /// `[d_sae]`.
        r_mag: Vec<f32>,
    },
}

impl Weights {
    /// SAELens' initialisation: W_dec uniform in ±√(6/d_in) (Kaiming), its rows scaled to `decoder_norm` if one is given,
    /// W_enc its transpose, biases zero. Drawn from the stream (`seed`, "init").
    pub fn init(d_in: usize, d_sae: usize, decoder_norm: Option<f64>, seed: u64) -> Self {
        let bound = (6.0 / d_in as f32).sqrt();
        let mut w_dec = vec![0.0; d_sae * d_in];
        random::fill_uniform(&mut random::stream(seed, "init"), &mut w_dec, -bound, bound);
        if let Some(wanted) = decoder_norm {
            scale_rows(&mut w_dec, d_in, wanted);
        }
        Self {
            d_in,
            d_out: d_in,
            d_sae,
            w_enc: w_dec.clone(),
            b_enc: vec![0.0; d_sae],
            w_dec,
            b_dec: vec![0.0; d_in],
            w_skip: None,
            extra: Extra::None,
        }
    }

    /// Gives the encoder's columns initial norms of their own; they keep the directions of the decoder's rows, which are drawn
    /// from the stream (`seed`, "init").
    pub(crate) fn init_encoder(&mut self, init: EncoderInit, seed: u64) {
        match init {
            EncoderInit::Transposed => {}
            EncoderInit::Norm(wanted) => scale_rows(&mut self.w_enc, self.d_in, wanted),
            EncoderInit::Kaiming => {
                let bound = (6.0 / self.d_sae as f32).sqrt();
                random::fill_uniform(&mut random::stream(seed, "init"), &mut self.w_enc, -bound, bound);
            }
        }
    }

    /// SAELens' initialisation of a transcoder: W_dec as for an autoencoder of the width of the output, W_enc a Kaiming draw of
    /// its own, uniform in ±√(6/d_sae) from the stream (`seed`, "init encoder"), W_skip and biases zero.
    pub fn init_transcoder(
        [d_in, d_out]: [usize; 2],
        d_sae: usize,
        decoder_norm: Option<f64>,
        skip: bool,
        seed: u64,
    ) -> Self {
        let bound = (6.0 / d_sae as f32).sqrt();
        let mut w_enc = vec![0.0; d_sae * d_in];
        random::fill_uniform(&mut random::stream(seed, "init encoder"), &mut w_enc, -bound, bound);
        let w_skip = skip.then(|| vec![0.0; d_out * d_in]);
        Self { d_in, w_enc, w_skip, ..Self::init(d_out, d_sae, decoder_norm, seed) }
    }

    /// Zeros in the same layout.
    #[must_use]
    pub fn zeros_like(&self) -> Self {
        let zeros = |of: &Vec<f32>| vec![0.0; of.len()];
        Self {
            d_in: self.d_in,
            d_out: self.d_out,
            d_sae: self.d_sae,
            w_enc: zeros(&self.w_enc),
            b_enc: zeros(&self.b_enc),
            w_dec: zeros(&self.w_dec),
            b_dec: zeros(&self.b_dec),
            w_skip: self.w_skip.as_ref().map(zeros),
            extra: match &self.extra {
                Extra::None => Extra::None,
                Extra::Tied => Extra::Tied,
                Extra::Threshold(of) => Extra::Threshold(zeros(of)),
                Extra::Gate { b_mag, r_mag } => Extra::Gate { b_mag: zeros(b_mag), r_mag: zeros(r_mag) },
            },
        }
    }

    /// Sets everything to zero.
    pub(crate) fn clear(&mut self) {
        for values in self.each_mut() {
            values.par_chunks_mut(1 << 16).for_each(|chunk| chunk.fill(0.0));
        }
    }

    /// Names and shapes of the parameters, in the order of [`Self::each`].
    pub fn shapes(&self) -> Vec<(&'static str, Vec<usize>)> {
        let (d_in, d_out, d_sae) = (self.d_in, self.d_out, self.d_sae);
        let bias = if matches!(self.extra, Extra::Gate { .. }) { "b_gate" } else { "b_enc" };
        let extra: &[&str] = match self.extra {
            Extra::None | Extra::Tied => &[],
            Extra::Threshold(_) => &["threshold"],
            Extra::Gate { .. } => &["b_mag", "r_mag"],
        };
        let four = [
            ("W_enc_T", vec![d_sae, d_in]),
            (bias, vec![d_sae]),
            ("W_dec", vec![d_sae, d_out]),
            ("b_dec", vec![d_out]),
        ];
        let tied = self.extra == Extra::Tied;
        let some = four.into_iter().filter(|(name, _)| !tied || ["W_dec", "b_dec"].contains(name));
        let skip = self.w_skip.as_ref().map(|_| ("W_skip", vec![d_out, d_in]));
        some.chain(extra.iter().map(|name| (*name, vec![d_sae]))).chain(skip).collect()
    }

    /// The parameters: W_enc, b_enc, W_dec, b_dec, the family's own, and W_skip.
    pub fn each(&self) -> Vec<&[f32]> {
        let mut all: Vec<&[f32]> = match self.extra {
            Extra::Tied => vec![&self.w_dec[..], &self.b_dec],
            _ => vec![&self.w_enc[..], &self.b_enc, &self.w_dec, &self.b_dec],
        };
        match &self.extra {
            Extra::None | Extra::Tied => {}
            Extra::Threshold(threshold) => all.push(threshold),
            Extra::Gate { b_mag, r_mag } => all.extend([&b_mag[..], r_mag]),
        }
        all.extend(self.w_skip.as_deref());
        all
    }

    /// The parameters, to be changed.
    pub fn each_mut(&mut self) -> Vec<&mut [f32]> {
        let mut all: Vec<&mut [f32]> = match self.extra {
            Extra::Tied => vec![&mut self.w_dec[..], &mut self.b_dec],
            _ => vec![&mut self.w_enc[..], &mut self.b_enc, &mut self.w_dec, &mut self.b_dec],
        };
        match &mut self.extra {
            Extra::None | Extra::Tied => {}
            Extra::Threshold(threshold) => all.push(threshold),
            Extra::Gate { b_mag, r_mag } => all.extend([&mut b_mag[..], r_mag]),
        }
        all.extend(self.w_skip.as_deref_mut());
        all
    }

    /// What latents are found by, `[d_sae, d_in]`: W_enc, or W_dec where that is the encoder.
    pub fn encoder(&self) -> &[f32] {
        if self.extra == Extra::Tied { &self.w_dec } else { &self.w_enc }
    }

    /// ‖W_dec,i‖₂ of every latent.
    pub fn decoder_norms(&self) -> Vec<f32> {
        self.w_dec.chunks_exact(self.d_out).map(norm).collect()
    }

    /// Takes over the scales that activations were multiplied by in training: the result maps unscaled inputs to unscaled
    /// outputs (SAELens' `fold_activation_norm_scaling_factor`). Codes stay those of training.
    pub fn fold_scales(&mut self, scales: Scales) {
        let Scales { input, target } = scales;
        // Codes of a pursuit scale with the input, and what they are multiplied by stays.
        if self.extra != Extra::Tied {
            self.w_enc.iter_mut().for_each(|x| *x *= input);
            self.w_dec.iter_mut().for_each(|x| *x /= target);
        }
        self.b_dec.iter_mut().for_each(|x| *x /= target);
        self.w_skip.iter_mut().flatten().for_each(|x| *x *= input / target);
    }

    /// Moves the norm of each decoder row into the encoder; rows are of norm 1 afterwards. Norms are clamped to 1e-8 as in
    /// SAELens. The function stays the same where the activation rule commutes with a positive scale per latent: not for
    /// tied weights.
    pub fn fold_decoder_norms(&mut self) {
        let norms: Vec<f32> = self.decoder_norms().into_iter().map(|norm| norm.max(1e-8)).collect();
        for (row, norm) in self.w_enc.chunks_exact_mut(self.d_in).zip(&norms) {
            row.iter_mut().for_each(|x| *x *= norm);
        }
        for (row, norm) in self.w_dec.chunks_exact_mut(self.d_out).zip(&norms) {
            row.iter_mut().for_each(|x| *x /= norm);
        }
        let times_norm = |values: &mut [f32]| values.iter_mut().zip(&norms).for_each(|(x, norm)| *x *= norm);
        times_norm(&mut self.b_enc);
        match &mut self.extra {
            Extra::None | Extra::Tied => {}
            Extra::Threshold(threshold) => times_norm(threshold),
            // e^r_mag multiplies what has been scaled already.
            Extra::Gate { b_mag, .. } => times_norm(b_mag),
        }
    }
}

fn scale_rows(matrix: &mut [f32], width: usize, wanted: f64) {
    for row in matrix.chunks_exact_mut(width) {
        let scale = wanted as f32 / norm(row);
        row.iter_mut().for_each(|x| *x *= scale);
    }
}

fn norm(row: &[f32]) -> f32 {
    sum_of_squares(row).sqrt() as f32
}

/// Σ x² in f64, in eight interleaved sums.
pub(crate) fn sum_of_squares(values: &[f32]) -> f64 {
    let mut lanes = [0.0f64; 8];
    let (chunks, rest) = values.as_chunks::<8>();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(x) * f64::from(x);
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>()
}

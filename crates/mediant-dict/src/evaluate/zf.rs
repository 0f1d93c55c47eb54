//! Norms of inputs and codes, and how far they may be apart (top-AFA, `approximate feature activation`).
//!
//! If z = Σ f_i w_i with f ≥ 0, unit vectors w_i and |w_i · w_j| ≤ ε for i ≠ j among h of them, then
//! ‖z‖² / (1 + ε (h − 1)) ≤ ‖f‖² ≤ ‖z‖² / (1 − ε (h − 1)). Read the other way, ε is at least
//! `eps_lbo` = |‖z‖² − ‖f‖²| / ((h − 1) ‖f‖²).

use mediant_tensor::kernels::sparse::Codes;

use crate::{Activation, Sae};

/// The norms of one input and its code.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ZfPoint {
    /// ‖z‖, of what the autoencoder reads, normalised if it does that.
    pub z_norm: f64,
    /// ‖f‖.
    pub f_norm: f64,
    /// The lower bound on ε; not finite where nothing is active.
    pub eps_lbo: f64,
}

/// Norms of codes as of vectors of unit length: latents times the norm of their decoder row, and ‖b_dec‖ as one more.
#[derive(Clone, Debug, PartialEq)]
pub struct Zf {
    lengths: Option<Vec<f32>>,
    bias_squared: f64,
    others: f64,
}

impl Zf {
    /// For the codes of this autoencoder.
    pub fn new(sae: &Sae) -> Self {
        let weights = sae.weights();
        // Codes of such a topk autoencoder are multiplied by the norms already.
        let scaled = matches!(sae.activation(), Activation::TopK { rescale_acts_by_decoder_norm: true, .. });
        Self {
            lengths: (!scaled).then(|| weights.decoder_norms()),
            bias_squared: weights.b_dec.iter().map(|x| f64::from(*x).powi(2)).sum(),
            others: (weights.d_sae - 1) as f64,
        }
    }

    /// The norms of an input and its row of codes.
    pub fn point(&self, z: &[f32], codes: &Codes, row: usize) -> ZfPoint {
        let (latents, values) = codes.row(row);
        let length = |latent: u32| self.lengths.as_ref().map_or(1.0, |lengths| f64::from(lengths[latent as usize]));
        let squares = latents.iter().zip(values).map(|(latent, value)| (f64::from(*value) * length(*latent)).powi(2));
        let f_squared = squares.sum::<f64>() + self.bias_squared;
        let z_squared: f64 = z.iter().map(|x| f64::from(*x).powi(2)).sum();
        ZfPoint {
            z_norm: z_squared.sqrt(),
            f_norm: f_squared.sqrt(),
            eps_lbo: (z_squared - f_squared).abs() / (self.others * f_squared),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::Zf;
    use crate::{Activation, Extra, Sae, Weights};

    /// Two orthogonal decoder rows of lengths 2 and 1 in three dimensions, and a third that is not orthogonal.
    fn sae(activation: Activation) -> Sae {
        let w_dec = vec![2.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.6, 0.8, 0.0];
        let weights = Weights {
            d_in: 3,
            d_out: 3,
            d_sae: 3,
            w_enc: vec![0.5, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0],
            b_enc: vec![0.0; 3],
            w_dec,
            b_dec: vec![0.0, 0.0, 2.0],
            w_skip: None,
            extra: Extra::None,
        };
        Sae::new(weights, activation, true).unwrap()
    }

    #[test]
    fn orthogonal_directions_need_no_overlap() {
        for activation in [Activation::Relu, Activation::TopK { k: 3, rescale_acts_by_decoder_norm: true }] {
            let sae = sae(activation);
            // x = 1.5 · (2, 0, 0) + 2 · (0, 1, 0) + b_dec: norms 3, 2 and 2.
            let x = [3.0, 2.0, 2.0];
            let codes = sae.encode(&x);
            assert_eq!(sae.decode(&codes, &x), x);
            let point = Zf::new(&sae).point(&x, &codes, 0);
            assert!((point.z_norm - 17f64.sqrt()).abs() < 1e-6 && (point.f_norm - 17f64.sqrt()).abs() < 1e-6);
            assert!(point.eps_lbo < 1e-7, "{activation:?}: {}", point.eps_lbo);
            // Twice the input with the same code: |4 · 17 − 17| / (2 · 17).
            let twice = Zf::new(&sae).point(&[6.0, 4.0, 4.0], &codes, 0);
            assert!((twice.eps_lbo - 1.5).abs() < 1e-6);
        }
    }
}

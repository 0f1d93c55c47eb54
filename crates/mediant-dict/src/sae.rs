//! A trained autoencoder, ready to be used.

use mediant_tensor::kernels::least_rows;
use mediant_tensor::kernels::sparse::Codes;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::encode::{choose, magnitude, positive_entries, pre_activations, scaled_plus_rows};
use crate::product::{add_times_transposed, pieces};
use crate::{Error, Extra, InputNorm, MatchingPursuit, Result, Weights, afa, pursuit};

/// How pre-activations become codes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Activation {
    /// max(z, 0).
    Relu,
    /// max((z − b_gate) e^r_mag + b_mag, 0) where z > 0.
    Gated,
    /// z where it is above both 0 and the latent's threshold.
    JumpRelu,
    /// The k largest, then max(·, 0).
    TopK {
        /// How many.
        k: usize,
        /// Pre-activations are multiplied by the norms of the decoder rows, and codes divided by them before decoding.
        rescale_acts_by_decoder_norm: bool,
    },
    /// As many of the largest z_i ‖W_dec,i‖ as bring their norm nearest that of the input; max(z, 0) there.
    #[serde(rename = "top_afa")]
    TopAfa,
    /// Latents chosen one after another.
    #[serde(rename = "matching_pursuit")]
    MatchingPursuit(MatchingPursuit),
}

impl Activation {
    /// Whether it is a top-k that chooses by pre-activations as they are.
    pub fn is_plain_topk(self) -> bool {
        matches!(self, Self::TopK { rescale_acts_by_decoder_norm: false, .. })
    }

    /// The name of the architecture: `relu`, `gated`, `topk`, `jumprelu`, `top_afa`, `matching_pursuit`.
    pub fn architecture(self) -> &'static str {
        match self {
            Self::Relu => "relu",
            Self::Gated => "gated",
            Self::JumpRelu => "jumprelu",
            Self::TopK { .. } => "topk",
            Self::TopAfa => "top_afa",
            Self::MatchingPursuit(_) => "matching_pursuit",
        }
    }
}

/// A sparse autoencoder for inference: `f = activation((x − b_dec) W_enc + b_enc)`, `x̂ = f W_dec + b_dec`; or a transcoder,
/// whose output is another activation, with x W_skipᵀ added if it has that. With an [`InputNorm`] x is the normalised vector, and
/// x̂ is brought back.
///
/// Every row of a result depends on its own row of the input alone, to the bit.
#[derive(Clone, Debug, PartialEq)]
pub struct Sae {
    weights: Weights,
    activation: Activation,
    apply_b_dec_to_input: bool,
    input_norm: InputNorm,
    /// Norms of the decoder rows, where latents are chosen by them.
    norms: Option<Vec<f32>>,
}

impl Sae {
    /// An autoencoder of these parameters.
    ///
    /// # Errors
    /// When k is not between 1 and the number of latents, or there are fewer than two dimensions or latents.
    pub fn new(weights: Weights, activation: Activation, apply_b_dec_to_input: bool) -> Result<Self> {
        let (d_in, d_sae) = (weights.d_in, weights.d_sae);
        if d_in < 2 || d_sae < 2 {
            return Err(Error::Data(format!("an autoencoder of {d_in} dimensions and {d_sae} latents")));
        }
        if apply_b_dec_to_input && (weights.d_out != d_in || weights.w_skip.is_some()) {
            return Err(Error::Data("a transcoder's b_dec cannot be subtracted from its input".to_owned()));
        }
        let fits = match activation {
            Activation::Relu | Activation::TopK { .. } | Activation::TopAfa => weights.extra == Extra::None,
            Activation::Gated => matches!(weights.extra, Extra::Gate { .. }),
            Activation::JumpRelu => matches!(weights.extra, Extra::Threshold(_)),
            Activation::MatchingPursuit(_) => weights.extra == Extra::Tied,
        };
        if !fits {
            return Err(Error::Data(format!("other parameters than a {} autoencoder has", activation.architecture())));
        }
        let norms = match activation {
            Activation::TopK { k, .. } if k == 0 || k > d_sae => {
                return Err(Error::Data(format!("{k} active latents of {d_sae}")));
            }
            Activation::TopK { rescale_acts_by_decoder_norm: true, .. } | Activation::TopAfa => {
                Some(weights.decoder_norms())
            }
            _ => None,
        };
        Ok(Self { weights, activation, apply_b_dec_to_input, input_norm: InputNorm::None, norms })
    }

    /// The same, of normalised vectors.
    ///
    /// # Errors
    /// For a transcoder, whose output is no vector that was normalised.
    pub fn with_input_norm(self, input_norm: InputNorm) -> Result<Self> {
        if !input_norm.is_none() && (self.weights.d_out != self.weights.d_in || self.weights.w_skip.is_some()) {
            return Err(Error::Data(format!("a transcoder with `normalize_activations: {}`", input_norm.name())));
        }
        Ok(Self { input_norm, ..self })
    }

    /// The parameters.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The activation rule.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// Whether b_dec is subtracted from the input.
    pub fn apply_b_dec_to_input(&self) -> bool {
        self.apply_b_dec_to_input
    }

    /// What happens to every vector before it is encoded.
    pub fn input_norm(&self) -> InputNorm {
        self.input_norm
    }

    /// Vectors `[rows, d_in]` as they are encoded, but for `b_dec`.
    pub fn normalised(&self, x: &[f32]) -> Vec<f32> {
        self.input_norm.apply(x, self.weights.d_in, &mut Vec::new()).to_vec()
    }

    /// Codes of `x`, `[rows, d_in]`.
    pub fn encode(&self, x: &[f32]) -> Codes {
        let (d_in, d_sae) = (self.weights.d_in, self.weights.d_sae);
        let rows = x.len() / d_in;
        if rows < least_rows(d_sae) {
            let mut padded = x.to_vec();
            padded.resize(least_rows(d_sae) * d_in, 0.0);
            let mut codes = self.encode(&padded);
            codes.truncate(rows);
            return codes;
        }
        let (mut all, mut buffer) = (Codes::default(), Vec::new());
        let (mut normalised, mut centred) = (Vec::new(), Vec::new());
        for piece in pieces(rows, d_sae) {
            let x = self.input_norm.apply(&x[piece.start * d_in..piece.end * d_in], d_in, &mut normalised);
            let b_dec = &self.weights.b_dec;
            let inputs =
                if self.apply_b_dec_to_input { scaled_plus_rows(1.0, x, -1.0, b_dec, &mut centred) } else { x };
            if let Activation::MatchingPursuit(rule) = self.activation {
                all.append(&pursuit::codes(&rule.pursue(inputs, &self.weights.w_dec, d_in, &mut buffer)));
                continue;
            }
            let hidden = pre_activations(&self.weights, inputs, &mut buffer);
            all.append(&match (self.activation, &self.weights.extra) {
                (Activation::TopAfa, _) => afa::choose(hidden, self.norms.as_deref().unwrap_or_default(), inputs),
                (Activation::TopK { k, .. }, _) => choose(hidden, d_sae, self.norms.as_deref(), k),
                (_, Extra::None | Extra::Tied) => positive_entries(hidden, d_sae),
                (_, Extra::Threshold(threshold)) => {
                    entries(hidden, d_sae, |i, z| if z > threshold[i] { z } else { 0.0 })
                }
                (_, Extra::Gate { b_mag, r_mag }) => entries(hidden, d_sae, |i, z| {
                    if z > 0.0 { magnitude(z, self.weights.b_enc[i], r_mag[i].exp(), b_mag[i]) } else { 0.0 }
                }),
            });
        }
        all
    }

    /// Reconstructions `[rows, d_out]` of the vectors `x`, `[rows, d_in]`, from codes, without what skips the latents.
    pub fn decode(&self, codes: &Codes, x: &[f32]) -> Vec<f32> {
        let mut made = match (self.activation, &self.norms) {
            (Activation::TopAfa, _) | (_, None) => codes.decode(&self.weights.w_dec, &self.weights.b_dec),
            (_, Some(norms)) => {
                let mut codes = codes.clone();
                codes.divide_by(norms);
                codes.decode(&self.weights.w_dec, &self.weights.b_dec)
            }
        };
        self.input_norm.undo(&mut made, x, self.weights.d_in);
        made
    }

    /// What one more of a latent's code adds to the reconstruction of any of the vectors `x`, `[rows, d_in]`: a vector for each of these latents,
    /// `[latents, d_out]`, times a number a row.
    pub fn effects(&self, latents: &[usize], x: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let d_out = self.weights.d_out;
        let mut vectors = Vec::with_capacity(latents.len() * d_out);
        for &latent in latents {
            let row = &self.weights.w_dec[latent * d_out..(latent + 1) * d_out];
            let norm = match (self.activation, &self.norms) {
                (Activation::TopAfa, _) | (_, None) => 1.0,
                (_, Some(norms)) => norms[latent],
            };
            vectors.extend(row.iter().map(|x| x / norm));
        }
        (vectors, x.chunks(self.weights.d_in).map(|x| self.input_norm.factor(x)).collect())
    }

    /// What is made of `x`, `[rows, d_in]`: `[rows, d_out]`.
    pub fn reconstruct(&self, x: &[f32]) -> Vec<f32> {
        let mut out = self.decode(&self.encode(x), x);
        self.add_skipped(1.0, x, &mut out);
        out
    }

    /// Adds `factor` times what skips the latents, x W_skipᵀ, to `out`, `[rows, d_out]`; nothing where nothing does.
    pub fn add_skipped(&self, factor: f32, x: &[f32], out: &mut Vec<f32>) {
        let Some(w_skip) = &self.weights.w_skip else { return };
        let (d_in, d_out) = (self.weights.d_in, self.weights.d_out);
        let (rows, least) = (x.len() / d_in, least_rows(d_out));
        if rows < least {
            let mut padded = x.to_vec();
            padded.resize(least * d_in, 0.0);
            out.resize(least * d_out, 0.0);
            add_times_transposed(out, factor, &padded, w_skip, d_in);
            out.truncate(rows * d_out);
        } else {
            add_times_transposed(out, factor, x, w_skip, d_in);
        }
    }
}

/// What `code` makes of the pre-activations, where it is above zero.
fn entries(hidden: &[f32], width: usize, code: impl Fn(usize, f32) -> f32 + Sync + Send) -> Codes {
    Codes::collect(hidden.par_chunks(width), |row, (): &mut (), codes| {
        let values = row.iter().enumerate().map(|(i, z)| (i as u32, code(i, *z)));
        codes.push_row(values.filter(|(_, value)| *value > 0.0));
    })
}

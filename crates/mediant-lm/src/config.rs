//! What a language model is made of, read from a Hugging Face `config.json`.

use serde_json::Value;

use crate::arch::{Architecture, Fields, Slot};
use crate::{Error, HookPoint, Result, Site};

/// The parts of a model and their sizes. The forward pass is assembled from this alone; an architecture says how it is
/// read from a `config.json` and where the parts' tensors are.
#[derive(Clone, Debug, PartialEq)]
pub struct LmConfig {
    /// The description that this was read by.
    pub architecture: &'static Architecture,
    /// Number of blocks.
    pub n_layers: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub d_head: usize,
    /// Width of the MLP's hidden layer.
    pub d_mlp: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Longest sequence, in tokens.
    pub context: usize,
    /// The normalisation before each part and before the unembedding.
    pub norm: NormKind,
    /// What is added under the root of the norms.
    pub norm_eps: f64,
    /// How positions enter.
    pub positions: PositionKind,
    /// The MLP.
    pub mlp: MlpKind,
    /// Whether the unembedding is the embedding.
    pub tied: bool,
}

/// A kind of normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// LayerNorm with weight and bias.
    Layer,
    /// RMSNorm with weight.
    Rms,
}

/// How positions enter the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PositionKind {
    /// A learned vector per position is added to the embedding.
    Learned,
    /// Queries and keys are rotated; the two halves of a head are the pairs' first and second parts (not interleaved).
    Rotary {
        /// Base of the wavelengths.
        theta: f64,
    },
}

/// A kind of MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MlpKind {
    /// `gelu_new(x W_in + b) W_out + b`.
    GeluNew,
    /// SwiGLU: `(silu(x W_gate) · x W_in) W_out`.
    SiluGated,
}

impl LmConfig {
    /// Reads a `config.json`. Every field is accounted for: used, checked against the one value that is built, or known
    /// to leave the numbers alone.
    ///
    /// # Errors
    /// [`Error::Config`] names the first field that is missing, wrong, unknown or not built.
    pub fn from_json(config: &Value) -> Result<Self> {
        let object = config.as_object().ok_or_else(|| Error::config("(whole)", "is not a JSON object"))?;
        let fields = Fields::new(object);
        let architecture = Architecture::of(fields.text("model_type")?)?;
        let config = (architecture.read)(&fields, architecture)?;
        fields.finish()?;
        config.check()?;
        Ok(config)
    }

    /// Limits that keep every later product of sizes far from overflow, and the divisions exact.
    fn check(&self) -> Result<()> {
        const LIMIT: usize = 1 << 28;
        let sizes = [
            ("number of layers", self.n_layers),
            ("d_model", self.d_model),
            ("number of heads", self.n_heads),
            ("number of key/value heads", self.n_kv_heads),
            ("d_head", self.d_head),
            ("d_mlp", self.d_mlp),
            ("vocabulary size", self.vocab_size),
            ("context", self.context),
        ];
        for (name, size) in sizes {
            if size == 0 || size > LIMIT {
                return Err(Error::config(name, format!("is {size}, outside 1 to {LIMIT}")));
            }
        }
        if self.n_layers > 4096 || self.n_heads > 4096 || self.d_head > 1 << 16 {
            return Err(Error::config(
                "(sizes)",
                "are far beyond any model: layers and heads at most 4096, d_head at most 65536",
            ));
        }
        if !self.n_heads.is_multiple_of(self.n_kv_heads) {
            let why = format!("is {}, which does not divide the {} query heads", self.n_kv_heads, self.n_heads);
            return Err(Error::config("number of key/value heads", why));
        }
        if matches!(self.positions, PositionKind::Rotary { .. }) && !self.d_head.is_multiple_of(2) {
            return Err(Error::config("d_head", format!("is {}, but rotary positions need an even one", self.d_head)));
        }
        Ok(())
    }

    /// Factor on the products of queries and keys: `1/√d_head`.
    pub fn attention_scale(&self) -> f32 {
        (1.0 / (self.d_head as f64).sqrt()) as f32
    }

    /// Columns of the packed query, key and value projection.
    pub fn qkv_width(&self) -> usize {
        (self.n_heads + 2 * self.n_kv_heads) * self.d_head
    }

    /// The parameters this model has, in a fixed order.
    pub fn slots(&self) -> Vec<Slot> {
        Slot::all(self.n_layers).filter(|slot| !(self.architecture.pieces)(self, *slot).is_empty()).collect()
    }

    /// Number of parameters; a tied unembedding counts once.
    pub fn parameters(&self) -> u64 {
        self.slots().iter().map(|slot| slot.shape(self).iter().map(|&n| n as u64).product::<u64>()).sum()
    }

    /// Whether the model has this hook point.
    pub fn has_hook(&self, point: HookPoint) -> bool {
        let rotary = matches!(self.positions, PositionKind::Rotary { .. });
        match point {
            HookPoint::PosEmbed => !rotary,
            HookPoint::Block(layer, _) if layer >= self.n_layers => false,
            HookPoint::Block(_, Site::RotQ | Site::RotK) => rotary,
            HookPoint::Block(_, Site::MlpPreLinear) => self.mlp == MlpKind::SiluGated,
            _ => true,
        }
    }

    /// Every hook point this model has, in the order of the forward pass.
    pub fn hooks(&self) -> Vec<HookPoint> {
        let blocks = (0..self.n_layers).flat_map(|layer| Site::ALL.map(|site| HookPoint::Block(layer, site)));
        let all = [HookPoint::Embed, HookPoint::PosEmbed].into_iter().chain(blocks);
        all.chain([HookPoint::FinalScale, HookPoint::FinalNormalized]).filter(|&point| self.has_hook(point)).collect()
    }
}

//! What a language model is made of, read from a Hugging Face `config.json`.

use mediant_artifact::Processing;
use serde_json::Value;

use crate::arch::{Architecture, BlockSlot, Fields, Piece, Slot, modular_addition};
use crate::{Activation, Biases, Error, HookPoint, NormKind, NormStates, PositionKind, Result, Site, folded, stock};

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
    /// Which of the norms compute their scale.
    pub norms: NormStates,
    /// Whether there is also a norm after each part (Gemma 2).
    pub post_norms: bool,
    /// Whether attention and MLP both read the residual stream before the block (GPT-NeoX).
    pub parallel: bool,
    /// How positions enter.
    pub positions: PositionKind,
    /// What embeddings are multiplied by (Gemma).
    pub embed_scale: Option<f32>,
    /// Factor on the products of queries and keys; mostly `1/√d_head`.
    pub attention_scale: f32,
    /// Whether a query does not see the keys after it.
    pub causal: bool,
    /// `c` where attention is `c · softmax + (1 − c)` for every key (modular addition); the softmax alone without it.
    pub softmax_share: Option<f32>,
    /// `c` of the soft cap `c · tanh(score / c)` on attention scores (Gemma 2).
    pub attention_softcap: Option<f64>,
    /// `c` of the soft cap on logits (Gemma 2).
    pub logit_softcap: Option<f64>,
    /// By layer, how many keys a query sees, itself included, where that is limited (GPT-Neo, Gemma 2).
    pub windows: Vec<Option<usize>>,
    /// The MLP's activation function.
    pub activation: Activation,
    /// Whether the MLP is `(f(x W_gate) · x W_in) W_out` rather than `f(x W_in) W_out`.
    pub gated: bool,
    /// Which projections have a bias.
    pub biases: Biases,
    /// Whether the unembedding is the embedding.
    pub tied: bool,
    /// What was done to the weights after loading.
    pub processing: Processing,
}

impl LmConfig {
    /// A model without sizes and with nothing special, for a description to fill in.
    pub(crate) fn plain(architecture: &'static Architecture, d_model: usize, d_head: usize) -> Self {
        Self {
            architecture,
            n_layers: 0,
            d_model,
            n_heads: 0,
            n_kv_heads: 0,
            d_head,
            d_mlp: 0,
            vocab_size: 0,
            context: 0,
            norm: NormKind::Layer,
            norm_eps: 0.0,
            norms: NormStates::default(),
            post_norms: false,
            parallel: false,
            positions: PositionKind::Learned,
            embed_scale: None,
            attention_scale: (1.0 / (d_head as f64).sqrt()) as f32,
            causal: true,
            softmax_share: None,
            attention_softcap: None,
            logit_softcap: None,
            windows: Vec::new(),
            activation: Activation::GeluNew,
            gated: false,
            biases: Biases::default(),
            tied: false,
            processing: Processing::default(),
        }
    }

    /// Reads a `config.json`, of Hugging Face's or of a model whose norms are part of its weights. Every field is accounted
    /// for: used, checked against the one value that is built, or known to leave the numbers alone.
    ///
    /// # Errors
    /// [`Error::Config`] names the first field that is missing, wrong, unknown or not built.
    pub fn from_json(config: &Value) -> Result<Self> {
        let object = config.as_object().ok_or_else(|| Error::config("(whole)", "is not a JSON object"))?;
        let fields = Fields::new(object);
        let architecture = if modular_addition::recognises(object) {
            &modular_addition::MODULAR_ADDITION
        } else {
            let model_type = fields.text("model_type")?;
            if model_type == folded::MODEL_TYPE {
                return folded::read(&fields);
            }
            Architecture::of(model_type)?
        };
        let mut config = (architecture.read)(&fields, architecture)?;
        if config.norm_eps == stock::EPS && !config.post_norms {
            config = config.frozen_by_epsilon(fields.mapping(stock::SCALES)?)?;
        }
        fields.finish()?;
        config.check()?;
        Ok(config)
    }

    /// Limits that keep every later product of sizes far from overflow, every number a number, and the divisions exact.
    fn check(&self) -> Result<()> {
        self.check_sizes()?;
        let theta = match self.positions {
            PositionKind::Rotary { theta, .. } => Some(theta),
            PositionKind::Learned => None,
        };
        // Far beyond any model, and far within f32.
        let numbers = [
            ("epsilon of the norms", Some(self.norm_eps), 1e-30, 1.0),
            ("scale of attention scores", Some(f64::from(self.attention_scale)), 1e-6, 1e6),
            ("soft cap on attention scores", self.attention_softcap, 1e-3, 1e6),
            ("soft cap on logits", self.logit_softcap, 1e-3, 1e6),
            ("base of the rotary positions", theta, 1.0, 1e15),
        ];
        for (name, number, least, most) in numbers {
            if let Some(number) = number.filter(|number| !(least..=most).contains(number)) {
                return Err(Error::config(name, format!("is {number:e}, outside {least:e} to {most:e}")));
            }
        }
        Ok(())
    }

    fn check_sizes(&self) -> Result<()> {
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
        if self.n_heads > 4096 || self.d_head > 1 << 16 || self.parameters() > 1 << 44 {
            return Err(Error::config(
                "(sizes)",
                "are far beyond any model: at most 4096 heads, 65536 numbers a head, 2^44 parameters",
            ));
        }
        if !self.n_heads.is_multiple_of(self.n_kv_heads) {
            let why = format!("is {}, which does not divide the {} query heads", self.n_kv_heads, self.n_heads);
            return Err(Error::config("number of key/value heads", why));
        }
        if let PositionKind::Rotary { dims, .. } = self.positions
            && (dims == 0 || !dims.is_multiple_of(2))
        {
            let why = format!("is {}, of which {dims} numbers turn; rotary positions need an even number", self.d_head);
            return Err(Error::config("d_head", why));
        }
        if let Some(window) = self.windows.iter().flatten().find(|window| !(1..=LIMIT).contains(*window)) {
            return Err(Error::config("window", format!("is {window}, outside 1 to {LIMIT}")));
        }
        Ok(())
    }

    /// Whether the model predicts every token from those before it.
    ///
    /// # Errors
    /// [`Error::Weights`] for a model that sees what comes next.
    pub(crate) fn check_causal(&self) -> Result<()> {
        if self.causal {
            return Ok(());
        }
        let why = "every position of this model sees all others, the next token too: it predicts none but what follows the last";
        Err(Error::Weights(why.to_owned()))
    }

    /// Columns of the packed query, key and value projection.
    pub fn qkv_width(&self) -> usize {
        (self.n_heads + 2 * self.n_kv_heads) * self.d_head
    }

    /// How many keys a query of this layer sees, itself included, where that is limited.
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.windows.get(layer).copied().flatten()
    }

    /// Whether the model has this parameter.
    pub fn has(&self, slot: Slot) -> bool {
        let normed = self.has_norms();
        let layer_norm = normed && self.norm == NormKind::Layer;
        match slot {
            Slot::Embed => true,
            Slot::FinalNormWeight => normed,
            Slot::PosEmbed => self.positions == PositionKind::Learned,
            Slot::FinalNormBias => layer_norm,
            Slot::Unembed => !self.tied,
            Slot::UnembedBias => self.biases.unembed,
            Slot::Block(layer, _) if layer >= self.n_layers => false,
            Slot::Block(_, part) => match part {
                BlockSlot::Norm1Bias | BlockSlot::Norm2Bias => layer_norm,
                BlockSlot::QkvBias => self.biases.qkv,
                BlockSlot::OutBias => self.biases.out,
                BlockSlot::UpBias | BlockSlot::DownBias => self.biases.mlp,
                BlockSlot::GateWeight => self.gated,
                BlockSlot::PostNorm1Weight | BlockSlot::PostNorm2Weight => self.post_norms,
                BlockSlot::Norm1Weight | BlockSlot::Norm2Weight => normed,
                BlockSlot::QkvWeight | BlockSlot::OutWeight | BlockSlot::UpWeight | BlockSlot::DownWeight => true,
            },
        }
    }

    /// The parameters this model has, in a fixed order.
    pub fn slots(&self) -> Vec<Slot> {
        self.each_slot().collect()
    }

    /// The same one after the other: a config alone may claim thousands of layers.
    pub(crate) fn each_slot(&self) -> impl Iterator<Item = Slot> {
        Slot::all(self.n_layers).filter(|&slot| self.has(slot))
    }

    /// The stored tensors that make up a parameter that the model has, side by side along its last dimension: those of the
    /// architecture's checkpoints, or, of processed weights, one of the parameter's own name and shape.
    pub fn pieces(&self, slot: Slot) -> Vec<Piece> {
        if self.processing == Processing::default() {
            (self.architecture.pieces)(self, slot)
        } else {
            vec![Piece::stored(slot.to_string(), slot.shape(self))]
        }
    }

    /// Number of parameters; a tied unembedding counts once.
    pub fn parameters(&self) -> u64 {
        let numbers = |slot: Slot| slot.shape(self).iter().map(|&n| n as u64).product::<u64>();
        self.each_slot().map(numbers).fold(0, u64::saturating_add)
    }

    /// Whether the model has this hook point.
    pub fn has_hook(&self, point: HookPoint) -> bool {
        let rotary = matches!(self.positions, PositionKind::Rotary { .. });
        match point {
            HookPoint::PosEmbed => !rotary,
            HookPoint::FinalScale | HookPoint::FinalNormalized => self.has_norms(),
            HookPoint::Block(layer, _) if layer >= self.n_layers => false,
            HookPoint::Block(_, site) => match site {
                // One input for a query head and its keys means nothing where several heads share keys.
                Site::AttnIn => self.n_heads == self.n_kv_heads,
                Site::RotQ | Site::RotK => rotary,
                Site::MlpPreLinear => self.gated,
                Site::ResidMid => !self.parallel,
                Site::Ln1PostScale | Site::Ln1PostNormalized | Site::Ln2PostScale | Site::Ln2PostNormalized => {
                    self.post_norms
                }
                Site::Ln1Scale | Site::Ln1Normalized | Site::Ln2Scale | Site::Ln2Normalized => self.has_norms(),
                _ => true,
            },
            _ => true,
        }
    }

    /// Every hook point this model has, in the order of the forward pass.
    pub fn hooks(&self) -> Vec<HookPoint> {
        let blocks = (0..self.n_layers).flat_map(|layer| Site::ALL.map(|site| HookPoint::Block(layer, site)));
        let all = [HookPoint::Embed, HookPoint::PosEmbed].into_iter().chain(blocks);
        let end = [HookPoint::FinalScale, HookPoint::FinalNormalized, HookPoint::Logits];
        all.chain(end).filter(|&point| self.has_hook(point)).collect()
    }
}

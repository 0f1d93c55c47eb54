//! The parameters of the forward pass, and the checkpoint tensors they come from.

use std::fmt;

use crate::LmConfig;

/// One parameter of the forward pass. Projections are `[in, out]`, the embedding and the unembedding `[vocabulary, d_model]`,
/// gains and biases `[out]`. The order of the variants is the order of [`LmConfig::slots`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// Token embedding.
    Embed,
    /// Position embedding `[context, d_model]`.
    PosEmbed,
    /// A parameter of a block.
    Block(usize, BlockSlot),
    /// Gain of the last norm.
    FinalNormWeight,
    /// Bias of the last norm.
    FinalNormBias,
    /// Unembedding, unless it is the embedding.
    Unembed,
    /// Its bias `[vocabulary]`, which processed weights have.
    UnembedBias,
}

/// A parameter of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockSlot {
    /// Gain of the norm before attention.
    Norm1Weight,
    /// Its bias.
    Norm1Bias,
    /// Queries, keys and values side by side, heads side by side in each.
    QkvWeight,
    /// Its bias.
    QkvBias,
    /// Attention output projection.
    OutWeight,
    /// Its bias.
    OutBias,
    /// Gain of the norm after attention (Gemma 2).
    PostNorm1Weight,
    /// Gain of the norm before the MLP.
    Norm2Weight,
    /// Its bias.
    Norm2Bias,
    /// Gate of a gated MLP.
    GateWeight,
    /// First projection of the MLP.
    UpWeight,
    /// Its bias.
    UpBias,
    /// Second projection of the MLP.
    DownWeight,
    /// Its bias.
    DownBias,
    /// Gain of the norm after the MLP (Gemma 2).
    PostNorm2Weight,
}

impl BlockSlot {
    const ALL: [(Self, &'static str); 15] = [
        (Self::Norm1Weight, "ln1.weight"),
        (Self::Norm1Bias, "ln1.bias"),
        (Self::QkvWeight, "attn.qkv.weight"),
        (Self::QkvBias, "attn.qkv.bias"),
        (Self::OutWeight, "attn.out.weight"),
        (Self::OutBias, "attn.out.bias"),
        (Self::PostNorm1Weight, "ln1_post.weight"),
        (Self::Norm2Weight, "ln2.weight"),
        (Self::Norm2Bias, "ln2.bias"),
        (Self::GateWeight, "mlp.gate.weight"),
        (Self::UpWeight, "mlp.up.weight"),
        (Self::UpBias, "mlp.up.bias"),
        (Self::DownWeight, "mlp.down.weight"),
        (Self::DownBias, "mlp.down.bias"),
        (Self::PostNorm2Weight, "ln2_post.weight"),
    ];
}

impl Slot {
    pub(crate) fn all(layers: usize) -> impl Iterator<Item = Self> {
        let block = |layer| BlockSlot::ALL.into_iter().map(move |(slot, _)| Self::Block(layer, slot));
        [Self::Embed, Self::PosEmbed].into_iter().chain((0..layers).flat_map(block)).chain([
            Self::FinalNormWeight,
            Self::FinalNormBias,
            Self::Unembed,
            Self::UnembedBias,
        ])
    }

    /// The parameter's shape in this model.
    pub fn shape(self, config: &LmConfig) -> Vec<usize> {
        let d = config.d_model;
        match self {
            Self::Embed | Self::Unembed => vec![config.vocab_size, d],
            Self::PosEmbed => vec![config.context, d],
            Self::FinalNormWeight | Self::FinalNormBias => vec![d],
            Self::UnembedBias => vec![config.vocab_size],
            Self::Block(_, slot) => match slot {
                BlockSlot::QkvWeight => vec![d, config.qkv_width()],
                BlockSlot::QkvBias => vec![config.qkv_width()],
                BlockSlot::OutWeight => vec![config.n_heads * config.d_head, d],
                BlockSlot::GateWeight | BlockSlot::UpWeight => vec![d, config.d_mlp],
                BlockSlot::UpBias => vec![config.d_mlp],
                BlockSlot::DownWeight => vec![config.d_mlp, d],
                BlockSlot::Norm1Weight
                | BlockSlot::Norm1Bias
                | BlockSlot::OutBias
                | BlockSlot::PostNorm1Weight
                | BlockSlot::Norm2Weight
                | BlockSlot::Norm2Bias
                | BlockSlot::DownBias
                | BlockSlot::PostNorm2Weight => vec![d],
            },
        }
    }

    /// Whether weight decay is meant for it: the matrices.
    pub fn is_matrix(self, config: &LmConfig) -> bool {
        self.shape(config).len() == 2
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embed => f.write_str("embed.weight"),
            Self::PosEmbed => f.write_str("pos_embed.weight"),
            Self::FinalNormWeight => f.write_str("ln_final.weight"),
            Self::FinalNormBias => f.write_str("ln_final.bias"),
            Self::Unembed => f.write_str("unembed.weight"),
            Self::UnembedBias => f.write_str("unembed.bias"),
            Self::Block(layer, slot) => {
                let name = BlockSlot::ALL.into_iter().find(|(s, _)| s == slot).map_or("", |(_, name)| name);
                write!(f, "blocks.{layer}.{name}")
            }
        }
    }
}

/// A tensor of a checkpoint that makes up a parameter, alone or beside others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its name in the checkpoint.
    pub tensor: String,
    /// Its shape in the checkpoint.
    pub shape: Vec<usize>,
    /// Whether the checkpoint holds it as `[out, in]` (or `[heads, out of a head, in]`) where the parameter is `[in, out]`.
    pub transposed: bool,
    /// Number of heads, if the checkpoint's outputs are query, key and value of one head after the other (GPT-NeoX), where
    /// the parameter has all queries, all keys, all values.
    pub heads: Option<usize>,
    /// Whether the checkpoint holds the number less one (Gemma's gains).
    pub less_one: bool,
}

impl Piece {
    /// A tensor stored as the parameter is.
    pub(crate) fn stored(tensor: String, shape: Vec<usize>) -> Self {
        Self { tensor, shape, transposed: false, heads: None, less_one: false }
    }

    /// The weight of a PyTorch `Linear`, stored `[outputs, inputs]`.
    pub(crate) fn linear(tensor: String, inputs: usize, outputs: usize) -> Self {
        Self { tensor, shape: vec![outputs, inputs], transposed: true, heads: None, less_one: false }
    }

    /// Queries, keys and values stored by head.
    pub(crate) fn by_head(self, heads: usize) -> Self {
        Self { heads: Some(heads), ..self }
    }

    /// Whether the checkpoint holds the parameter's numbers as they are and in their order, if no other piece stands beside.
    pub(crate) fn is_whole(&self) -> bool {
        !self.transposed && self.heads.is_none() && !self.less_one
    }

    /// Size along the parameter's last dimension.
    pub(crate) fn width(&self) -> usize {
        let (last, others) = self.shape.split_last().unwrap_or((&1, &[]));
        if self.transposed { others.iter().product() } else { *last }
    }

    /// Rows of the parameter, where the checkpoint has them last.
    pub(crate) fn inputs(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }
}

//! Hook points: the places in a forward pass whose activations can be read and changed, named as in TransformerLens.

use std::fmt;
use std::str::FromStr;

use globset::GlobBuilder;
use mediant_artifact::HookFact;

use crate::{Error, LmConfig, Result};

/// A place in the forward pass. The order of the variants is the order in which a pass reaches them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HookPoint {
    /// `hook_embed`
    Embed,
    /// `hook_pos_embed`
    PosEmbed,
    /// `blocks.{layer}.…`
    Block(usize, Site),
    /// `ln_final.hook_scale`
    FinalScale,
    /// `ln_final.hook_normalized`
    FinalNormalized,
    /// `logits`
    Logits,
}

/// A place in a block, in the order in which a pass reaches them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Site {
    /// The residual stream before the block.
    ResidPre,
    /// A copy of it for each head to read.
    AttnIn,
    /// A copy of it for each head's queries.
    QInput,
    /// A copy of it for each head's keys.
    KInput,
    /// A copy of it for each head's values.
    VInput,
    /// `√(mean(centred²) + eps)` of the norm before attention, or its frozen scale. Where queries and keys read the norm at
    /// another scale than values, there are two of them, in this order; and of [`Self::Ln1Normalized`].
    Ln1Scale,
    /// The centred rows (RMSNorm does not centre) over that scale, before weight and bias.
    Ln1Normalized,
    /// Queries, before any rotation.
    Q,
    /// Keys, before any rotation.
    K,
    /// Values.
    V,
    /// Rotated queries.
    RotQ,
    /// Rotated keys.
    RotK,
    /// Scaled products of queries and keys; −∞ where the key lies after the query.
    AttnScores,
    /// Their softmax over the keys.
    Pattern,
    /// Each head's weighted sum of values.
    Z,
    /// What each head adds to the residual stream; the bias is nobody's. In Gemma 2 the norm after attention comes between.
    Result,
    /// As [`Site::Ln1Scale`], of the norm after attention.
    Ln1PostScale,
    /// As [`Site::Ln1Normalized`], of the norm after attention.
    Ln1PostNormalized,
    /// What attention adds to the residual stream.
    AttnOut,
    /// The residual stream after attention. A model whose attention and MLP stand side by side has none.
    ResidMid,
    /// A copy of the residual stream for the MLP to read.
    MlpIn,
    /// As [`Site::Ln1Scale`], before the MLP.
    Ln2Scale,
    /// As [`Site::Ln1Normalized`], before the MLP.
    Ln2Normalized,
    /// The MLP's hidden layer before the activation function (the gate, in a gated MLP).
    MlpPre,
    /// A gated MLP's other factor.
    MlpPreLinear,
    /// The MLP's hidden layer.
    MlpPost,
    /// As [`Site::Ln1Scale`], of the norm after the MLP.
    Ln2PostScale,
    /// As [`Site::Ln1Normalized`], of the norm after the MLP.
    Ln2PostNormalized,
    /// What the MLP adds to the residual stream.
    MlpOut,
    /// The residual stream after the block.
    ResidPost,
}

impl Site {
    /// Every site, in order.
    pub const ALL: [Self; 30] = [
        Self::ResidPre,
        Self::AttnIn,
        Self::QInput,
        Self::KInput,
        Self::VInput,
        Self::Ln1Scale,
        Self::Ln1Normalized,
        Self::Q,
        Self::K,
        Self::V,
        Self::RotQ,
        Self::RotK,
        Self::AttnScores,
        Self::Pattern,
        Self::Z,
        Self::Result,
        Self::Ln1PostScale,
        Self::Ln1PostNormalized,
        Self::AttnOut,
        Self::ResidMid,
        Self::MlpIn,
        Self::Ln2Scale,
        Self::Ln2Normalized,
        Self::MlpPre,
        Self::MlpPreLinear,
        Self::MlpPost,
        Self::Ln2PostScale,
        Self::Ln2PostNormalized,
        Self::MlpOut,
        Self::ResidPost,
    ];

    /// The name after `blocks.{layer}.`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ResidPre => "hook_resid_pre",
            Self::AttnIn => "hook_attn_in",
            Self::QInput => "hook_q_input",
            Self::KInput => "hook_k_input",
            Self::VInput => "hook_v_input",
            Self::Ln1Scale => "ln1.hook_scale",
            Self::Ln1Normalized => "ln1.hook_normalized",
            Self::Q => "attn.hook_q",
            Self::K => "attn.hook_k",
            Self::V => "attn.hook_v",
            Self::RotQ => "attn.hook_rot_q",
            Self::RotK => "attn.hook_rot_k",
            Self::AttnScores => "attn.hook_attn_scores",
            Self::Pattern => "attn.hook_pattern",
            Self::Z => "attn.hook_z",
            Self::Result => "attn.hook_result",
            Self::Ln1PostScale => "ln1_post.hook_scale",
            Self::Ln1PostNormalized => "ln1_post.hook_normalized",
            Self::AttnOut => "hook_attn_out",
            Self::ResidMid => "hook_resid_mid",
            Self::MlpIn => "hook_mlp_in",
            Self::Ln2Scale => "ln2.hook_scale",
            Self::Ln2Normalized => "ln2.hook_normalized",
            Self::MlpPre => "mlp.hook_pre",
            Self::MlpPreLinear => "mlp.hook_pre_linear",
            Self::MlpPost => "mlp.hook_post",
            Self::Ln2PostScale => "ln2_post.hook_scale",
            Self::Ln2PostNormalized => "ln2_post.hook_normalized",
            Self::MlpOut => "hook_mlp_out",
            Self::ResidPost => "hook_resid_post",
        }
    }
}

impl HookPoint {
    /// The site, for a hook point in a block.
    pub fn site(self) -> Option<Site> {
        match self {
            Self::Block(_, site) => Some(site),
            _ => None,
        }
    }

    /// Whether the activation has one number per key position, so that its width is the sequence's length.
    pub fn per_key(self) -> bool {
        matches!(self.site(), Some(Site::AttnScores | Site::Pattern))
    }

    /// Shape at one position: `[d_model]`, `[heads, d_head]`, `[heads, d_model]`, `[d_mlp]`, `[vocabulary]`, `[1]` for a scale,
    /// and `[heads, keys]` for attention scores and patterns, whose position is the query's.
    pub fn shape(self, config: &LmConfig, keys: usize) -> Vec<usize> {
        match self {
            Self::FinalScale => vec![1],
            Self::Logits => vec![config.vocab_size],
            Self::Block(layer, site) => match site {
                Site::Ln1Scale if config.reads_apart(layer) => vec![2, 1],
                Site::Ln1Normalized if config.reads_apart(layer) => vec![2, config.d_model],
                Site::Ln1Scale | Site::Ln1PostScale | Site::Ln2Scale | Site::Ln2PostScale => vec![1],
                Site::AttnIn | Site::QInput | Site::Result => vec![config.n_heads, config.d_model],
                Site::KInput | Site::VInput => vec![config.n_kv_heads, config.d_model],
                Site::Q | Site::RotQ | Site::Z => vec![config.n_heads, config.d_head],
                Site::K | Site::RotK | Site::V => vec![config.n_kv_heads, config.d_head],
                Site::AttnScores | Site::Pattern => vec![config.n_heads, keys],
                Site::MlpPre | Site::MlpPreLinear | Site::MlpPost => vec![config.d_mlp],
                _ => vec![config.d_model],
            },
            _ => vec![config.d_model],
        }
    }
}

impl fmt::Display for HookPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embed => f.write_str("hook_embed"),
            Self::PosEmbed => f.write_str("hook_pos_embed"),
            Self::Block(layer, site) => write!(f, "blocks.{layer}.{}", site.name()),
            Self::FinalScale => f.write_str("ln_final.hook_scale"),
            Self::FinalNormalized => f.write_str("ln_final.hook_normalized"),
            Self::Logits => f.write_str("logits"),
        }
    }
}

impl FromStr for HookPoint {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let in_block = || {
            let (layer, rest) = name.strip_prefix("blocks.")?.split_once('.')?;
            let site = Site::ALL.into_iter().find(|site| site.name() == rest)?;
            Some(Self::Block(layer.parse().ok()?, site))
        };
        let outside = [Self::Embed, Self::PosEmbed, Self::FinalScale, Self::FinalNormalized, Self::Logits];
        outside
            .into_iter()
            .find(|point| point.to_string() == name)
            .or_else(in_block)
            .ok_or_else(|| Error::Hook(format!("`{name}` is not a hook point")))
    }
}

/// The hooks that a name or a glob such as `blocks.*.hook_resid_post` stands for, in the order of the forward pass; none
/// if the model has none like it.
///
/// # Errors
/// When the pattern is not a glob.
pub fn matching_hooks<'h>(pattern: &str, hooks: &'h [HookFact]) -> Result<Vec<&'h HookFact>> {
    let matches = name_glob(pattern)?;
    Ok(hooks.iter().filter(|hook| matches(&hook.name)).collect())
}

/// Whether a name is one that a glob stands for: `*` and `?` do not cross a dot, `**` does; `{a,b}` and `[0-3]` work as in
/// a shell.
///
/// # Errors
/// When the pattern is not a glob.
pub fn name_glob(pattern: &str) -> Result<impl Fn(&str) -> bool + use<>> {
    // In globset it is the slash that wildcards do not cross.
    let glob = GlobBuilder::new(&pattern.replace('.', "/"))
        .literal_separator(true)
        .build()
        .map_err(|e| Error::Hook(format!("`{pattern}` is not a glob: {}", e.kind())))?
        .compile_matcher();
    Ok(move |name: &str| glob.is_match(name.replace('.', "/")))
}

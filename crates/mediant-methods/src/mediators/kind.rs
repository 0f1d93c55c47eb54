//! The kinds of mediators, and what of a model each consists of.

use mediant_artifact::HookFact;
use mediant_lm::{HookPoint, Positions, Site};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{By, Pairs, Result, Target, targets};

/// What the items of a family are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MediatorKind {
    /// Outputs of attention and MLPs: `hook_attn_out`, `hook_mlp_out`.
    Sublayers,
    /// Attention heads: `attn.hook_z`.
    Heads,
    /// Attention heads and MLPs: the nodes of the graph of EAP.
    Nodes,
    /// Neurons of MLPs: `mlp.hook_post`.
    Neurons,
    /// Edges of the graph of EAP: from what a head, an MLP or the embedding writes to what a head's queries, keys or values, an MLP or the
    /// unembedding read.
    Edges,
    /// Latents of an autoencoder or a transcoder, and its error.
    Latents,
    /// The residual stream after each layer, by named span: `hook_resid_post`.
    Residual,
}

impl MediatorKind {
    /// The name in pipelines and artifacts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sublayers => "sublayers",
            Self::Heads => "heads",
            Self::Nodes => "nodes",
            Self::Neurons => "neurons",
            Self::Edges => "edges",
            Self::Latents => "latents",
            Self::Residual => "residual",
        }
    }

    /// The kind whose items have this kind of address, where one has.
    pub fn of_address(kind: &str) -> Option<Self> {
        match kind {
            "attn_out" | "mlp_out" => Some(Self::Sublayers),
            "head" => Some(Self::Heads),
            "neuron" => Some(Self::Neurons),
            "edge" => Some(Self::Edges),
            "latent" | "error" => Some(Self::Latents),
            "residual" => Some(Self::Residual),
            _ => None,
        }
    }

    /// What stands at hook points: the items at each, in the order of the forward pass. Edges and latents do not.
    ///
    /// # Errors
    /// [`crate::Error::Data`] for a hook that is no hook point.
    pub fn targets(self, hooks: &[HookFact], pairs: &Pairs) -> Result<Vec<Target>> {
        let mut all = Vec::new();
        for hook in hooks {
            let Ok(HookPoint::Block(_, site)) = hook.name.parse() else { continue };
            let by: &[By] = match (self, site) {
                (Self::Sublayers, Site::AttnOut | Site::MlpOut) | (Self::Nodes, Site::MlpOut) => &[],
                (Self::Heads | Self::Nodes, Site::Z) => &[By::Head],
                (Self::Neurons, Site::MlpPost) => &[By::Neuron],
                (Self::Residual, Site::ResidPost) => &[By::Span],
                _ => continue,
            };
            let hook = std::slice::from_ref(hook);
            all.extend(targets(hook, Some(by), &Positions::All, &pairs.spans(), pairs)?);
        }
        Ok(all)
    }
}

//! Methods that combine language models and dictionaries.
//!
//! - [`sae_eval`]: how well an autoencoder reconstructs, and what splicing it into its model costs.
//! - [`compare`]: metrics of many instances side by side.
//! - [`bootstrap`]: intervals of any metric that is computed from sums.
//! - [`corpus_loss`], [`calibration`], [`divergence`], [`sinks`]: how well models predict a corpus, and how they differ.
//! - [`subspace`]: directions and subspaces of activations; [`interchange`]: prompts with features of their counterfactuals; [`align`]: both, trained.
//! - [`direct_effect`], [`linearity`], [`entropy_neurons`]: what LayerNorm does to three methods of interpretation.
//! - [`known_circuit`]: transformers whose circuit is known by construction.
//! - [`modular_addition`]: what models that add modulo a number are known to compute with.
//! - [`Pairs`], [`Metric`], [`Recorder`]: prompts beside their counterfactuals, what is measured of the answers, and effects on
//!   their way to scores. The methods that make effects are built of these.

mod agreement;
pub mod align;
mod attribution;
mod auroc;
pub mod bootstrap;
pub mod calibration;
pub mod compare;
pub mod corpus_loss;
pub mod direct_effect;
pub mod divergence;
mod dla;
mod edges;
mod eigen;
pub mod entropy_neurons;
mod error;
pub mod features;
mod groups;
pub mod interchange;
mod intervene;
mod knockout;
pub mod known_circuit;
mod lens;
pub mod linearity;
pub mod mediators;
mod metric;
pub mod modular_addition;
mod pairs;
mod patch;
mod path;
mod predictions;
pub mod probing;
mod readout;
mod record;
pub mod sae_eval;
mod sink;
pub mod sinks;
mod splice;
mod split;
pub mod stability;
pub mod standings;
mod steer;
mod stream;
pub mod subspace;
mod sweep;
mod targets;
mod trace;

pub use agreement::{Scored, agreement};
pub use attribution::{Reference, Rule, Slope, attribute};
pub use auroc::auroc;
pub use dla::{Component, ComponentKind, attribute_logits, components};
pub use edges::{EdgeMethod, Graph, edge_contrast, edge_effects};
pub use error::{Error, Result};
pub use groups::beginning;
pub use intervene::{FromCounterfactual, Together, all_interventions, intervene};
pub use knockout::{Cuts, knock_out};
pub use lens::{Lens, LensReader, Reading, lens_logits};
pub use metric::{Answers, Metric};
pub use pairs::{Pair, Pairs};
pub use patch::{Ablation, Direction, ablate, patch};
pub use path::{Paths, Receiver, Sender, path_patch, reaches};
pub use record::{About, Recorder, SEARCHED_IN, SEARCHED_ON};
pub use sink::Sink;
pub use splice::SaeSplice;
pub use split::split;
pub use steer::{Change, Steering, at_hook, difference_of_means, direction_length, steer, unembedding_difference};
pub use stream::Streamed;
pub use targets::{By, Target, kind, layer, misfit, targets, usual_division};
pub use trace::{Restored, TOKEN_GROUPS, Tracing, subject_std, trace, traced};

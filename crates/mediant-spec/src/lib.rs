//! The pipeline language: YAML to an expanded pipeline in which every value keeps its source place.
//!
//! [`load`] reads a file into a [`Pipeline`]; [`expand`] turns it into [`Instance`]s, once the implementations' ports are known;
//! [`from_node`] turns an instance's options into a stage's config. What is wrong comes as [`Diagnostics`], several at once.
//!
//! ```
//! use std::path::Path;
//!
//! let text = "mediant: 1\nstages:\n  model: { uses: load_model, wth: { source: gpt2 } }\n";
//! let failure = mediant_spec::parse(Path::new("lab.yaml"), text, &[]).unwrap_err();
//! assert_eq!(
//!     failure.to_string(),
//!     "error[unknown-key]: a stage has no `wth`
//!  --> lab.yaml:3:30
//!   |
//! 3 |   model: { uses: load_model, wth: { source: gpt2 } }
//!   |                              ^^^ unknown key
//!   |
//!   = help: did you mean `with`?
//! "
//! );
//! ```

mod de;
mod diagnostic;
mod expand;
mod matrix;
mod node;
mod overrides;
mod params;
mod pipeline;
mod read;
mod reference;
mod render;
mod scalar;
mod source;
mod suggest;
mod template;
pub mod yaml;

pub use de::from_node;
pub use diagnostic::{Diagnostic, Diagnostics, Failure, Label};
pub use expand::{
    Expansion, Incomplete, Instance, MAX_INSTANCES, Member, PortInput, PortSignature, Signatures, expand,
};
pub use node::{Entry, Node, Value, node_at};
pub use pipeline::{
    AxisDecl, AxisValue, Given, InputDecl, MatrixDecl, OutputRef, Pipeline, Reference, ResourcesDecl, Select,
    StageDecl, load, parse,
};
pub use source::{SourceId, Sources, Span, Spanned};
pub use suggest::{did_you_mean, suggest};

//! A pipeline as written: what a file says, checked for form, before stages are known.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;

use crate::diagnostic::Failure;
use crate::node::Node;
use crate::source::{Sources, Span, Spanned};

/// A pipeline file, read and checked for form; names of stages' implementations and ports are checked by [`crate::expand`].
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// The file and the overrides, for messages.
    pub sources: Sources,
    /// The folder that relative paths start from.
    pub dir: PathBuf,
    /// `name`, or the file's stem.
    pub name: String,
    /// Where the name stands; the start of the file if it is not given.
    pub name_span: Span,
    /// The default of every stage that has a `seed`.
    pub seed: Option<Spanned<u64>>,
    /// The parameters, their own references resolved.
    pub params: IndexMap<String, Node>,
    /// The stages in written order.
    pub stages: IndexMap<String, StageDecl>,
    /// What `--set` changed: path and the value's text.
    pub overrides: Vec<(String, String)>,
}

/// A stage as written.
#[derive(Debug, Clone)]
pub struct StageDecl {
    /// Its id.
    pub name: String,
    /// Where the id stands.
    pub name_span: Span,
    /// The implementation.
    pub uses: Spanned<String>,
    /// Its options, `${…}` not yet replaced; an empty mapping at the stage's name if there is no `with`.
    pub with: Arc<Node>,
    /// The matrix variables that `with` reads, with their places.
    pub reads: Vec<Spanned<String>>,
    /// Whether `with` holds any `${…}` or `$${`.
    pub templated: bool,
    /// Its inputs in written order.
    pub inputs: Vec<InputDecl>,
    /// The axes it declares.
    pub matrix: Option<MatrixDecl>,
    /// What it asks for beyond what the implementation declares.
    pub resources: ResourcesDecl,
    /// How often a transient failure is tried again.
    pub retries: Option<u32>,
    /// When a run of it is stopped.
    pub timeout: Option<Duration>,
}

/// `resources` as written; what is absent is decided by the stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResourcesDecl {
    /// Threads.
    pub cpus: Option<u32>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Accelerators.
    pub gpus: Option<u32>,
}

/// What is given to one port.
#[derive(Debug, Clone)]
pub struct InputDecl {
    /// The port.
    pub port: Spanned<String>,
    /// What is given.
    pub given: Given,
}

/// The three forms of an input.
#[derive(Debug, Clone)]
pub enum Given {
    /// `sae`, `tokens.train`, or `{ from: eval, over: [seed] }`.
    One(Reference),
    /// A list of references, for a port that takes many.
    List(Vec<Reference>),
    /// `{ original: a, ln_free: b }`, for a port that takes many.
    Named(Vec<(Spanned<String>, Reference)>),
}

/// `stage[axis=label].output[key]`, and the axes it is collected over.
#[derive(Debug, Clone)]
pub struct Reference {
    /// The whole reference.
    pub span: Span,
    /// The stage that makes it.
    pub stage: Spanned<String>,
    /// The axes fixed by `[axis=label]` behind the stage.
    pub select: Vec<Select>,
    /// The output; the stage's first if absent. Boxed, since most references have none and a large pipeline has many.
    pub output: Option<Box<OutputRef>>,
    /// The axes a port that takes many collects; all if absent.
    pub over: Option<Vec<Spanned<String>>>,
}

/// `.output[key]` of a reference.
#[derive(Debug, Clone)]
pub struct OutputRef {
    /// The output.
    pub name: Spanned<String>,
    /// The key of a keyed output: `step=100`.
    pub key: Option<Spanned<String>>,
}

/// One `axis=label` of a selection.
#[derive(Debug, Clone)]
pub struct Select {
    /// The axis.
    pub axis: Spanned<String>,
    /// The label of the value that is meant.
    pub label: Spanned<String>,
}

/// The axes a stage declares and the points on them at which it runs.
#[derive(Debug, Clone)]
pub struct MatrixDecl {
    /// The axes; the points under `include` are one axis called `name`.
    pub axes: Vec<AxisDecl>,
    /// For each point the index of its value on each axis; those under `exclude` are gone. Never empty.
    pub points: Vec<Box<[u32]>>,
}

/// One axis.
#[derive(Debug, Clone)]
pub struct AxisDecl {
    /// Its name.
    pub name: Spanned<String>,
    /// Its values; never empty, their labels distinct.
    pub values: Vec<AxisValue>,
}

/// One value of an axis.
#[derive(Debug, Clone)]
pub struct AxisValue {
    /// What it is called in `sae[name=topk16]`.
    pub label: String,
    /// Where it stands.
    pub span: Span,
    /// What `${matrix.…}` reads at it: the axis itself, or every key of a point under `include`.
    pub variables: Vec<(Spanned<String>, Node)>,
}

/// Reads a pipeline file and applies overrides such as `params.layer=3` or `stages.sae.with.d_sae=64`.
///
/// # Errors
/// Everything that is wrong with the form of the file: not YAML, over the limits of [`crate::yaml`], unknown or missing keys,
/// values of the wrong kind, unknown or unused parameters, malformed references and matrices; several at once.
pub fn load(path: &Path, overrides: &[String]) -> Result<Pipeline, Failure> {
    crate::read::load(path, overrides)
}

/// Like [`load`] on text in memory; `path` names it in messages and gives the folder and the default name.
///
/// # Errors
/// As [`load`].
pub fn parse(path: &Path, text: &str, overrides: &[String]) -> Result<Pipeline, Failure> {
    crate::read::parse(path, text.to_owned(), overrides)
}

//! From stages as written to the instances that run: ports, order, axes.

mod axes;
mod instances;
mod options;
mod order;
mod wiring;

use std::sync::Arc;

use crate::diagnostic::Diagnostics;
use crate::node::Node;
use crate::pipeline::Pipeline;
use crate::source::Span;

/// What the expansion has to know of the catalogue of stages.
pub trait Signatures {
    /// The ports of an implementation in declared order; `None` if there is no such implementation.
    fn ports(&self, uses: &str) -> Option<Vec<PortSignature>>;
    /// All implementations, for suggestions.
    fn stage_names(&self) -> Vec<&str>;
    /// Whether its options have a `seed`, which then defaults to the pipeline's.
    fn has_seed(&self, uses: &str) -> bool;
    /// Whether it takes inputs under any name, beside its ports: one artifact where one reference is written, many where a
    /// list, named members or `over` are. So does a program of the user's.
    fn any_port(&self, _uses: &str) -> bool {
        false
    }
}

/// One port of an implementation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortSignature {
    /// Its name.
    pub name: &'static str,
    /// Whether it takes many members and so collects axes.
    pub many: bool,
    /// Whether it may stay empty.
    pub optional: bool,
}

/// Everything that can run.
#[derive(Debug, Clone)]
pub struct Expansion {
    /// The instances, producers before consumers; the order depends on nothing but the file.
    pub instances: Vec<Instance>,
}

/// One stage at one point of its axes.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Index into [`Pipeline::stages`].
    pub stage: usize,
    /// `sae[name=topk16,seed=0]`; the stage's name alone without axes.
    pub label: String,
    /// Axis and label, by axis name.
    pub axes: Vec<(String, String)>,
    /// The options, everything replaced and the pipeline's seed filled in.
    pub with: Arc<Node>,
    /// What the ports get, in the order in which the implementation declares them; an optional port without input is absent.
    pub inputs: Vec<PortInput>,
}

/// What one port gets.
#[derive(Debug, Clone)]
pub struct PortInput {
    /// The port.
    pub port: String,
    /// Where the port stands.
    pub port_span: Span,
    /// One member, or any number at a port that takes many.
    pub members: Vec<Member>,
}

/// One artifact that a port gets.
#[derive(Debug, Clone)]
pub struct Member {
    /// Index into [`Expansion::instances`].
    pub producer: usize,
    /// The output as written; the producer's first if `None`.
    pub output: Option<String>,
    /// The key of a keyed output: `step=100`.
    pub key: Option<String>,
    /// The axes collected, with this member's labels, by axis name.
    pub labels: Vec<(String, String)>,
    /// The name given to the member.
    pub name: Option<String>,
    /// Where the reference stands.
    pub span: Span,
    /// Where its output stands; the reference without one.
    pub output_span: Span,
    /// Where its key stands; as `output_span` without one.
    pub key_span: Span,
}

/// Most instances of one pipeline, and most points of one matrix.
pub const MAX_INSTANCES: usize = 100_000;

/// What is wrong with a pipeline, and what could be expanded all the same, so that it can be checked further.
#[derive(Debug, Clone)]
pub struct Incomplete {
    /// The stages without errors that need none with errors.
    pub expansion: Expansion,
    /// The errors.
    pub diagnostics: Diagnostics,
}

/// Expands a pipeline into instances.
///
/// An axis is a stage that declares it and a name. A stage has one instance for each point of its own matrix and of the axes of
/// its inputs: inputs that share an axis are joined on it, different axes are crossed, and an axis that a port collects is gone.
///
/// # Errors
/// Unknown implementations, stages, ports, axes and labels, missing inputs, loops, axes that clash or that nobody reads;
/// several at once. Render them with [`Pipeline::sources`].
pub fn expand(pipeline: &Pipeline, signatures: &dyn Signatures) -> Result<Expansion, Incomplete> {
    let mut errors = Vec::new();
    let wired = wiring::wire(pipeline, signatures, &mut errors);
    let order = order::sort(pipeline, &wired, &mut errors);
    let instances = instances::build(pipeline, signatures, &wired, &order, &mut errors);
    let expansion = Expansion { instances };
    match Diagnostics::new(errors) {
        None => Ok(expansion),
        Some(diagnostics) => Err(Incomplete { expansion, diagnostics }),
    }
}

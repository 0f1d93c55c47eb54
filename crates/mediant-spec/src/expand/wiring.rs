//! Which ports get what: names of implementations, ports and stages.

use super::{PortSignature, Signatures};
use crate::diagnostic::Diagnostic;
use crate::pipeline::{Given, InputDecl, Pipeline, Reference, StageDecl};
use crate::source::{Span, Spanned};
use crate::suggest::{did_you_mean, suggest};

/// A port of a stage and what is given to it.
pub(super) struct Wire<'p> {
    pub(super) port: &'p str,
    pub(super) port_span: Span,
    pub(super) many: bool,
    pub(super) ends: Vec<End<'p>>,
}

/// One reference given to a port.
pub(super) struct End<'p> {
    /// Index of the stage it names.
    pub(super) stage: usize,
    pub(super) reference: &'p Reference,
    pub(super) member: Option<&'p Spanned<String>>,
}

/// For each stage its wires, or `None` if there is an error in them.
pub(super) fn wire<'p>(
    pipeline: &'p Pipeline,
    signatures: &dyn Signatures,
    errors: &mut Vec<Diagnostic>,
) -> Vec<Option<Vec<Wire<'p>>>> {
    let mut wired = Vec::with_capacity(pipeline.stages.len());
    for stage in pipeline.stages.values() {
        let before = errors.len();
        let wires = stage_wires(stage, pipeline, signatures, errors);
        wired.push((errors.len() == before).then_some(wires));
    }
    wired
}

fn stage_wires<'p>(
    stage: &'p StageDecl,
    pipeline: &'p Pipeline,
    signatures: &dyn Signatures,
    errors: &mut Vec<Diagnostic>,
) -> Vec<Wire<'p>> {
    let uses = stage.uses.value.as_str();
    let Some(ports) = signatures.ports(uses) else {
        let error =
            Diagnostic::new("unknown-stage-type", format!("there is no stage type `{uses}`")).at(stage.uses.span, "");
        errors.push(error.help(suggest(uses, signatures.stage_names(), "stage types")));
        // The stages it names are still worth checking.
        for input in &stage.inputs {
            ends(input, pipeline, errors);
        }
        return Vec::new();
    };
    let any = signatures.any_port(uses);
    let others: Vec<&InputDecl> =
        stage.inputs.iter().filter(|input| !ports.iter().any(|port| port.name == input.port.value)).collect();
    let names = || ports.iter().map(|port| port.name);
    let mut meant = Vec::new();
    for input in others.iter().filter(|_| !any) {
        let error = Diagnostic::new("unknown-port", format!("`{uses}` has no input `{}`", input.port.value));
        errors.push(error.at(input.port.span, "").help(suggest(&input.port.value, names(), "inputs")));
        // That the port is missing that was meant need not be said beside that.
        meant.extend(did_you_mean(&input.port.value, names()));
    }
    let mut wires = Vec::with_capacity(stage.inputs.len());
    for port in &ports {
        match stage.inputs.iter().find(|input| input.port.value == port.name) {
            Some(input) => wires.push(port_wire(input, port.many, pipeline, errors)),
            None if port.optional || meant.contains(&port.name) => {}
            None => errors.push(missing(stage, port)),
        }
    }
    for input in others {
        let many = !matches!(&input.given, Given::One(Reference { over: None, .. }));
        wires.push(port_wire(input, many, pipeline, errors));
    }
    wires
}

fn missing(stage: &StageDecl, port: &PortSignature) -> Diagnostic {
    let uses = &stage.uses.value;
    Diagnostic::new("missing-input", format!("`{uses}` needs the input `{}`", port.name))
        .at(stage.name_span, "this stage does not give it")
        .help(format!("write `inputs: {{ {}: … }}`", port.name))
}

fn port_wire<'p>(input: &'p InputDecl, many: bool, pipeline: &'p Pipeline, errors: &mut Vec<Diagnostic>) -> Wire<'p> {
    let ends = ends(input, pipeline, errors);
    if !many {
        let port = &input.port.value;
        match &input.given {
            Given::One(Reference { over: None, .. }) => {}
            Given::One(reference) => errors.push(
                Diagnostic::new("one-input", format!("the input `{port}` takes one artifact, so it collects no axes"))
                    .at(
                        reference.over.as_ref().and_then(|over| over.first()).map_or(reference.span, |axis| axis.span),
                        "",
                    )
                    .help(format!("write `{port}: {}`; the stage then runs once for each", reference.stage.value)),
            ),
            Given::List(_) | Given::Named(_) => errors.push(
                Diagnostic::new("one-input", format!("the input `{port}` takes one artifact, and this gives several"))
                    .at(input.port.span, ""),
            ),
        }
    }
    Wire { port: &input.port.value, port_span: input.port.span, many, ends }
}

fn ends<'p>(input: &'p InputDecl, pipeline: &'p Pipeline, errors: &mut Vec<Diagnostic>) -> Vec<End<'p>> {
    let mut end = |reference: &'p Reference, member: Option<&'p Spanned<String>>| {
        let name = reference.stage.value.as_str();
        let stage = pipeline.stages.get_index_of(name);
        if stage.is_none() {
            let names = pipeline.stages.keys().map(String::as_str);
            let error = Diagnostic::new("unknown-stage", format!("there is no stage `{name}`"));
            errors.push(error.at(reference.stage.span, "").help(suggest(name, names, "stages")));
        }
        Some(End { stage: stage?, reference, member })
    };
    match &input.given {
        Given::One(reference) => end(reference, None).into_iter().collect(),
        Given::List(list) => list.iter().filter_map(|reference| end(reference, None)).collect(),
        Given::Named(list) => list.iter().filter_map(|(name, reference)| end(reference, Some(name))).collect(),
    }
}

//! From expanded instances to typed, checked ones: configs, ports, kinds, facts. Finds as much as it can at once.

use std::collections::BTreeSet;
use std::sync::Arc;

use mediant_artifact::Facts;
use mediant_hub::Hub;
use mediant_spec::{Diagnostic, Diagnostics, Expansion, Instance, Pipeline, PortInput, Span, did_you_mean, node_at};

use super::{PlannedMember, PlannedPort, output_name};
use crate::catalogue::{AnyStage, Bound, Catalogue};
use crate::inputs::{InputFacts, MemberFacts};
use crate::plan::source::{self, Located};
use crate::problem::{At, Problems};
use crate::stage::{Cpus, Output, Port, Ports, Resources, SourcePaths};

/// An instance that has passed every check, before its sources are digested.
pub(super) struct Checked {
    pub(super) instance: Instance,
    pub(super) uses: &'static str,
    pub(super) version: u32,
    pub(super) bound: Box<dyn Bound>,
    pub(super) inputs: Vec<PlannedPort>,
    pub(super) outputs: Vec<Output>,
    /// By output, then by key.
    pub(super) facts: Vec<Vec<Arc<Facts>>>,
    pub(super) sources: Vec<Located>,
    pub(super) resources: Resources,
}

/// Checks what could be expanded; `found` are the errors so far.
pub(super) fn bind(
    pipeline: &Pipeline,
    expansion: Expansion,
    found: Vec<Diagnostic>,
    catalogue: &Catalogue,
    hub: Hub,
) -> Result<Vec<Checked>, Diagnostics> {
    let mut binder =
        Binder { pipeline, hub, done: Vec::with_capacity(expansion.instances.len()), found, seen: BTreeSet::new() };
    for instance in expansion.instances {
        let uses = &pipeline.stages[instance.stage].uses.value;
        let checked = catalogue.get(uses).and_then(|stage| binder.instance(instance, stage));
        binder.done.push(checked);
    }
    let Binder { done, found, .. } = binder;
    Diagnostics::check(found, ())?;
    Ok(done.into_iter().flatten().collect())
}

struct Binder<'a> {
    pipeline: &'a Pipeline,
    hub: Hub,
    /// `None` for an instance with errors; what depends on it is not checked any further.
    done: Vec<Option<Checked>>,
    found: Vec<Diagnostic>,
    /// Errors already reported: the instances of a matrix share most of theirs.
    seen: BTreeSet<(Option<Span>, String)>,
}

impl Binder<'_> {
    fn report(&mut self, diagnostic: Diagnostic) {
        if self.seen.insert((diagnostic.span(), diagnostic.message.clone())) {
            self.found.push(diagnostic);
        }
    }

    /// Checks one instance; `None` if it has errors or depends on one that has.
    fn instance(&mut self, instance: Instance, stage: &dyn AnyStage) -> Option<Checked> {
        let before = self.found.len();
        let bound = match stage.bind(&instance.with) {
            Ok(bound) => bound,
            Err(diagnostics) => {
                diagnostics.into_iter().for_each(|diagnostic| self.report(diagnostic));
                return None;
            }
        };
        if let Err(problems) = bound.check() {
            self.problems(&instance, &problems);
            return None;
        }
        let ports = instance.inputs.iter().map(|input| self.port(input, stage.ports())).collect::<Vec<_>>();
        let sources = self.sources(&instance, &*bound);
        let mut ports = ports.into_iter().collect::<Option<Vec<_>>>()?;
        if matches!(stage.ports(), Ports::Open) {
            // The order in which a pipeline writes inputs is in no key.
            ports.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        }
        let (inputs, members): (Vec<_>, Vec<_>) = ports.into_iter().unzip();
        let sources = sources?;

        let inputs_facts = InputFacts::new(members);
        let paths = SourcePaths(sources.iter().map(|located| (located.field.clone(), located.path.clone())).collect());
        let outputs = bound.outputs();
        let facts = match bound.infer(&inputs_facts, &paths) {
            Ok(facts) => facts,
            Err(problems) => {
                self.problems(&instance, &problems);
                return None;
            }
        };
        let facts = outputs.iter().map(|output| facts_of(&facts, output)).collect::<Option<Vec<_>>>();
        let Some(facts) = facts else {
            let at = self.pipeline.stages[instance.stage].uses.span;
            self.report(
                Diagnostic::new(
                    "stage",
                    format!(
                        "stage `{}` does not tell the facts of all its outputs; this is a defect of the stage",
                        stage.name()
                    ),
                )
                .at(at, ""),
            );
            return None;
        };
        let resources = self.resources(&instance, bound.resources(&inputs_facts));
        (self.found.len() == before).then_some(Checked {
            instance,
            uses: stage.name(),
            version: stage.version(),
            bound,
            inputs,
            outputs,
            facts,
            sources,
            resources,
        })
    }

    /// Resolves the members of a port; `None` if one has errors.
    fn port(&mut self, input: &PortInput, ports: Ports) -> Option<(PlannedPort, (String, Vec<MemberFacts>))> {
        let port = match ports {
            Ports::Fixed(ports) => ports.iter().find(|port| port.name == input.port),
            Ports::Open => None,
        };
        let mut members = Vec::with_capacity(input.members.len());
        for member in &input.members {
            members.push(self.member(member, port)?);
        }
        // Sorted by name and label, so that the order in which a matrix lists its values is in no key. The sort is
        // stable: the members of a list, which have no names, keep the order the user gave them.
        members.sort_by(|(a, _), (b, _)| (&a.name, &a.labels).cmp(&(&b.name, &b.labels)));
        let (members, facts) = members.into_iter().unzip();
        Some((PlannedPort { name: input.port.clone(), members }, (input.port.clone(), facts)))
    }

    fn member(&mut self, member: &mediant_spec::Member, port: Option<&Port>) -> Option<(PlannedMember, MemberFacts)> {
        let producer = self.done.get(member.producer)?.as_ref()?;
        let index = match &member.output {
            None => 0,
            Some(name) => match producer.outputs.iter().position(|output| output.name == *name) {
                Some(index) => index,
                None => {
                    let names: Vec<&str> = producer.outputs.iter().map(|output| output.name.as_str()).collect();
                    let mut error =
                        Diagnostic::new("unknown-output", format!("`{}` has no output `{name}`", producer.uses))
                            .at(member.output_span, "");
                    error = match did_you_mean(name, names.iter().copied()) {
                        Some(near) => error.help(format!("did you mean `{near}`?")),
                        None => error.help(format!("it has {}", list(&names))),
                    };
                    self.report(error);
                    return None;
                }
            },
        };
        let output = &producer.outputs[index];
        let key = match (&member.key, output.keys.is_empty()) {
            (None, true) => String::new(),
            (Some(key), false) if output.keys.contains(key) => key.clone(),
            (Some(key), false) => {
                let error = Diagnostic::new("unknown-key", format!("output `{}` has no key `{key}`", output.name))
                    .at(member.key_span, "")
                    .help(format!("it has {}", list(&output.keys.iter().map(String::as_str).collect::<Vec<_>>())));
                self.report(error);
                return None;
            }
            (None, false) => {
                let error = Diagnostic::new(
                    "missing-key",
                    format!("output `{}` holds several artifacts; say which", output.name),
                )
                .at(member.span, "")
                .help(format!("write `.{}[{}]`", output.name, output.keys[0]));
                self.report(error);
                return None;
            }
            (Some(_), true) => {
                let error = Diagnostic::new(
                    "unknown-key",
                    format!("output `{}` is one artifact and takes no key", output.name),
                )
                .at(member.key_span, "");
                self.report(error);
                return None;
            }
        };
        let place = output.keys.iter().position(|known| *known == key).unwrap_or(0);
        let facts = producer.facts[index][place].clone();
        if let Some(port) = port
            && !port.kinds.contains(&output.kind)
        {
            let kinds: Vec<&str> = port.kinds.iter().map(|kind| kind.name()).collect();
            let mut error = Diagnostic::new(
                "wrong-kind",
                format!("input `{}` takes {}, this is {}", port.name, list(&kinds), output.kind),
            )
            .at(member.span, "");
            let stage = &self.pipeline.stages[producer.instance.stage].name;
            let fits =
                producer.outputs.iter().filter(|other| port.kinds.contains(&other.kind) && other.keys.is_empty());
            let fits: Vec<String> = fits.map(|other| format!("`{stage}.{}` is {}", other.name, other.kind)).collect();
            if !fits.is_empty() {
                error = error.help(fits.join(", "));
            }
            self.report(error);
            return None;
        }
        let planned = PlannedMember {
            producer: member.producer,
            output: index,
            key,
            labels: member.labels.clone(),
            name: member.name.clone(),
        };
        let facts = MemberFacts { labels: member.labels.clone(), name: member.name.clone(), facts };
        Some((planned, facts))
    }

    fn sources(&mut self, instance: &Instance, bound: &dyn Bound) -> Option<Vec<Located>> {
        let mut located = Vec::new();
        let mut failed = false;
        for source in bound.sources() {
            match source::locate(&self.pipeline.dir, &source, &mut self.hub) {
                Ok(found) => located.push(found),
                Err(problems) => {
                    self.problems(instance, &problems);
                    failed = true;
                }
            }
        }
        (!failed).then_some(located)
    }

    /// Gives problems that a stage found their places in the file.
    fn problems(&mut self, instance: &Instance, problems: &Problems) {
        for problem in problems.iter() {
            let mut error = Diagnostic::new("stage", problem.message.clone());
            error = match &problem.at {
                At::Config(path) => {
                    let node = node_at(&instance.with, path);
                    error.at(node.span, "").via(node.via)
                }
                At::Input(port, place) => match instance.inputs.iter().find(|input| input.port == *port) {
                    Some(input) => {
                        error.at(input.members.get(*place).map_or(input.port_span, |member| member.span), "")
                    }
                    None => error.at(self.pipeline.stages[instance.stage].name_span, ""),
                },
            };
            if let Some(help) = &problem.help {
                error = error.help(help.clone());
            }
            self.report(error);
        }
    }

    fn resources(&self, instance: &Instance, own: Resources) -> Resources {
        let asked = &self.pipeline.stages[instance.stage].resources;
        Resources {
            cpus: asked.cpus.map_or(own.cpus, Cpus::Count),
            memory: asked.memory.unwrap_or(own.memory),
            gpus: asked.gpus.unwrap_or(own.gpus),
        }
    }
}

/// The facts of an output, of each of its keys if it has some: those told of the key alone, else those of the whole output.
fn facts_of(facts: &[(String, Facts)], output: &Output) -> Option<Vec<Arc<Facts>>> {
    let told = |asked: &str| {
        let (_, facts) = facts.iter().find(|(name, facts)| name == asked && facts.kind() == output.kind)?;
        Some(Arc::new(facts.clone()))
    };
    if output.keys.is_empty() {
        return Some(vec![told(&output.name)?]);
    }
    output.keys.iter().map(|key| told(&output_name(&output.name, key)).or_else(|| told(&output.name))).collect()
}

/// `a`, `a or b`, `a, b or c`, each in backquotes.
fn list(words: &[&str]) -> String {
    match words {
        [] => "none".to_owned(),
        [one] => format!("`{one}`"),
        [rest @ .., last] => {
            format!("{} or `{last}`", rest.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "))
        }
    }
}

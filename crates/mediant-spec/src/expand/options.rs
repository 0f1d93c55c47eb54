//! The options of instances: `${…}` replaced, the seed filled in, and every matrix variable read by someone.

use std::collections::HashSet;
use std::sync::Arc;

use super::axes::{Axes, AxisId};
use crate::diagnostic::Diagnostic;
use crate::node::{Entry, Node, Value};
use crate::pipeline::{AxisDecl, Pipeline, StageDecl};
use crate::read::fields::expected_mapping;
use crate::source::Spanned;
use crate::suggest::suggest;
use crate::template::{Scope, Substitution};

pub(super) struct Options<'p> {
    pipeline: &'p Pipeline,
    name: Node,
    substitution: Substitution<'p>,
    errors: Vec<Diagnostic>,
    /// Axes and variables that `with` of some stage reads.
    read: HashSet<(AxisId, &'p str)>,
    /// Whether the present stage takes a seed.
    has_seed: bool,
    /// The present stage's options, where they do not depend on the point.
    shared: Option<Arc<Node>>,
}

impl<'p> Options<'p> {
    pub(super) fn new(pipeline: &'p Pipeline) -> Self {
        Self {
            pipeline,
            name: Node::new(Value::Str(pipeline.name.clone()), pipeline.name_span),
            substitution: Substitution::new(&pipeline.sources),
            errors: Vec::new(),
            read: HashSet::new(),
            has_seed: false,
            shared: None,
        }
    }

    /// Turns to another stage, which runs on `axes`.
    pub(super) fn start(
        &mut self,
        stage: &'p StageDecl,
        axes: &Axes<'p>,
        of_stage: &[AxisId],
        has_seed: bool,
    ) -> Result<(), Vec<Diagnostic>> {
        let errors: Vec<Diagnostic> =
            stage.reads.iter().filter_map(|read| self.read(read, axes, of_stage).err()).collect();
        if !errors.is_empty() {
            return Err(errors);
        }
        self.has_seed = has_seed;
        self.shared = if stage.reads.is_empty() { Some(self.finish(stage, &[])) } else { None };
        Ok(())
    }

    /// Notes that a variable is read; it has to be that of one axis, and to have a value everywhere on it.
    fn read(&mut self, read: &'p Spanned<String>, axes: &Axes<'p>, of_stage: &[AxisId]) -> Result<(), Diagnostic> {
        let error = |message| Diagnostic::new("unknown-reference", message).at(read.span, "");
        let having: Vec<AxisId> =
            of_stage.iter().copied().filter(|axis| has_variable(axes.0[*axis], &read.value)).collect();
        match having.as_slice() {
            [axis] => {
                self.read.insert((*axis, &read.value));
                let without = axes.0[*axis]
                    .values
                    .iter()
                    .find(|value| !value.variables.iter().any(|(name, _)| name.value == read.value));
                without.map_or(Ok(()), |value| {
                    Err(error(format!("`{}` has no value everywhere", read.value))
                        .also(value.span, format!("there is none at the point `{}`", value.label)))
                })
            }
            [] => {
                let names: Vec<&str> =
                    of_stage.iter().flat_map(|axis| variables(axes.0[*axis])).map(|name| name.value.as_str()).collect();
                let help = suggest(&read.value, names, "matrix variables here");
                Err(error(format!("`matrix` has no `{}`", read.value)).help(help))
            }
            [first, second, ..] => Err(error(format!("two axes give `{}` here", read.value))
                .also(axes.0[*first].name.span, "this one")
                .also(axes.0[*second].name.span, "and this one")),
        }
    }

    /// The options at a point.
    pub(super) fn at(&mut self, stage: &StageDecl, axes: &Axes<'p>, of_stage: &[AxisId], point: &[u32]) -> Arc<Node> {
        if let Some(shared) = &self.shared {
            return Arc::clone(shared);
        }
        let values = of_stage.iter().zip(point).map(|(axis, value)| &axes.0[*axis].values[*value as usize]);
        let variables: Vec<(&str, &Node)> =
            values.flat_map(|value| &value.variables).map(|(name, node)| (name.value.as_str(), node)).collect();
        self.finish(stage, &variables)
    }

    fn finish(&mut self, stage: &StageDecl, variables: &[(&str, &Node)]) -> Arc<Node> {
        let scope = Scope { params: &self.pipeline.params, name: &self.name, matrix: Some(variables) };
        let mut with = Arc::clone(&stage.with);
        if stage.templated {
            with = Arc::new(self.substitution.node(&with, scope));
        }
        if with.entries().is_none() {
            self.errors.push(expected_mapping(&with, "`with`"));
        }
        match self.pipeline.seed {
            Some(seed) if self.has_seed && with.get("seed").is_none() => {
                let mut with = Arc::unwrap_or_clone(with);
                if let Value::Map(entries) = &mut with.value {
                    let value = i64::try_from(seed.value).map_or(Value::UInt(seed.value), Value::Int);
                    entries.push(Entry {
                        key: "seed".to_owned(),
                        key_span: seed.span,
                        value: Node::new(value, seed.span),
                    });
                }
                Arc::new(with)
            }
            _ => with,
        }
    }

    /// What was wrong. Variables that nobody reads are looked for only when all stages were seen.
    pub(super) fn into_errors(mut self, axes: &Axes<'_>, complete: bool) -> Vec<Diagnostic> {
        self.errors.extend(self.substitution.into_errors());
        if complete {
            for (id, axis) in axes.0.iter().enumerate() {
                let unread = variables(axis).into_iter().filter(|name| !self.read.contains(&(id, name.value.as_str())));
                // `name` under `include` is there to call a point something.
                for name in unread.filter(|name| name.value != "name" || axis.name.span == name.span) {
                    self.errors.push(
                        Diagnostic::new("unused-axis", format!("nothing reads the matrix variable `{}`", name.value))
                            .at(name.span, "")
                            .help(format!("write `${{matrix.{}}}` in `with`, or remove it", name.value)),
                    );
                }
            }
        }
        self.errors
    }
}

fn has_variable(axis: &AxisDecl, name: &str) -> bool {
    axis.values.iter().flat_map(|value| &value.variables).any(|(variable, _)| variable.value == name)
}

/// The variables of an axis, each where it first stands.
fn variables(axis: &AxisDecl) -> Vec<&Spanned<String>> {
    let mut known = HashSet::new();
    let all = axis.values.iter().flat_map(|value| &value.variables);
    all.map(|(name, _)| name).filter(|name| known.insert(name.value.as_str())).collect()
}

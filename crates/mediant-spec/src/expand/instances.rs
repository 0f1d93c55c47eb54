//! One instance for each stage and point.

use std::collections::HashSet;

use super::axes::{Axes, AxisId, Point, Relation, View, pick};
use super::options::Options;
use super::wiring::{End, Wire};
use super::{Instance, MAX_INSTANCES, Member, PortInput, Signatures};
use crate::diagnostic::Diagnostic;
use crate::pipeline::{Pipeline, StageDecl};
use crate::reference::write_label;
use crate::source::Span;

/// Most members of all ports of all instances together.
const MAX_MEMBERS: usize = 1_000_000;

/// The instances of all stages in `order`. Stages behind one that has an error are left out.
pub(super) fn build(
    pipeline: &Pipeline,
    signatures: &dyn Signatures,
    wired: &[Option<Vec<Wire<'_>>>],
    order: &[usize],
    errors: &mut Vec<Diagnostic>,
) -> Vec<Instance> {
    let mut builder = Builder {
        pipeline,
        axes: Axes::default(),
        done: vec![None; wired.len()],
        instances: Vec::with_capacity(order.len()),
        members: 0,
        options: Options::new(pipeline),
    };
    for &stage in order {
        let Some(wires) = &wired[stage] else { continue };
        if let Err(error) = builder.stage(stage, wires, signatures) {
            errors.extend(error);
        }
    }
    let complete = builder.done.iter().all(Option::is_some);
    errors.extend(builder.options.into_errors(&builder.axes, complete));
    builder.instances
}

struct Builder<'p> {
    pipeline: &'p Pipeline,
    axes: Axes<'p>,
    /// For each stage the points at which it runs and the index of its first instance.
    done: Vec<Option<(Relation, usize)>>,
    instances: Vec<Instance>,
    members: usize,
    options: Options<'p>,
}

impl<'p> Builder<'p> {
    /// Adds a stage's instances. An error list may be empty: a stage behind a broken one says nothing.
    fn stage(&mut self, index: usize, wires: &[Wire<'p>], signatures: &dyn Signatures) -> Result<(), Vec<Diagnostic>> {
        let stage = &self.pipeline.stages[index];
        let views = self.views(wires)?;
        let relation = self.points(stage, wires, &views)?;
        if self.instances.len() + relation.points.len() > MAX_INSTANCES {
            return Err(vec![too_many(stage)]);
        }
        self.options.start(stage, &self.axes, &relation.axes, signatures.has_seed(&stage.uses.value))?;

        let ports: Vec<Port<'_, 'p>> =
            wires.iter().zip(&views).map(|(wire, views)| Port::new(wire, views, &relation)).collect();
        let first = self.instances.len();
        for point in &relation.points {
            let axes = self.labels(&relation.axes, point);
            let mut inputs = Vec::with_capacity(ports.len());
            for port in &ports {
                inputs.push(self.input(port, point)?);
            }
            let with = self.options.at(stage, &self.axes, &relation.axes, point);
            self.instances.push(Instance { stage: index, label: write_label(&stage.name, &axes), axes, with, inputs });
        }
        self.done[index] = Some((relation, first));
        Ok(())
    }

    fn views(&self, wires: &[Wire<'p>]) -> Result<Vec<Vec<View>>, Vec<Diagnostic>> {
        if wires.iter().flat_map(|wire| &wire.ends).any(|end| self.done[end.stage].is_none()) {
            return Err(Vec::new());
        }
        let mut errors = Vec::new();
        let mut view = |end: &End<'p>, many| {
            let (producer, _) = self.done[end.stage].as_ref()?;
            self.axes.view(producer, end.reference, many).map_err(|error| errors.push(error)).ok()
        };
        let views =
            wires.iter().map(|wire| wire.ends.iter().filter_map(|end| view(end, wire.many)).collect()).collect();
        if errors.is_empty() { Ok(views) } else { Err(errors) }
    }

    /// The points at which a stage runs: those of its own matrix, joined with those of its inputs.
    fn points(
        &mut self,
        stage: &'p StageDecl,
        wires: &[Wire<'p>],
        views: &[Vec<View>],
    ) -> Result<Relation, Vec<Diagnostic>> {
        let mut relation = Relation::unit();
        let mut origins: Vec<(AxisId, Span)> = Vec::new();
        for (end, view) in wires.iter().flat_map(|wire| &wire.ends).zip(views.iter().flatten()) {
            origins.extend(view.axes.iter().map(|axis| (*axis, end.reference.span)));
            relation = relation.join(&view.axes, view.points()).ok_or_else(|| vec![too_many(stage)])?;
        }
        if let Some(matrix) = &stage.matrix {
            let own: Vec<AxisId> = (self.axes.0.len()..).take(matrix.axes.len()).collect();
            self.axes.0.extend(&matrix.axes);
            origins.extend(own.iter().map(|axis| (*axis, self.axes.0[*axis].name.span)));
            relation = relation.join(&own, matrix.points.iter()).ok_or_else(|| vec![too_many(stage)])?;
        }
        self.check_clash(&origins)?;
        if relation.points.is_empty() {
            let message = format!("the inputs of `{}` have no point in common", stage.name);
            return Err(vec![Diagnostic::new("no-points", message).at(stage.name_span, "this stage would never run")]);
        }
        Ok(relation.sorted(&self.axes))
    }

    fn check_clash(&self, origins: &[(AxisId, Span)]) -> Result<(), Vec<Diagnostic>> {
        for (index, (axis, first)) in origins.iter().enumerate() {
            let name = self.axes.name(*axis);
            let clash = origins[index + 1..].iter().find(|(other, _)| other != axis && self.axes.name(*other) == name);
            if let Some((other, second)) = clash {
                let mut error = Diagnostic::new("axis-clash", format!("two different axes are called `{name}` here"))
                    .at(*second, "one comes from here")
                    .also(*first, "another from here");
                for declared in [axis, other]
                    .map(|axis| self.axes.0[*axis].name.span)
                    .into_iter()
                    .filter(|span| span != second && span != first)
                {
                    error = error.also(declared, "declared here");
                }
                return Err(vec![error.help("rename one of them, or select one value: `stage[axis=label]`")]);
            }
        }
        Ok(())
    }

    fn labels(&self, axes: &[AxisId], point: &[u32]) -> Vec<(String, String)> {
        let label = |(axis, value): (&AxisId, &u32)| {
            (self.axes.name(*axis).to_owned(), self.axes.label(*axis, *value).to_owned())
        };
        axes.iter().zip(point).map(label).collect()
    }

    fn input(&mut self, port: &Port<'_, 'p>, point: &Point) -> Result<PortInput, Vec<Diagnostic>> {
        let ends: Vec<_> =
            port.ends.iter().map(|(end, view, columns)| (end, view, view.at(&pick(point, columns)))).collect();
        let count = ends.iter().map(|(_, _, positions)| positions.len()).sum();
        if self.members + count > MAX_MEMBERS {
            let message = format!("the inputs of this pipeline have more than {MAX_MEMBERS} members");
            return Err(vec![Diagnostic::new("too-many", message).at(port.wire.port_span, "")]);
        }
        self.members += count;
        let mut members = Vec::with_capacity(count);
        let mut known = HashSet::new();
        for (end, view, positions) in ends {
            let Some((producer, first)) = &self.done[end.stage] else { continue };
            for position in positions {
                let member = self.member(end, view, producer, first + position, position);
                // What is given twice would count twice; under two names that may be meant.
                let twice = port.ends.len() > 1
                    && !known.insert((member.producer, member.output.clone(), member.key.clone(), member.name.clone()));
                if twice {
                    let message =
                        format!("`{}` is given to `{}` twice", self.instances[member.producer].label, port.wire.port);
                    return Err(vec![Diagnostic::new("duplicate-member", message).at(end.reference.span, "")]);
                }
                members.push(member);
            }
        }
        Ok(PortInput { port: port.wire.port.to_owned(), port_span: port.wire.port_span, members })
    }

    fn member(&self, end: &End<'p>, view: &View, producer: &Relation, instance: usize, position: usize) -> Member {
        let point = &producer.points[position];
        let values: Vec<u32> = view.collected.iter().filter_map(|axis| Some(point[producer.column(*axis)?])).collect();
        let reference = end.reference;
        let output = reference.output.as_deref();
        let key = output.and_then(|output| output.key.as_ref());
        let output_span = output.map_or(reference.span, |output| output.name.span);
        Member {
            producer: instance,
            output: output.map(|output| output.name.value.clone()),
            key: key.map(|key| key.value.clone()),
            labels: self.labels(&view.collected, &values),
            name: end.member.map(|name| name.value.clone()),
            span: reference.span,
            output_span,
            key_span: key.map_or(output_span, |key| key.span),
        }
    }
}

/// A wire, and for each of its ends the view and the columns of the stage's points that the view's members are found by.
struct Port<'v, 'p> {
    wire: &'v Wire<'p>,
    ends: Vec<(&'v End<'p>, &'v View, Vec<usize>)>,
}

impl<'v, 'p> Port<'v, 'p> {
    fn new(wire: &'v Wire<'p>, views: &'v [View], relation: &Relation) -> Self {
        let columns = |view: &View| view.axes.iter().filter_map(|axis| relation.column(*axis)).collect();
        let ends = wire.ends.iter().zip(views).map(|(end, view)| (end, view, columns(view))).collect();
        Self { wire, ends }
    }
}

fn too_many(stage: &StageDecl) -> Diagnostic {
    let message = format!("this pipeline has more than {MAX_INSTANCES} instances");
    Diagnostic::new("too-many", message).at(stage.name_span, "the limit is passed by this stage")
}

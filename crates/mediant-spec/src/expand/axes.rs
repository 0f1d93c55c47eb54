//! Points on axes: sets of them, joined, selected from, projected.

use std::collections::HashMap;

use super::MAX_INSTANCES;
use crate::diagnostic::Diagnostic;
use crate::pipeline::{AxisDecl, Reference};
use crate::source::Spanned;
use crate::suggest::{list, suggest};

/// Index into [`Axes`].
pub(super) type AxisId = usize;

/// A point: the index of a value on each axis of its [`Relation`].
pub(super) type Point = Box<[u32]>;

/// All axes of a pipeline.
#[derive(Default)]
pub(super) struct Axes<'p>(pub(super) Vec<&'p AxisDecl>);

/// Points on some axes.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    pub(super) axes: Vec<AxisId>,
    pub(super) points: Vec<Point>,
}

/// What a reference gives: for each point of the axes it does not collect the instances it stands for.
pub(super) struct View {
    pub(super) axes: Vec<AxisId>,
    pub(super) collected: Vec<AxisId>,
    /// A point on `axes` and a position in the producer's relation; sorted.
    members: Vec<(Point, usize)>,
}

impl View {
    /// The positions at a point, ascending.
    pub(super) fn at<'v>(&'v self, point: &[u32]) -> impl ExactSizeIterator<Item = usize> + use<'v> {
        let start = self.members.partition_point(|(other, _)| **other < *point);
        let count = self.members[start..].partition_point(|(other, _)| **other == *point);
        self.members[start..start + count].iter().map(|(_, position)| *position)
    }

    /// The points at which there is anything.
    pub(super) fn points(&self) -> impl Iterator<Item = &Point> {
        self.members.chunk_by(|(a, _), (b, _)| a == b).map(|same| &same[0].0)
    }
}

impl<'p> Axes<'p> {
    pub(super) fn name(&self, axis: AxisId) -> &'p str {
        &self.0[axis].name.value
    }

    pub(super) fn label(&self, axis: AxisId, value: u32) -> &'p str {
        &self.0[axis].values[value as usize].label
    }

    /// The axis of a producer under a name.
    fn find(&self, among: &[AxisId], name: &Spanned<String>, stage: &str) -> Result<AxisId, Diagnostic> {
        among.iter().copied().find(|axis| self.name(*axis) == name.value).ok_or_else(|| {
            let names = among.iter().map(|axis| self.name(*axis));
            Diagnostic::new("unknown-axis", format!("`{stage}` has no axis `{}` here", name.value))
                .at(name.span, "")
                .help(suggest(&name.value, names, "axes"))
        })
    }

    /// What a reference to a stage with the points `producer` gives to a port.
    pub(super) fn view(&self, producer: &Relation, reference: &Reference, many: bool) -> Result<View, Diagnostic> {
        let stage = &reference.stage.value;
        let mut axes = producer.axes.clone();
        let mut fixed: Vec<(usize, u32)> = Vec::new();
        for select in &reference.select {
            let axis = self.find(&axes, &select.axis, stage)?;
            let values = &self.0[axis].values;
            let Some(value) = values.iter().position(|value| value.label == select.label.value) else {
                let labels = values.iter().map(|value| value.label.as_str());
                let message =
                    format!("the axis `{}` of `{stage}` has no value `{}`", select.axis.value, select.label.value);
                let error = Diagnostic::new("unknown-label", message).at(select.label.span, "");
                return Err(error.help(list(labels, "values")));
            };
            axes.retain(|other| *other != axis);
            fixed.extend(producer.column(axis).zip(u32::try_from(value).ok()));
        }
        let mut collected = Vec::new();
        match &reference.over {
            _ if !many => {}
            None => collected = std::mem::take(&mut axes),
            Some(over) => {
                for name in over {
                    let axis = self.find(&axes, name, stage)?;
                    axes.retain(|other| *other != axis);
                    collected.push(axis);
                }
                collected.sort_by_key(|axis| self.name(*axis));
            }
        }
        let columns: Vec<usize> = axes.iter().filter_map(|axis| producer.column(*axis)).collect();
        let selected = |point: &Point| fixed.iter().all(|(column, value)| point[*column] == *value);
        let positions = producer.points.iter().enumerate().filter(|(_, point)| selected(point));
        let mut members: Vec<(Point, usize)> =
            positions.map(|(position, point)| (pick(point, &columns), position)).collect();
        members.sort_unstable();
        if members.is_empty() {
            return Err(Diagnostic::new("unknown-label", format!("no instance of `{stage}` is selected"))
                .at(reference.span, ""));
        }
        Ok(View { axes, collected, members })
    }
}

impl Relation {
    /// The one point on no axis.
    pub(super) fn unit() -> Self {
        Self { axes: Vec::new(), points: vec![Point::default()] }
    }

    pub(super) fn column(&self, axis: AxisId) -> Option<usize> {
        self.axes.iter().position(|other| *other == axis)
    }

    /// The natural join: points that agree on shared axes. `None` if there are more than [`MAX_INSTANCES`].
    pub(super) fn join<'a>(self, axes: &[AxisId], points: impl Iterator<Item = &'a Point>) -> Option<Self> {
        if axes.is_empty() {
            return Some(self); // the most common case; what is joined then is the one point on no axis
        }
        let (mut shared_left, mut shared_right, mut new) = (Vec::new(), Vec::new(), Vec::new());
        for (right, axis) in axes.iter().enumerate() {
            match self.column(*axis) {
                Some(left) => {
                    shared_left.push(left);
                    shared_right.push(right);
                }
                None => new.push(right),
            }
        }
        let mut by_shared: HashMap<Point, Vec<Point>> = HashMap::new();
        for point in points {
            by_shared.entry(pick(point, &shared_right)).or_default().push(pick(point, &new));
        }
        let mut joined = Vec::new();
        for left in &self.points {
            for right in by_shared.get(&pick(left, &shared_left)).into_iter().flatten() {
                joined.push([&**left, &**right].concat().into_boxed_slice());
            }
            if joined.len() > MAX_INSTANCES {
                return None;
            }
        }
        let axes = self.axes.into_iter().chain(new.into_iter().map(|right| axes[right])).collect();
        Some(Self { axes, points: joined })
    }

    /// The same points with the axes by name and the points in order, so that nothing depends on the order of keys in the file.
    pub(super) fn sorted(self, axes: &Axes<'_>) -> Self {
        let mut columns: Vec<usize> = (0..self.axes.len()).collect();
        columns.sort_by_key(|column| axes.name(self.axes[*column]));
        let mut points: Vec<Point> = self.points.iter().map(|point| pick(point, &columns)).collect();
        points.sort_unstable();
        Self { axes: columns.into_iter().map(|column| self.axes[column]).collect(), points }
    }
}

/// The values of a point in some columns.
pub(super) fn pick(point: &[u32], columns: &[usize]) -> Point {
    columns.iter().map(|column| point[*column]).collect()
}

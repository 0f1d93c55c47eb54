//! `matrix`: the axes a stage declares, and the points on them.

use std::collections::HashMap;

use crate::diagnostic::Diagnostic;
use crate::expand::MAX_INSTANCES;
use crate::node::{Entry, Node, Value};
use crate::pipeline::{AxisDecl, AxisValue, MatrixDecl};
use crate::read::fields::expected_mapping;
use crate::source::{Sources, Spanned};
use crate::suggest::{list, suggest};
use crate::template::{as_written, is_name};

/// Reads a matrix whose references are replaced; `None` only after an error.
pub(crate) fn read(node: &Node, sources: &Sources, errors: &mut Vec<Diagnostic>) -> Option<MatrixDecl> {
    let Some(entries) = node.entries() else {
        errors.push(expected_mapping(node, "`matrix`"));
        return None;
    };
    let before = errors.len();
    let mut axes: Vec<AxisDecl> = Vec::new();
    let mut exclude = None;
    for entry in entries {
        match entry.key.as_str() {
            "exclude" => exclude = Some(&entry.value),
            "include" => axes.extend(included(entry, sources, errors)),
            _ => axes.extend(axis(entry, sources, errors)),
        }
    }
    check_clashes(&axes, errors);
    if errors.len() > before {
        return None;
    }
    if axes.is_empty() {
        errors.push(Diagnostic::new("matrix", "a matrix needs at least one axis").at(node.span, ""));
        return None;
    }
    let size = axes.iter().try_fold(1_usize, |size, axis| size.checked_mul(axis.values.len()));
    if size.is_none_or(|size| size > MAX_INSTANCES) {
        let message = format!("this matrix has more than {MAX_INSTANCES} points");
        errors.push(Diagnostic::new("matrix", message).at(node.span, ""));
        return None;
    }
    let mut points = product(&axes);
    if let Some(exclude) = exclude {
        remove_excluded(&mut points, &axes, exclude, sources, errors);
        if points.is_empty() && errors.len() == before {
            errors.push(Diagnostic::new("matrix", "no point is left").at(exclude.span, "this excludes all of them"));
        }
    }
    (errors.len() == before).then_some(MatrixDecl { axes, points })
}

/// `seed: [0, 1, 2]`.
fn axis(entry: &Entry, sources: &Sources, errors: &mut Vec<Diagnostic>) -> Option<AxisDecl> {
    if !is_name(&entry.key) {
        let error = Diagnostic::new("name", format!("`{}` cannot name an axis", entry.key)).at(entry.key_span, "");
        errors.push(error.help("letters, digits, `_` and `-`"));
        return None;
    }
    let name = Spanned::new(entry.key.clone(), entry.key_span);
    let items = items(&entry.value, &format!("the axis `{}`", entry.key), errors)?;
    let values = items.iter().map(|item| {
        let (label, value) = labelled(item, sources);
        AxisValue { label, span: item.span, variables: vec![(name.clone(), value)] }
    });
    let values: Vec<AxisValue> = values.collect();
    check_distinct(&values, errors);
    Some(AxisDecl { name, values })
}

/// `include: [{ name: topk16, sae: { … } }, …]`: one axis called `name`.
fn included(entry: &Entry, sources: &Sources, errors: &mut Vec<Diagnostic>) -> Option<AxisDecl> {
    let items = items(&entry.value, "`include`", errors)?;
    let mut values = Vec::with_capacity(items.len());
    for item in items {
        let Some(point) = item.entries().filter(|point| !point.is_empty()) else {
            let message = format!("a point is a mapping of variables, and this is {}", item.value.describe());
            errors.push(Diagnostic::new("matrix", message).at(item.span, ""));
            continue;
        };
        for variable in point.iter().filter(|variable| !is_name(&variable.key)) {
            let error = Diagnostic::new("name", format!("`{}` cannot name a variable", variable.key));
            errors.push(error.at(variable.key_span, "").help("letters, digits, `_` and `-`"));
        }
        let label = match item.get("name") {
            None => compact(item, sources),
            Some(name) => match as_written(name, sources) {
                Some(label) => label.into_owned(),
                None => {
                    let message = format!("the name of a point is text, and this is {}", name.value.describe());
                    errors.push(Diagnostic::new("matrix", message).at(name.span, ""));
                    continue;
                }
            },
        };
        let variable = |entry: &Entry| (Spanned::new(entry.key.clone(), entry.key_span), entry.value.clone());
        values.push(AxisValue { label, span: item.span, variables: point.iter().map(variable).collect() });
    }
    check_distinct(&values, errors);
    Some(AxisDecl { name: Spanned::new("name".to_owned(), entry.key_span), values })
}

fn emptiness(node: &Node) -> &'static str {
    if node.entries().is_some() { "an empty one" } else { node.value.describe() }
}

fn items<'n>(node: &'n Node, what: &str, errors: &mut Vec<Diagnostic>) -> Option<&'n [Node]> {
    let message = match &node.value {
        Value::Seq(items) if !items.is_empty() => return Some(items),
        Value::Seq(_) => format!("{what} is empty"),
        other => format!("{what} is a list of values, and this is {}", other.describe()),
    };
    errors.push(Diagnostic::new("matrix", message).at(node.span, "").via(node.via));
    None
}

/// What a value is called and the value itself: a mapping is called by its `name`, which is not part of the value.
fn labelled(node: &Node, sources: &Sources) -> (String, Node) {
    if let Some(label) = node.get("name").and_then(|name| as_written(name, sources)) {
        let rest = node.entries().unwrap_or_default().iter().filter(|entry| entry.key != "name").cloned().collect();
        return (label.into_owned(), Node { value: Value::Map(rest), ..*node });
    }
    (compact(node, sources), node.clone())
}

/// A value in short: `16`, `a,b`, `architecture=topk,k=16`.
fn compact(node: &Node, sources: &Sources) -> String {
    let nested = |node: &Node| match &node.value {
        Value::Seq(_) => format!("[{}]", compact(node, sources)),
        Value::Map(_) => format!("{{{}}}", compact(node, sources)),
        _ => compact(node, sources),
    };
    match &node.value {
        Value::Seq(items) => items.iter().map(nested).collect::<Vec<_>>().join(","),
        Value::Map(entries) => {
            entries.iter().map(|entry| format!("{}={}", entry.key, nested(&entry.value))).collect::<Vec<_>>().join(",")
        }
        _ => as_written(node, sources).map_or_else(|| "null".to_owned(), std::borrow::Cow::into_owned),
    }
}

/// No two values may have the same label, nor be the same number written in two ways.
fn check_distinct(values: &[AxisValue], errors: &mut Vec<Diagnostic>) {
    let (mut labels, mut scalars) = (HashMap::new(), HashMap::new());
    for value in values {
        let scalar = match value.variables.as_slice() {
            [(_, node)] if node.is_scalar() => scalars.insert(format!("{:?}", node.value), value.span),
            _ => None,
        };
        if let Some(earlier) = labels.insert(value.label.as_str(), value.span).or(scalar) {
            let error = Diagnostic::new("matrix", format!("the value `{}` is given twice", value.label));
            errors.push(error.at(value.span, "again here").also(earlier, "first here"));
        }
    }
}

/// `${matrix.x}` has to mean one thing: no axis may be called like a variable of another.
fn check_clashes(axes: &[AxisDecl], errors: &mut Vec<Diagnostic>) {
    let has = |axis: &AxisDecl, name: &str| {
        axis.values.iter().flat_map(|value| &value.variables).any(|(variable, _)| variable.value == name)
    };
    for (index, axis) in axes.iter().enumerate() {
        for other in &axes[index + 1..] {
            let clash =
                [&axis.name.value, &other.name.value].into_iter().find(|name| has(axis, name) && has(other, name));
            if let Some(name) = clash {
                let error = Diagnostic::new("matrix", format!("`{name}` is given by two axes"));
                errors.push(error.at(other.name.span, "here").also(axis.name.span, "and here"));
            }
        }
    }
}

/// All points, the first axis slowest.
fn product(axes: &[AxisDecl]) -> Vec<Box<[u32]>> {
    let mut points = vec![Box::default()];
    for axis in axes {
        let indices = || (0..).take(axis.values.len());
        let longer = |point: &[u32], index| [point, &[index]].concat().into_boxed_slice();
        points = points.iter().flat_map(|point| indices().map(move |index| longer(point, index))).collect();
    }
    points
}

fn remove_excluded(
    points: &mut Vec<Box<[u32]>>,
    axes: &[AxisDecl],
    exclude: &Node,
    sources: &Sources,
    errors: &mut Vec<Diagnostic>,
) {
    for item in items(exclude, "`exclude`", errors).unwrap_or_default() {
        let Some(entries) = item.entries().filter(|entries| !entries.is_empty()) else {
            let message = format!("what is excluded is a mapping of axes to values, and this is {}", emptiness(item));
            errors.push(Diagnostic::new("matrix", message).at(item.span, ""));
            continue;
        };
        let before = errors.len();
        let matches: Vec<(usize, Vec<bool>)> =
            entries.iter().filter_map(|entry| matching(entry, axes, sources, errors)).collect();
        if errors.len() > before {
            continue;
        }
        let count = points.len();
        points.retain(|point| !matches.iter().all(|(axis, values)| values[point[*axis] as usize]));
        if points.len() == count {
            errors.push(Diagnostic::new("matrix", "this excludes nothing").at(item.span, "no point like this is left"));
        }
    }
}

/// The axis that `name: value` under `exclude` is about, and which of its values are meant.
fn matching(
    entry: &Entry,
    axes: &[AxisDecl],
    sources: &Sources,
    errors: &mut Vec<Diagnostic>,
) -> Option<(usize, Vec<bool>)> {
    let has = |axis: &AxisDecl| {
        axis.name.value == entry.key
            || axis.values.iter().flat_map(|value| &value.variables).any(|(variable, _)| variable.value == entry.key)
    };
    let Some(index) = axes.iter().position(has) else {
        let names = axes.iter().map(|axis| axis.name.value.as_str());
        let error = Diagnostic::new("matrix", format!("there is no axis `{}`", entry.key)).at(entry.key_span, "");
        errors.push(error.help(suggest(&entry.key, names, "axes")));
        return None;
    };
    let axis = &axes[index];
    let label = as_written(&entry.value, sources);
    let is_meant = |value: &AxisValue| {
        (axis.name.value == entry.key && label.as_deref() == Some(&value.label))
            || value.variables.iter().any(|(variable, node)| variable.value == entry.key && *node == entry.value)
    };
    let meant: Vec<bool> = axis.values.iter().map(is_meant).collect();
    if !meant.contains(&true) {
        let labels: Vec<&str> = axis.values.iter().map(|value| value.label.as_str()).collect();
        let error = Diagnostic::new("matrix", format!("the axis `{}` has no such value", axis.name.value))
            .at(entry.value.span, "");
        errors.push(error.help(list(labels, "values")));
        return None;
    }
    Some((index, meant))
}

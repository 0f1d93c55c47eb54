//! Columns of the tables, and a table of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{Field, Schema};
use mediant_artifact::{ArtifactWriter, TableMeta, write_table};
use mediant_engine::StageError;
use mediant_methods::bootstrap::Estimate;
use mediant_methods::standings::{Origin, Search};

pub(super) type Column = (String, ArrayRef);

pub(super) fn texts<'a>(name: &str, values: impl Iterator<Item = Option<&'a str>>) -> Column {
    (name.to_owned(), Arc::new(values.collect::<StringArray>()))
}

pub(super) fn numbers(name: &str, values: impl Iterator<Item = Option<f64>>) -> Column {
    (name.to_owned(), Arc::new(values.collect::<Float64Array>()))
}

pub(super) fn counts(name: &str, values: impl Iterator<Item = u64>) -> Column {
    (name.to_owned(), Arc::new(UInt64Array::from_iter_values(values)))
}

/// What a search says of itself, in the order of the columns.
const FACTS: [&str; 4] = ["mediator", "search", "metric", "outside"];

/// What tells a search from others: what it says of itself, and its labels. An axis with the name of a fact that says something else is `axis_NAME`.
pub(super) fn told(origin: &Origin) -> BTreeMap<String, String> {
    let Search { labels, facts, metric, outside } = &origin.search;
    let own = [Some(&facts.mediator), Some(&facts.method), Some(metric), outside.as_ref()];
    let own = FACTS.into_iter().zip(own).filter_map(|(name, fact)| Some((name.to_owned(), fact?.clone())));
    let mut told: BTreeMap<String, String> = own.collect();
    for (axis, label) in labels {
        match told.get(axis) {
            Some(fact) if fact == label => {}
            Some(_) => drop(told.insert(format!("axis_{axis}"), label.clone())),
            None => drop(told.insert(axis.clone(), label.clone())),
        }
    }
    told
}

/// A column for each of these axes, and one for each fact.
pub(super) fn labelled(axes: &[&str], rows: &[&Origin]) -> Vec<Column> {
    let rows: Vec<BTreeMap<String, String>> = rows.iter().map(|row| told(row)).collect();
    let axes = axes.iter().filter(|axis| !FACTS.contains(axis)).map(|axis| (*axis).to_owned());
    let others = FACTS.map(|fact| format!("axis_{fact}"));
    let others = others.into_iter().filter(|name| rows.iter().any(|row| row.contains_key(name)));
    let names = axes.chain(others).chain(FACTS.map(str::to_owned));
    names.map(|name| texts(&name, rows.iter().map(|row| row.get(&name).map(String::as_str)))).collect()
}

/// Writes a table. Axes come first: one with the name of a column after it is `axis_NAME`.
pub(super) fn write(
    artifact: ArtifactWriter,
    mut columns: Vec<Column>,
    title: &str,
    description: &str,
) -> Result<(), StageError> {
    let mut known: BTreeSet<String> = BTreeSet::new();
    for (name, _) in columns.iter_mut().rev() {
        if !known.insert(name.clone()) {
            *name = format!("axis_{name}");
        }
    }
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(name, array.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(schema.clone(), columns.into_iter().map(|(_, array)| array).collect())?;
    let meta = TableMeta { title: title.to_owned(), description: description.to_owned() };
    write_table(artifact, schema, [Ok(batch)], &meta)?;
    Ok(())
}

/// Columns of a number and, if it has one, of the ends of its interval.
pub(super) fn estimates(name: &str, values: &[Option<Estimate>], interval: bool) -> Vec<Column> {
    let of = |get: fn(&Estimate) -> Option<f64>| values.iter().map(move |value| get(value.as_ref()?));
    let mut columns = vec![numbers(name, of(|estimate| Some(estimate.value)))];
    if interval {
        columns.push(numbers(&format!("{name}_low"), of(|estimate| estimate.interval.map(|(low, _)| low))));
        columns.push(numbers(&format!("{name}_high"), of(|estimate| estimate.interval.map(|(_, high)| high))));
    }
    columns
}

#[cfg(test)]
mod tests {
    use mediant_artifact::{Digest, SearchFacts};

    use super::*;

    #[test]
    fn a_search_says_itself_what_it_is_whatever_axes_are_called() {
        let text = str::to_owned;
        let search = Search {
            labels: BTreeMap::from(
                [("mediator", "heads"), ("outside", "first"), ("seed", "1")].map(|(a, b)| (text(a), text(b))),
            ),
            facts: SearchFacts { mediator: text("heads"), method: text("eap"), shuffled: None },
            metric: text("logit_diff"),
            outside: Some(text("live")),
        };
        let digest = Digest::of(b"");
        let origin = Origin {
            search,
            search_passes: 0.0,
            passes: 0.0,
            searched_in: None,
            model: digest,
            prompts: digest,
            examples: 1,
        };
        let columns = labelled(&["mediator", "outside", "seed"], &[&origin]);
        let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["seed", "axis_outside", "mediator", "search", "metric", "outside"]);
        assert_eq!(told(&origin)["outside"], "live");
        assert_eq!(told(&origin)["axis_outside"], "first");
    }
}

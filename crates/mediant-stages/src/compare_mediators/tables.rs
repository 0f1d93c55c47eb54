//! The tables of `compare_mediators`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{Field, Schema};
use mediant_artifact::{ArtifactWriter, MetricRow, TableMeta, write_table};
use mediant_engine::StageError;
use mediant_methods::bootstrap::Estimate;
use mediant_methods::mediators::Selection;
use mediant_methods::standings::{Difference, Standing, bits};

/// A standing beside its controls.
pub(super) struct Controlled<'s, 'e> {
    pub(super) standing: &'s Standing<'e>,
    pub(super) shuffled: &'s Standing<'e>,
    pub(super) random_model: &'s Standing<'e>,
}

/// A number of a standing: its name, unit, value and interval.
struct Number {
    name: &'static str,
    unit: &'static str,
    estimate: Option<Estimate>,
    n: u64,
}

impl Controlled<'_, '_> {
    /// Everything that is said of it, always the same names.
    fn numbers(&self) -> Vec<Number> {
        let Standing { entry, nothing, coverage, sufficient, minimality, random, .. } = self.standing;
        let number = |name, unit, estimate, n| Number { name, unit, estimate, n };
        let examples = entry.examples;
        let of = |name, estimate| number(name, "1", estimate, examples);
        let plain = |value: f64| Some(Estimate { value, interval: None });
        let areas = |standing: &Standing<'_>, selection, which: fn(Estimate, Estimate) -> Estimate| {
            standing.areas_of(selection).map(|areas| which(areas.cpr, areas.cmd))
        };
        let (cpr, cmd): (fn(_, _) -> _, fn(_, _) -> _) = (|cpr, _| cpr, |_, cmd| cmd);
        let items = entry.items as u64;
        let draws = random.as_ref().map_or(0, |random| random.draws as u64);
        let random_cpr = random.as_ref().map(|random| Estimate { value: random.mean, interval: random.interval });
        vec![
            of("cpr_signed", areas(self.standing, Selection::Signed, cpr)),
            of("cpr_absolute", areas(self.standing, Selection::Absolute, cpr)),
            of("cmd_signed", areas(self.standing, Selection::Signed, cmd)),
            of("cmd_absolute", areas(self.standing, Selection::Absolute, cmd)),
            of("coverage", Some(*coverage)),
            of("nothing", Some(*nothing)),
            number("items", "items", plain(items as f64), items),
            number("size_at_0.9", "items", sufficient.and_then(|set| plain(f64::from(set.kept))), examples),
            number("bits_at_0.9", "bits", sufficient.and_then(|set| plain(bits(set))), examples),
            number("weighted_edges_at_0.9", "edges", sufficient.and_then(|set| plain(set.weighted_edges?)), examples),
            number(
                "minimality",
                "1",
                minimality.and_then(|(share, ..)| plain(share)),
                minimality.map_or(0, |(_, tried, _)| tried as u64),
            ),
            number(
                "minimality_items",
                "items",
                minimality.and_then(|(_, _, set)| plain(f64::from(set.kept))),
                examples,
            ),
            number("random_cpr", "1", random_cpr, draws),
            number("above_random", "1", random.as_ref().and_then(|random| plain(random.below)), draws),
            of("shuffled_cpr", areas(self.shuffled, Selection::Signed, cpr)),
            of("random_model_cpr", areas(self.random_model, Selection::Signed, cpr)),
            number("search_passes", "passes", plain(entry.search_passes), examples),
            number("evaluation_passes", "passes", plain(entry.passes), examples),
        ]
    }

    /// The same as metrics.
    pub(super) fn metrics(&self) -> Vec<MetricRow> {
        let entry = self.standing.entry;
        let mut tags = entry.labels.clone();
        tags.insert("mediator".to_owned(), entry.mediator.clone());
        tags.insert("search".to_owned(), entry.search.clone());
        let row = |number: Number| MetricRow {
            name: number.name.to_owned(),
            value: number.estimate.map_or(f64::NAN, |estimate| estimate.value),
            unit: number.unit.to_owned(),
            n: number.n,
            low: number.estimate.and_then(|estimate| estimate.interval).map(|(low, _)| low),
            high: number.estimate.and_then(|estimate| estimate.interval).map(|(_, high)| high),
            tags: tags.clone(),
            ..MetricRow::default()
        };
        self.numbers().into_iter().map(row).collect()
    }
}

type Column = (String, ArrayRef);

fn texts<'a>(name: &str, values: impl Iterator<Item = Option<&'a str>>) -> Column {
    (name.to_owned(), Arc::new(values.collect::<StringArray>()))
}

fn numbers(name: &str, values: impl Iterator<Item = Option<f64>>) -> Column {
    (name.to_owned(), Arc::new(values.collect::<Float64Array>()))
}

fn counts(name: &str, values: impl Iterator<Item = u64>) -> Column {
    (name.to_owned(), Arc::new(UInt64Array::from_iter_values(values)))
}

/// A column for each axis, and one each for mediator and search.
fn labelled(axes: &[&str], rows: &[&Standing<'_>]) -> Vec<Column> {
    let axis = |axis: &&str| texts(axis, rows.iter().map(|row| row.entry.labels.get(*axis).map(String::as_str)));
    let mut columns: Vec<Column> = axes.iter().map(axis).collect();
    columns.push(texts("mediator", rows.iter().map(|row| Some(row.entry.mediator.as_str()))));
    columns.push(texts("search", rows.iter().map(|row| Some(row.entry.search.as_str()))));
    columns
}

/// Columns that a label's axis has a column of already get that of the axis.
fn write(artifact: ArtifactWriter, columns: Vec<Column>, title: &str, description: &str) -> Result<(), StageError> {
    let mut apart: BTreeMap<String, ()> = BTreeMap::new();
    let columns: Vec<Column> =
        columns.into_iter().filter(|(name, _)| apart.insert(name.clone(), ()).is_none()).collect();
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(name, array.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(schema.clone(), columns.into_iter().map(|(_, array)| array).collect())?;
    let meta = TableMeta { title: title.to_owned(), description: description.to_owned() };
    write_table(artifact, schema, [Ok(batch)], &meta)?;
    Ok(())
}

/// One row a search, the best first.
pub(super) fn write_standings(
    artifact: ArtifactWriter,
    axes: &[&str],
    controlled: &[Controlled<'_, '_>],
) -> Result<(), StageError> {
    let cpr =
        |row: &Controlled<'_, '_>| row.standing.areas_of(Selection::Signed).map_or(f64::NAN, |areas| areas.cpr.value);
    let mut order: Vec<&Controlled<'_, '_>> = controlled.iter().collect();
    order.sort_by(|a, b| cpr(b).total_cmp(&cpr(a)));
    let rows: Vec<&Standing<'_>> = order.iter().map(|row| row.standing).collect();
    let mut columns = labelled(axes, &rows);
    let values: Vec<Vec<Number>> = order.iter().map(|row| row.numbers()).collect();
    let names = values.first().map_or(Vec::new(), |row| row.iter().map(|number| number.name).collect());
    for (place, name) in names.into_iter().enumerate() {
        let of = |get: fn(&Estimate) -> Option<f64>| values.iter().map(move |row| get(row[place].estimate.as_ref()?));
        columns.push(numbers(name, of(|estimate| Some(estimate.value))));
        if of(|estimate| estimate.interval.map(|(low, _)| low)).any(|end| end.is_some()) {
            columns.push(numbers(&format!("{name}_low"), of(|estimate| estimate.interval.map(|(low, _)| low))));
            columns.push(numbers(&format!("{name}_high"), of(|estimate| estimate.interval.map(|(_, high)| high))));
        }
    }
    write(
        artifact,
        columns,
        "Standings",
        "Searches for mediators by the area under their faithfulness, the best first.",
    )
}

/// One row a set on a curve, with the columns that the report draws.
pub(super) fn write_curves(
    artifact: ArtifactWriter,
    axes: &[&str],
    seeds: &[String],
    standings: &[Standing<'_>],
) -> Result<(), StageError> {
    let points: Vec<_> =
        standings.iter().flat_map(|standing| standing.points.iter().map(move |point| (standing, point))).collect();
    let rows: Vec<&Standing<'_>> = points.iter().map(|(standing, _)| *standing).collect();
    let plain: Vec<&str> = axes.iter().copied().filter(|axis| !seeds.iter().any(|seed| seed == axis)).collect();
    let mut columns = labelled(&plain, &rows);
    // The report takes curves that differ in `seed` alone for repetitions.
    let repetitions: Vec<Vec<&String>> =
        rows.iter().map(|row| seeds.iter().filter_map(|axis| row.entry.labels.get(axis)).collect()).collect();
    if repetitions.iter().any(|labels| !labels.is_empty()) {
        columns.push(counts("seed", numbered(&repetitions).into_iter()));
    }
    let share = |kept: u32, of: u32| f64::from(kept) / f64::from(of.max(1));
    columns.extend([
        texts("selection", points.iter().map(|(_, point)| Some(point.selection.name()))),
        numbers("fraction", points.iter().map(|(_, point)| Some(share(point.budget.kept, point.budget.of)))),
        counts("size", points.iter().map(|(_, point)| u64::from(point.budget.kept))),
        numbers("size_bits", points.iter().map(|(_, point)| Some(point.bits))),
        numbers("size_weighted_edges", points.iter().map(|(_, point)| point.budget.weighted_edges)),
        numbers("faithfulness", points.iter().map(|(_, point)| Some(point.faithfulness.value))),
        numbers("low", points.iter().map(|(_, point)| point.faithfulness.interval.map(|(low, _)| low))),
        numbers("high", points.iter().map(|(_, point)| point.faithfulness.interval.map(|(_, high)| high))),
        numbers("own", points.iter().map(|(_, point)| Some(point.own))),
        numbers("completeness", points.iter().map(|(_, point)| point.completeness)),
        numbers("random_low", points.iter().map(|(_, point)| point.random.map(|(low, ..)| low))),
        numbers("random_high", points.iter().map(|(_, point)| point.random.map(|(_, high, _)| high))),
        numbers("random_mean", points.iter().map(|(_, point)| point.random.map(|(.., mean)| mean))),
    ]);
    let description = "F of the sets that each search chooses; `own` from the family's own nothing to its own everything, `completeness` F of everything else, \
                       `random_low` to `random_high` the central 95 percent of random sets of that size.";
    write(artifact, columns, "Faithfulness", description)
}

/// A number for each repetition: its seed where one axis has whole numbers, else its place among the different ones.
fn numbered(repetitions: &[Vec<&String>]) -> Vec<u64> {
    let seeds: Option<Vec<u64>> = repetitions
        .iter()
        .map(|labels| match labels[..] {
            [label] => label.parse().ok(),
            _ => None,
        })
        .collect();
    let different: BTreeSet<_> = repetitions.iter().collect();
    let place = |labels: &Vec<&String>| different.iter().take_while(|other| **other < labels).count() as u64;
    seeds.unwrap_or_else(|| repetitions.iter().map(place).collect())
}

/// One row two searches.
pub(super) fn write_differences(
    artifact: ArtifactWriter,
    standings: &[Standing<'_>],
    differences: &[Difference],
) -> Result<(), StageError> {
    let name = |place: fn(&Difference) -> usize| -> Vec<String> {
        differences.iter().map(|difference| standings[place(difference)].entry.name()).collect()
    };
    let (a, b) = (name(|difference| difference.a), name(|difference| difference.b));
    let columns = vec![
        texts("a", a.iter().map(|name| Some(name.as_str()))),
        texts("b", b.iter().map(|name| Some(name.as_str()))),
        numbers("cpr_difference", differences.iter().map(|difference| Some(difference.value))),
        numbers("low", differences.iter().map(|difference| difference.interval.map(|(low, _)| low))),
        numbers("high", differences.iter().map(|difference| difference.interval.map(|(_, high)| high))),
        numbers("p", differences.iter().map(|difference| Some(difference.p))),
        numbers("p_holm", differences.iter().map(|difference| Some(difference.p_holm))),
    ];
    let description = "CPR (signed selection) of `a` less that of `b` on one model and the same prompts: paired bootstrap, two-sided p, and p after Holm's correction over all rows.";
    write(artifact, columns, "Differences", description)
}

/// One row a search, over the axes of seeds.
pub(super) fn write_spread(
    artifact: ArtifactWriter,
    axes: &[&str],
    seeds: &[String],
    standings: &[Standing<'_>],
) -> Result<(), StageError> {
    let plain: Vec<&str> = axes.iter().copied().filter(|axis| !seeds.iter().any(|seed| seed == axis)).collect();
    let mut groups: Vec<(Vec<Option<&String>>, Vec<&Standing<'_>>)> = Vec::new();
    for standing in standings {
        let entry = standing.entry;
        let mut key: Vec<Option<&String>> = plain.iter().map(|axis| entry.labels.get(*axis)).collect();
        key.extend([Some(&entry.mediator), Some(&entry.search)]);
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, members)) => members.push(standing),
            None => groups.push((key, vec![standing])),
        }
    }
    let cpr = |members: &[&Standing<'_>]| -> Vec<f64> {
        let cpr = members.iter().filter_map(|standing| standing.areas_of(Selection::Signed));
        cpr.map(|areas| areas.cpr.value).collect()
    };
    let values: Vec<Vec<f64>> = groups.iter().map(|(_, members)| cpr(members)).collect();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let deviation = |values: &[f64]| {
        let (mean, freedom) = (mean(values), values.len() as f64 - 1.0);
        (freedom > 0.0).then(|| (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / freedom).sqrt())
    };
    let firsts: Vec<&Standing<'_>> = groups.iter().filter_map(|(_, members)| members.first().copied()).collect();
    let mut columns = labelled(&plain, &firsts);
    columns.extend([
        counts("runs", values.iter().map(|values| values.len() as u64)),
        numbers("cpr_signed_mean", values.iter().map(|values| Some(mean(values)))),
        numbers("cpr_signed_sd", values.iter().map(|values| deviation(values))),
        numbers("cpr_signed_min", values.iter().map(|values| values.iter().copied().reduce(f64::min))),
        numbers("cpr_signed_max", values.iter().map(|values| values.iter().copied().reduce(f64::max))),
    ]);
    write(
        artifact,
        columns,
        "Spread over seeds",
        "CPR of each search over the axes of `seeds`; the deviation is that of a sample.",
    )
}

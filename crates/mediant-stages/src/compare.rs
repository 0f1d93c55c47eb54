//! `compare`: metrics of many instances in one table.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{Field, Schema};
use mediant_artifact::{ArtifactWriter, Facts, Kind, TableFacts, TableMeta, read_metrics, write_table};
use mediant_engine::{Docs, InputFacts, Output, Port, Ports, Problems, RunContext, SourcePaths, Stage, StageError};
use mediant_methods::compare::{Cell, Comparison, Direction, Group, Instance, Options, compare};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct Compare;

/// Options of `compare`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The metrics to show, in this order; by default all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    metrics: Vec<String>,
    /// Axes whose instances become a mean and a standard deviation.
    #[serde(default = "seeds")]
    average_over: Vec<String>,
    /// Which values of a metric are better, where that is not known: `higher` or `lower`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    directions: BTreeMap<String, Direction>,
}

fn seeds() -> Vec<String> {
    vec!["seed".to_owned()]
}

const PORTS: &[Port] = &[Port::many("metrics", &[Kind::Metrics], "The metrics of every instance.")];

impl Stage for Compare {
    type Config = Config;
    const NAME: &'static str = "compare";
    const VERSION: u32 = 2;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Metrics of many instances in one table, with the spread over seeds and the best marked",
            details: DETAILS,
            example: "compare:\n  uses: compare\n  inputs: { metrics: eval }\n  with: { metrics: [l0, ev_mc, ce_score] }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![
            Output::new("table", Kind::Table, "One row an instance, one column a metric."),
            Output::new("summary", Kind::Table, "One row an instance and metric, always with the same columns."),
        ]
    }

    fn infer(&self, _: &Config, _: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let summary = SUMMARY.iter().map(|column| (*column).to_owned()).collect();
        Ok(vec![
            ("table".to_owned(), Facts::Table(TableFacts { columns: None })),
            ("summary".to_owned(), Facts::Table(TableFacts { columns: Some(summary) })),
        ])
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let mut instances = Vec::new();
        for member in cx.members("metrics")? {
            let name = member.name.map(|name| ("instance".to_owned(), name));
            let labels = name.into_iter().chain(member.labels).collect();
            instances.push(Instance { labels, metrics: read_metrics(&member.artifact)? });
        }
        let Config { metrics, average_over, directions } = cx.config();
        let options =
            Options { average_over: average_over.clone(), metrics: metrics.clone(), directions: directions.clone() };
        let comparison = compare(&instances, &options)?;
        write(cx.output("table")?, table(&comparison), "Metrics of every instance.")?;
        write(cx.output("summary")?, summary(&comparison, &options), "Metrics of every instance, one a row.")
    }
}

type Column = (String, ArrayRef);

fn write(artifact: ArtifactWriter, columns: Vec<Column>, description: &str) -> Result<(), StageError> {
    // Nullable whether or not there are nulls: the schema does not depend on the data.
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(name, array.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(schema.clone(), columns.into_iter().map(|(_, array)| array).collect())?;
    let meta = TableMeta { title: "Comparison".to_owned(), description: description.to_owned() };
    write_table(artifact, schema, [Ok(batch)], &meta)?;
    Ok(())
}

/// One row a group: its labels, each metric's mean, its standard deviation where there are several runs, how many there
/// are, and what the group is best at.
fn table(comparison: &Comparison) -> Vec<Column> {
    let Comparison { axes, metrics, groups } = comparison;
    let mut columns: Vec<Column> = axes
        .iter()
        .enumerate()
        .map(|(i, axis)| (axis.clone(), strings(groups.iter().map(|group| group.labels[i].clone()))))
        .collect();
    for (i, metric) in metrics.iter().enumerate() {
        let numbers = |get: fn(&Cell) -> Option<f64>| -> ArrayRef {
            Arc::new(groups.iter().map(|group| group.cells[i].as_ref().and_then(get)).collect::<Float64Array>())
        };
        columns.push((metric.clone(), numbers(|cell| Some(cell.mean))));
        if groups.iter().filter_map(|group| group.cells[i].as_ref()).any(|cell| cell.sd.is_some()) {
            columns.push((format!("{metric}_sd"), numbers(|cell| cell.sd)));
        }
    }
    let runs = groups.iter().map(|group| group.cells.iter().flatten().map(|cell| cell.runs).max().unwrap_or(0));
    columns.push(("runs".to_owned(), Arc::new(UInt64Array::from_iter_values(runs))));
    let best = |group: &Group| {
        let best = metrics.iter().zip(&group.cells).filter(|(_, cell)| cell.as_ref().is_some_and(|cell| cell.best));
        best.map(|(metric, _)| metric.as_str()).collect::<Vec<_>>().join(", ")
    };
    columns.push(("best".to_owned(), strings(groups.iter().map(|group| Some(best(group))))));
    columns
}

const SUMMARY: [&str; 13] =
    ["instance", "metric", "unit", "better", "runs", "mean", "sd", "min", "max", "items", "low", "high", "best"];

fn summary(comparison: &Comparison, options: &Options) -> Vec<Column> {
    let Comparison { axes, metrics, groups } = comparison;
    let rows: Vec<(String, &String, &Cell)> = groups
        .iter()
        .flat_map(|group| {
            let cells = metrics.iter().zip(&group.cells);
            cells.filter_map(|(metric, cell)| Some((instance(axes, group), metric, cell.as_ref()?)))
        })
        .collect();
    let number = |get: fn(&Cell) -> Option<f64>| -> ArrayRef {
        Arc::new(rows.iter().map(|(.., cell)| get(cell)).collect::<Float64Array>())
    };
    let count = |get: fn(&Cell) -> u64| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|(.., cell)| get(cell))))
    };
    let arrays: [ArrayRef; 13] = [
        strings(rows.iter().map(|(instance, ..)| Some(instance.clone()))),
        strings(rows.iter().map(|(_, metric, _)| Some((*metric).clone()))),
        strings(rows.iter().map(|(.., cell)| Some(cell.unit.clone()))),
        strings(
            rows.iter().map(|(_, metric, _)| options.direction(metric).map(|direction| direction.name().to_owned())),
        ),
        count(|cell| cell.runs),
        number(|cell| Some(cell.mean)),
        number(|cell| cell.sd),
        number(|cell| Some(cell.min)),
        number(|cell| Some(cell.max)),
        count(|cell| cell.items),
        number(|cell| cell.interval.map(|(low, _)| low)),
        number(|cell| cell.interval.map(|(_, high)| high)),
        Arc::new(BooleanArray::from(rows.iter().map(|(.., cell)| cell.best).collect::<Vec<_>>())),
    ];
    SUMMARY.iter().map(|name| (*name).to_owned()).zip(arrays).collect()
}

/// `name=topk16,width=2048`.
fn instance(axes: &[String], group: &Group) -> String {
    let labels = axes.iter().zip(&group.labels).filter_map(|(axis, label)| Some(format!("{axis}={}", label.as_ref()?)));
    labels.collect::<Vec<_>>().join(",")
}

fn strings(values: impl Iterator<Item = Option<String>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

const DETAILS: &str = "\
Instances that differ only on the axes of `average_over` are one row: the mean of each metric, and `METRIC_sd`, the sample standard deviation \
over them (`runs` says how many). `best` names the metrics at which no other row has a better mean. Better is higher for `ev_mc`, `cossim`, \
`ce_score`, `ce_score_mean`, `kl_score`, `kl_score_mean`, `accuracy`, `auc`, `mcc`, `f1` and `uniqueness`, lower for `mse`, `nmse`, \
`dead_fraction`, `ce_sae`, `kl_sae`, `ce_loss` and `perplexity`; of other metrics nothing is best unless `directions` says what is.

A metric that occurs several times in one instance is told apart by the tags in which its rows differ: `accuracy[task=agreement]`.

The output `summary` holds the same with one row an instance and metric: `instance`, `metric`, `unit`, `better` (higher, lower or null), \
`runs`, `mean`, `sd`, `min`, `max`, `items` (what the metric was computed from), `low` and `high` (the interval, of a single run), `best`.";

//! Metrics as a table.

use std::collections::BTreeSet;

use mediant_artifact::MetricRow;

use crate::table::{Cell, TextTable};

/// One row a metric: name, value, unit, n and interval; seed, split, numerator, denominator and tags where any metric has
/// them. The first `limit` metrics, and how many more there are.
pub fn metrics_table(metrics: &[MetricRow], limit: usize) -> TextTable {
    let all = metrics.len() as u64;
    let metrics = &metrics[..metrics.len().min(limit)];
    const FIXED: [&str; 5] = ["metric", "value", "unit", "n", "interval"];
    let tags: BTreeSet<&str> = metrics.iter().flat_map(|m| m.tags.keys().map(String::as_str)).collect();
    let columns = ["metric"].into_iter().chain(tags.iter().copied());
    let columns = columns.chain(["value", "unit", "n", "interval", "seed", "split", "numerator", "denominator"]);
    let mut table = TextTable::new(columns);
    for metric in metrics {
        let tag = |name: &&str| Cell::or_empty(metric.tags.get(*name), Cell::text);
        let unit = if metric.unit == "1" { Cell::Empty } else { Cell::text(&metric.unit) };
        let mut row = vec![Cell::text(&metric.name)];
        row.extend(tags.iter().map(tag));
        row.extend([
            Cell::Float(metric.value),
            unit,
            Cell::Count(metric.n),
            Cell::or_empty(metric.low.zip(metric.high), |(low, high)| Cell::Interval(low, high)),
            Cell::or_empty(metric.seed, |seed| Cell::Int(seed.into())),
            Cell::or_empty(metric.split.as_ref(), Cell::text),
            Cell::or_empty(metric.numerator, Cell::Float),
            Cell::or_empty(metric.denominator, Cell::Float),
        ]);
        table.push(row);
    }
    super::rows::more(&mut table, all, "metric");
    table.without_empty_columns(&FIXED)
}

//! Metrics: a sorted table, values with their intervals, fronts.

use std::collections::{BTreeMap, BTreeSet};

use mediant_artifact::{MetricRow, read_metrics};

use super::{Member, artifacts};
use crate::error::Result;
use crate::number::count;
use crate::report::document::{Block, Data, Figure, Sheet};
use crate::report::plot::{AxisName, Mark, Point, Row, intervals, scatter};
use crate::report::series::{short, short_names};
use crate::table::{Cell, TextTable};

/// Rows of the table, of one picture, and pictures at once and on request.
const MOST_ROWS: usize = 200;
const MOST_MARKS: usize = 24;
const MOST_OPEN: usize = 6;
const MOST_PICTURES: usize = 100;
/// Pictures of one metric.
const MOST_PARTS: usize = 8;

/// What is traded against what: less of the first, more of the second.
const FRONTS: [(&str, &str); 2] = [("l0", "ce_score"), ("l0", "ev_mc")];

/// A metric of a member.
struct Named {
    member: usize,
    row: MetricRow,
    /// Axes, tags and split.
    labels: BTreeMap<String, String>,
}

pub(super) fn blocks(members: &[Member<'_>]) -> Result<Vec<Block>> {
    let rows = read(members)?;
    let labels = Labels::of(&rows.iter().collect::<Vec<_>>());
    let mut blocks = Vec::new();
    if !labels.constant.is_empty() {
        let all = labels.constant.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>();
        blocks.push(Block::Text(format!("Wherever it applies, {}.", all.join("; "))));
    }
    let fronts: Vec<Figure> = FRONTS.iter().filter_map(|(x, y)| front(members, &rows, x, y)).collect();
    if !fronts.is_empty() {
        blocks.push(Block::Figures(fronts));
    }
    let mut pictures = pictures(members, &rows);
    let more = pictures.split_off(pictures.len().min(MOST_OPEN));
    if !pictures.is_empty() {
        blocks.push(Block::Figures(pictures));
    }
    if !more.is_empty() {
        blocks.push(Block::Folded(format!("{} more pictures", more.len()), vec![Block::Figures(more)]));
    }
    let sheet = Block::Sheet(sheet(members, &rows, &labels));
    blocks.push(if rows.len() > 40 {
        Block::Folded(format!("Table of {} metrics", count(rows.len() as u64)), vec![sheet])
    } else {
        sheet
    });
    Ok(blocks)
}

/// All metrics: the first of every member, then the second, and so on, since what is written first matters most.
fn read(members: &[Member<'_>]) -> Result<Vec<Named>> {
    let mut rows: Vec<(usize, Named)> = Vec::new();
    for (number, member) in members.iter().enumerate() {
        for (place, row) in read_metrics(member.artifact)?.into_iter().enumerate() {
            let mut labels = row.tags.clone();
            labels.extend(row.split.iter().map(|split| ("split".to_owned(), split.clone())));
            labels.extend(member.axes.iter().cloned());
            rows.push((place, Named { member: number, row, labels }));
        }
    }
    rows.sort_by_key(|(place, _)| *place);
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

/// Which labels tell rows apart, and which are the same wherever they occur.
struct Labels {
    varying: Vec<String>,
    constant: Vec<(String, String)>,
}

impl Labels {
    fn of(rows: &[&Named]) -> Self {
        let names: BTreeSet<&String> = rows.iter().flat_map(|named| named.labels.keys()).collect();
        let mut metrics: BTreeMap<&str, Vec<&Named>> = BTreeMap::new();
        for named in rows {
            metrics.entry(&named.row.name).or_default().push(named);
        }
        let (mut varying, mut constant) = (Vec::new(), Vec::new());
        for name in names {
            let values: BTreeSet<&String> = rows.iter().filter_map(|named| named.labels.get(name)).collect();
            // A label that some rows of a metric have and others lack tells them apart too.
            let partly = metrics.values().any(|rows| {
                let with = rows.iter().filter(|named| named.labels.contains_key(name)).count();
                with > 0 && with < rows.len()
            });
            match values.first() {
                Some(value) if values.len() == 1 && !partly => constant.push((name.clone(), (*value).clone())),
                _ => varying.push(name.clone()),
            }
        }
        Self { varying, constant }
    }

    /// `ioi, held_out`, `k=4, seed=0`: words speak for themselves, numbers do not.
    fn words(&self, named: &Named) -> Vec<String> {
        let part = |name: &String| {
            let value = named.labels.get(name)?;
            let word = value.starts_with(char::is_alphabetic) && value.parse::<bool>().is_err();
            Some(if word { short(value) } else { format!("{name}={value}") })
        };
        // What the split is says least.
        let (split, others): (Vec<&String>, Vec<&String>) = self.varying.iter().partition(|name| *name == "split");
        others.into_iter().chain(split).filter_map(part).collect()
    }
}

fn interval(row: &MetricRow) -> Option<(f64, f64)> {
    row.low.zip(row.high)
}

/// The names of metrics, in the order of their first.
fn names(rows: &[Named]) -> Vec<&str> {
    let mut known = BTreeSet::new();
    rows.iter().map(|named| named.row.name.as_str()).filter(|name| known.insert(*name)).collect()
}

/// Larger values first, those that are no numbers last.
fn descending(a: f64, b: f64) -> std::cmp::Ordering {
    a.is_nan().cmp(&b.is_nan()).then(b.total_cmp(&a))
}

fn sheet(members: &[Member<'_>], rows: &[Named], labels: &Labels) -> Sheet {
    let order: BTreeMap<&str, usize> = names(rows).into_iter().enumerate().map(|(i, name)| (name, i)).collect();
    let mut first: Vec<&Named> = rows.iter().take(MOST_ROWS).collect();
    first.sort_by(|a, b| {
        order[a.row.name.as_str()].cmp(&order[b.row.name.as_str()]).then(descending(a.row.value, b.row.value))
    });
    let columns = |rest: &[&str]| -> Vec<String> {
        let varying = labels.varying.iter().cloned();
        ["metric".to_owned()].into_iter().chain(varying).chain(rest.iter().map(|name| (*name).to_owned())).collect()
    };
    let labelled = |named: &Named| -> Vec<Cell> {
        let varying = labels.varying.iter().map(|name| Cell::or_empty(named.labels.get(name), Cell::text));
        [Cell::text(&named.row.name)].into_iter().chain(varying).collect()
    };
    let unit = |row: &MetricRow| if row.unit == "1" { Cell::Empty } else { Cell::text(&row.unit) };
    let fraction = |row: &MetricRow| [row.numerator, row.denominator].map(|part| Cell::or_empty(part, Cell::Float));
    let mut shown = TextTable::new(columns(&["value", "interval", "unit", "n", "numerator", "denominator"]));
    for named in &first {
        let row = &named.row;
        let ends = Cell::or_empty(interval(row), |(low, high)| Cell::Interval(low, high));
        let own = [Cell::Float(row.value), ends, unit(row), Cell::Count(row.n)];
        shown.push(labelled(named).into_iter().chain(own).chain(fraction(row)));
    }
    if first.len() < rows.len() {
        shown.note(format!("the first {} of {} metrics", first.len(), count(rows.len() as u64)));
    }
    let mut data = TextTable::new(columns(&["value", "low", "high", "unit", "n", "numerator", "denominator"]));
    for named in rows {
        let row = &named.row;
        let ends = [row.low, row.high].map(|end| Cell::or_empty(end, Cell::Float));
        let own = [Cell::Float(row.value)].into_iter().chain(ends).chain([Cell::text(&row.unit), Cell::Count(row.n)]);
        data.push(labelled(named).into_iter().chain(own).chain(fraction(row)));
    }
    let shown = shown.without_empty_columns(&["metric", "value"]);
    Sheet { title: "Metrics".to_owned(), shown, data: Data::new(data, artifacts(members), "metrics") }
}

/// Pictures of every metric that has different values.
fn pictures(members: &[Member<'_>], rows: &[Named]) -> Vec<Figure> {
    let mut metrics: BTreeMap<&str, Vec<&Named>> = BTreeMap::new();
    for named in rows {
        metrics.entry(&named.row.name).or_default().push(named);
    }
    let draw = |name| -> Vec<Figure> {
        let rows = &metrics[name];
        let wholes = wholes(rows);
        if wholes.iter().all(|named| named.row.value == wholes[0].row.value) {
            return Vec::new();
        }
        let without = if wholes.len() < rows.len() { ", without parts" } else { "" };
        let draw = |(of, rows): (String, Vec<_>)| picture(members, name, &format!("{of}{without}"), rows);
        divided(wholes).into_iter().filter_map(draw).collect()
    };
    names(rows).into_iter().flat_map(draw).take(MOST_PICTURES).collect()
}

/// Without what is part of a whole that its member has, too: the whole has some of its labels, and no others. All of them where that leaves less than two.
fn wholes<'n>(rows: &[&'n Named]) -> Vec<&'n Named> {
    let mut known: BTreeMap<(usize, Vec<&String>), BTreeSet<Vec<&String>>> = BTreeMap::new();
    for named in rows {
        let labels = (named.member, named.labels.keys().collect());
        known.entry(labels).or_default().insert(named.labels.values().collect());
    }
    let is_part = |named: &Named| {
        let fewer = |member: usize, names: &[&String]| member == named.member && names.len() < named.labels.len();
        known.iter().filter(|((member, names), _)| fewer(*member, names)).any(|((_, names), values)| {
            let own: Option<Vec<&String>> = names.iter().map(|name| named.labels.get(*name)).collect();
            own.is_some_and(|own| values.contains(&own))
        })
    };
    let wholes: Vec<&Named> = rows.iter().filter(|named| !is_part(named)).copied().collect();
    if wholes.len() < 2 { rows.to_vec() } else { wholes }
}

/// The rows of one picture each, with what is said of them in its title: by one label, or by two, where they are too many for one picture.
fn divided<'n>(rows: Vec<&'n Named>) -> Vec<(String, Vec<&'n Named>)> {
    if rows.len() <= MOST_MARKS {
        return vec![(String::new(), rows)];
    }
    let by = |labels: Vec<&String>| {
        let mut parts: BTreeMap<String, Vec<&'n Named>> = BTreeMap::new();
        for named in &rows {
            let of = labels.iter().map(|label| format!(", {label}={}", named.labels[*label])).collect();
            parts.entry(of).or_default().push(named);
        }
        parts
    };
    let mut labels = Labels::of(&rows).varying;
    labels.retain(|label| rows.iter().all(|named| named.labels.contains_key(label)));
    let pairs = labels.iter().enumerate().flat_map(|(place, a)| labels[place + 1..].iter().map(move |b| vec![a, b]));
    let fitting = labels
        .iter()
        .map(|label| vec![label])
        .chain(pairs)
        .map(by)
        .filter(|parts| parts.len() <= MOST_PARTS && parts.values().all(|rows| rows.len() <= MOST_MARKS));
    if let Some(parts) = fitting.min_by_key(BTreeMap::len) {
        return parts.into_iter().collect();
    }
    let of = format!(", {MOST_MARKS} of {} rows", count(rows.len() as u64));
    vec![(of, rows.into_iter().take(MOST_MARKS).collect())]
}

fn picture(members: &[Member<'_>], name: &str, of: &str, mut rows: Vec<&Named>) -> Option<Figure> {
    rows.sort_by(|a, b| descending(a.row.value, b.row.value));
    let labels = Labels::of(&rows);
    let words: Vec<Vec<String>> = rows.iter().map(|row| labels.words(row)).collect();
    let mark = |(name, named): (String, &&Named)| Row::new(name, named.row.value, interval(&named.row));
    let marks: Vec<Row> = short_names(&words).into_iter().zip(&rows).map(mark).collect();
    let title = format!("{name}{of}");
    let axis = AxisName::new(name, &rows[0].row.unit);
    let mut data = TextTable::new([name, "value", "low", "high"]);
    for row in &marks {
        let ends = [row.interval.map(|(low, _)| low), row.interval.map(|(_, high)| high)];
        let ends = ends.map(|end| Cell::or_empty(end, Cell::Float));
        data.push([Cell::text(&row.name), Cell::Float(row.value)].into_iter().chain(ends));
    }
    let drawn: BTreeSet<usize> = rows.iter().map(|named| named.member).collect();
    let artifacts = drawn.into_iter().map(|member| members[member].artifact);
    let what = if labels.varying.is_empty() { "instance".to_owned() } else { labels.varying.join(", ") };
    let picture = intervals(&title, &what, &axis, Mark::Dot, &marks)?;
    Some(Figure { picture, data: Data::new(data, artifacts, "metrics") })
}

/// The members by two of their metrics, where each has one value of both.
fn front(members: &[Member<'_>], rows: &[Named], x: &str, y: &str) -> Option<Figure> {
    let one = |number: usize, name: &str| {
        let mut found = rows.iter().filter(|named| named.member == number && named.row.name == name);
        found.next().filter(|_| found.next().is_none())
    };
    let mut points = Vec::new();
    let (mut x_unit, mut y_unit) = ("", "");
    for (number, member) in members.iter().enumerate().take(super::MOST_MEMBERS) {
        let (Some(a), Some(b)) = (one(number, x), one(number, y)) else { continue };
        (x_unit, y_unit) = (&a.row.unit, &b.row.unit);
        points.push(Point {
            group: member.group(),
            name: member.label(),
            x: a.row.value,
            y: b.row.value,
            interval: interval(&b.row),
        });
    }
    if points.len() < 2 {
        return None;
    }
    let mut data = TextTable::new(["instance", x, y, "low", "high"]);
    for point in &points {
        let ends = [point.interval.map(|(low, _)| low), point.interval.map(|(_, high)| high)];
        let own = [Cell::text(&point.name), Cell::Float(point.x), Cell::Float(point.y)];
        data.push(own.into_iter().chain(ends.map(|end| Cell::or_empty(end, Cell::Float))));
    }
    let picture = scatter(&format!("{y} against {x}"), &AxisName::new(x, x_unit), &AxisName::new(y, y_unit), &points)?;
    Some(Figure { picture, data: Data::new(data, artifacts(members), "metrics") })
}

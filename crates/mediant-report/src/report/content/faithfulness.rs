//! Faithfulness: how much of a metric comes back when a set of items is kept, by the size of the set.

use indexmap::IndexMap;

use super::shapes::{MOST_GROUPS, Tables};
use crate::report::document::{Data, Figure};
use crate::report::plot::{AxisName, Line, Point, Run, lines, scatter};
use crate::report::series::short_names;
use crate::table::{Cell, TextTable};

/// The column of how sets were selected, each in pictures of its own: by signed or by absolute scores.
const SELECTION: &str = "selection";
/// Curves of a picture.
const MOST_CURVES: usize = 24;

/// What tells the rows of one curve from those of others.
#[derive(PartialEq, Eq, Hash)]
struct Told {
    member: usize,
    selection: String,
    words: Vec<String>,
    seed: String,
}

/// The rows of one mediator, method and seed.
#[derive(Clone)]
struct Curve<'t> {
    /// What it shares with those that differ in their seed alone.
    group: String,
    name: String,
    rows: Vec<&'t [Cell]>,
}

impl Tables<'_, '_> {
    /// Of a table with a column `faithfulness`: F against `fraction`, the share of the items that is kept, and against each column
    /// `size` or `size_UNIT`, with the front of what no other set beats. Columns `low` and `high` are its interval.
    pub(super) fn faithfulness(&self) -> Vec<Figure> {
        let Some(f) = self.columns.index("faithfulness") else { return Vec::new() };
        let mut figures = Vec::new();
        for (group, members) in self.groups().into_iter().take(MOST_GROUPS) {
            for (selection, curves) in self.faithful(&members) {
                let mut of = if group.is_empty() { String::new() } else { format!(", {group}") };
                if !selection.is_empty() {
                    of.push_str(&format!(", {SELECTION}={selection}"));
                }
                if curves.len() > MOST_CURVES {
                    of.push_str(&format!(", {MOST_CURVES} of {} curves", curves.len()));
                }
                let curves = &curves[..curves.len().min(MOST_CURVES)];
                figures.extend(self.by_fraction(f, &of, &members, curves));
                for (place, unit) in self.sizes() {
                    figures.extend(self.by_size(f, (place, &unit), &of, &members, curves));
                }
            }
        }
        figures
    }

    /// The curves of these members by selection, where that varies: told apart by what else varies in their texts, and by `seed`.
    fn faithful(&self, members: &[usize]) -> IndexMap<String, Vec<Curve<'_>>> {
        let (texts, seed) = (self.varying(), self.columns.index("seed"));
        let (selection, texts): (Vec<usize>, Vec<usize>) =
            texts.into_iter().partition(|place| self.columns.name(*place) == SELECTION);
        let mut curves: IndexMap<Told, Vec<&[Cell]>> = IndexMap::new();
        for number in members {
            for row in &self.rows[*number] {
                let selection = selection.first().map_or(String::new(), |place| row[*place].shown());
                let words = texts.iter().map(|place| row[*place].shown()).filter(|text| !text.is_empty()).collect();
                let seed = seed.map_or(String::new(), |place| row[place].shown());
                curves.entry(Told { member: *number, selection, words, seed }).or_default().push(row);
            }
        }
        let groups = short_names(&curves.keys().map(|told| told.words.clone()).collect::<Vec<_>>());
        let mut by_selection: IndexMap<String, Vec<Curve<'_>>> = IndexMap::new();
        for ((Told { selection, seed, .. }, rows), group) in curves.into_iter().zip(groups) {
            let name = if seed.is_empty() { group.clone() } else { format!("{group}, seed={seed}") };
            by_selection.entry(selection).or_default().push(Curve { group, name, rows });
        }
        // What was not selected so or so, such as random items, stands beside all selections.
        if by_selection.len() > 1
            && let Some(others) = by_selection.shift_remove("")
        {
            by_selection.values_mut().for_each(|curves| curves.extend(others.iter().cloned()));
        }
        by_selection
    }

    /// Columns of sizes with their units.
    fn sizes(&self) -> Vec<(usize, String)> {
        let unit = |name: &str| {
            if name == "size" { Some("items".to_owned()) } else { Some(name.strip_prefix("size_")?.replace('_', " ")) }
        };
        self.columns.numbers().into_iter().filter_map(|place| Some((place, unit(self.columns.name(place))?))).collect()
    }

    fn by_fraction(&self, f: usize, of: &str, members: &[usize], curves: &[Curve<'_>]) -> Option<Figure> {
        let x = self.columns.index("fraction")?;
        let line = |curve: &Curve<'_>| {
            let mut points: Vec<(f64, f64)> = Vec::new();
            let mut band: Vec<(f64, f64, f64)> = Vec::new();
            for row in &curve.rows {
                let Some((at, value)) = row[x].number().zip(row[f].number()) else { continue };
                points.push((at, value));
                band.extend(self.interval(row).map(|(low, high)| (at, low, high)));
            }
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            band.sort_by(|a, b| a.0.total_cmp(&b.0));
            Line { group: curve.group.clone(), points, band }
        };
        let drawn: Vec<Line> = curves.iter().map(line).collect();
        let axis = AxisName::new("share of the items that is kept", "");
        let picture = lines(&format!("Faithfulness{of}"), &axis, &name(), Run::Linear, &drawn)?;
        Some(Figure { picture, data: self.faithfulness_data((f, x), members, curves) })
    }

    fn by_size(
        &self,
        f: usize,
        (x, unit): (usize, &str),
        of: &str,
        members: &[usize],
        curves: &[Curve<'_>],
    ) -> Option<Figure> {
        let point = |curve: &Curve<'_>, row: &[Cell]| {
            // The axis may be logarithmic: the empty set, whose F is 0, has no place on it.
            let (x, y) = row[x].number().filter(|size| *size > 0.0).zip(row[f].number())?;
            Some(Point { group: curve.group.clone(), name: curve.name.clone(), x, y, interval: self.interval(row) })
        };
        let points = curves.iter().flat_map(|curve| curve.rows.iter().filter_map(|row| point(curve, row)));
        let points: Vec<Point> = points.collect();
        let title = format!("Faithfulness against size in {unit}{of}");
        let picture = scatter(&title, &AxisName::new("size", unit), &name(), &points)?;
        Some(Figure { picture, data: self.faithfulness_data((f, x), members, curves) })
    }

    fn interval(&self, row: &[Cell]) -> Option<(f64, f64)> {
        row[self.columns.index("low")?].number().zip(row[self.columns.index("high")?].number())
    }

    fn faithfulness_data(&self, (f, x): (usize, usize), members: &[usize], curves: &[Curve<'_>]) -> Data {
        let mut data = TextTable::new(["curve", self.columns.name(x), "faithfulness", "low", "high"]);
        for curve in curves {
            for row in &curve.rows {
                let ends = self.interval(row);
                let ends = [ends.map(|(low, _)| low), ends.map(|(_, high)| high)];
                let ends = ends.map(|end| Cell::or_empty(end, Cell::Float));
                data.push([Cell::text(&curve.name), row[x].clone(), row[f].clone()].into_iter().chain(ends));
            }
        }
        let data = data.without_empty_columns(&["faithfulness"]);
        Data::new(data, members.iter().map(|number| self.members[*number].artifact), "rows")
    }
}

fn name() -> AxisName {
    AxisName::new("faithfulness F", "")
}

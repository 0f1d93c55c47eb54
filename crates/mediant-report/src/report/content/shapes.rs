//! Which pictures a table allows: its columns tell.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use mediant_artifact::Artifact;

use super::{Member, artifacts, pictured};
use crate::error::Result;
use crate::report::document::{Block, Data, Figure};
use crate::report::plot::{AxisName, Bins, Cloud, Line, clouds, histogram, lines};
use crate::show::rows::read;
use crate::table::{Cell, TextTable};

/// Rows of a member that are read for a picture, and points of a cloud that are drawn.
const MOST_READ: usize = 20_000;
const MOST_POINTS: usize = 300;
/// Histograms of columns, and the fewest rows that make one.
const MOST_HISTOGRAMS: usize = 4;
const FEWEST_ROWS: usize = 30;
/// Clouds stand side by side, one a group.
const MOST_CLOUDS: usize = 8;

/// The pictures of a table whose members have the same columns.
pub(super) fn pictures(title: &str, members: &[Member<'_>]) -> Result<Vec<Figure>> {
    // What is left out is said by the table below, which counts all.
    let members = pictured(members, &mut Vec::<Block>::new());
    let Some(first) = members.first() else { return Ok(Vec::new()) };
    let columns = Columns::of(first.artifact)?;
    if columns.floats().is_empty() {
        return Ok(Vec::new());
    }
    let mut tables = Vec::with_capacity(members.len());
    for member in members {
        tables.push(read(member.artifact, "rows", MOST_READ)?.1);
    }
    let table = Tables { title, members, columns, rows: tables };
    if let Some(figure) = table.density() {
        return Ok(vec![figure]);
    }
    let found = table.zf();
    if !found.is_empty() {
        return Ok(found);
    }
    let found = table.curves();
    Ok(if found.is_empty() { table.histograms() } else { found })
}

/// Names and types of columns.
pub(super) struct Columns(Vec<(String, DataType)>);

impl Columns {
    fn of(artifact: &Artifact) -> Result<Self> {
        let schema = artifact.batches("rows")?.schema()?;
        Ok(Self(schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect()))
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|(known, _)| known == name)
    }

    /// Columns of floats, by their places.
    fn floats(&self) -> Vec<usize> {
        let float = |(_, data_type): &(String, DataType)| data_type.is_floating();
        self.0.iter().enumerate().filter(|(_, column)| float(column)).map(|(place, _)| place).collect()
    }

    fn name(&self, place: usize) -> &str {
        &self.0[place].0
    }
}

struct Tables<'m, 'a> {
    title: &'m str,
    members: &'m [Member<'a>],
    columns: Columns,
    /// The rows of each member.
    rows: Vec<Vec<Vec<Cell>>>,
}

impl Tables<'_, '_> {
    fn data(&self, rows: TextTable) -> Data {
        Data::new(rows, artifacts(self.members), "rows")
    }

    /// Counts by bins that the table has itself: columns `low`, `high` and a count.
    fn density(&self) -> Option<Figure> {
        let (low, high) = (self.columns.index("low")?, self.columns.index("high")?);
        let (what, _) = self.columns.0.iter().enumerate().find(|(_, (_, of))| of.is_integer())?;
        let texts: Vec<usize> =
            (0..self.columns.0.len()).filter(|place| self.columns.0[*place].1 == DataType::Utf8).collect();
        let mut all: Vec<Bins> = Vec::new();
        let mut data = TextTable::new(["series", "low", "high", self.columns.name(what)]);
        let several = self
            .rows
            .iter()
            .any(|rows| texts.iter().any(|place| rows.iter().any(|row| row[*place] != rows[0][*place])));
        for (member, rows) in self.members.iter().zip(&self.rows) {
            let mut series: BTreeMap<String, Bins> = BTreeMap::new();
            for row in rows {
                let own = texts.iter().filter(|_| several).map(|place| row[*place].shown());
                let group = [member.group()].into_iter().chain(own).filter(|part| !part.is_empty());
                let group = group.collect::<Vec<_>>().join(", ");
                data.push([Cell::text(&group), row[low].clone(), row[high].clone(), row[what].clone()]);
                let bins = series.entry(group.clone()).or_insert_with(|| Bins { group, bins: Vec::new(), outside: 0 });
                let n = row[what].number().unwrap_or(0.0).max(0.0) as u64;
                match (row[low].number(), row[high].number()) {
                    (Some(low), Some(high)) => bins.bins.push((low, high, n)),
                    _ => bins.outside += n,
                }
            }
            all.extend(series.into_values());
        }
        // The one histogram that stages write now; another table's bins are of whatever its title says.
        let latents = self.columns.name(what) == "latents";
        let x =
            if latents { AxisName::new("log10 of the share of positions", "") } else { AxisName::new(self.title, "") };
        let picture = histogram(
            self.title,
            &x,
            [self.columns.name(what), if latents { "never active" } else { "in no bin" }],
            &all,
        )?;
        Some(Figure { picture, data: self.data(data) })
    }

    /// Norms of codes against norms of inputs, a cloud for each group.
    fn zf(&self) -> Vec<Figure> {
        let (Some(z), Some(f)) = (self.columns.index("z_norm"), self.columns.index("f_norm")) else {
            return Vec::new();
        };
        let mut groups: Vec<(String, Vec<usize>)> = Vec::new();
        for (number, member) in self.members.iter().enumerate() {
            match groups.iter_mut().find(|(group, _)| *group == member.group()) {
                Some((_, members)) => members.push(number),
                None => groups.push((member.group(), vec![number])),
            }
        }
        let figure = |(group, numbers): &(String, Vec<usize>)| {
            let mut data = TextTable::new(["instance", "z_norm", "f_norm"]);
            let mut all = Vec::new();
            for number in numbers {
                let rows = &self.rows[*number];
                let stride = rows.len().div_ceil(MOST_POINTS).max(1);
                let mut points = Vec::new();
                for row in rows.iter().step_by(stride) {
                    points.extend(row[z].number().zip(row[f].number()));
                    data.push([self.members[*number].cell(), row[z].clone(), row[f].clone()]);
                }
                all.push(Cloud { group: self.members[*number].label(), points });
            }
            let title = if group.is_empty() { "ZF plot".to_owned() } else { format!("ZF plot, {group}") };
            let (x, y) = (
                AxisName::new("‖z‖, norm of what the latents are to make", ""),
                AxisName::new("‖f‖, norm of the code", ""),
            );
            let artifacts = numbers.iter().map(|number| self.members[*number].artifact);
            Some(Figure { picture: clouds(&title, &x, &y, &all)?, data: Data::new(data, artifacts, "rows") })
        };
        groups.iter().take(MOST_CLOUDS).filter_map(figure).collect()
    }

    /// What changes with `step`, the first column.
    fn curves(&self) -> Vec<Figure> {
        if self.columns.name(0) != "step" {
            return Vec::new();
        }
        let curve = |place: usize| {
            let name = self.columns.name(place);
            let mut data = TextTable::new(["instance", "step", name]);
            let mut drawn = Vec::new();
            for (member, rows) in self.members.iter().zip(&self.rows) {
                let points = rows.iter().filter_map(|row| row[0].number().zip(row[place].number())).collect();
                drawn.push(Line { group: member.group(), points });
                for row in rows.iter().filter(|row| row[place] != Cell::Empty) {
                    data.push([member.cell(), row[0].clone(), row[place].clone()]);
                }
            }
            // Losses are in nats throughout.
            let unit = if name.ends_with("loss") { "nats" } else { "" };
            let (x, y) = (AxisName::new("step", "updates"), AxisName::new(name, unit));
            Some(Figure { picture: lines(&format!("{}: {name}", self.title), &x, &y, &drawn)?, data: self.data(data) })
        };
        self.columns.floats().into_iter().filter_map(curve).collect()
    }

    /// How the values of columns are spread.
    fn histograms(&self) -> Vec<Figure> {
        if self.rows.iter().map(Vec::len).sum::<usize>() < FEWEST_ROWS {
            return Vec::new();
        }
        let spread = |place: usize| {
            let name = self.columns.name(place);
            let values =
                |rows: &Vec<Vec<Cell>>| rows.iter().filter_map(|row| row[place].number()).collect::<Vec<f64>>();
            let values: Vec<Vec<f64>> = self.rows.iter().map(values).collect();
            let edges = Bins::edges(values.iter().flatten().copied())?;
            let mut data = TextTable::new(["instance", "low", "high", "rows"]);
            let mut all = Vec::new();
            for (member, values) in self.members.iter().zip(&values) {
                let bins = Bins::of(&member.group(), values, &edges);
                for (low, high, n) in &bins.bins {
                    data.push([member.cell(), Cell::Float(*low), Cell::Float(*high), Cell::Count(*n)]);
                }
                all.push(bins);
            }
            let picture =
                histogram(&format!("{}: {name}", self.title), &AxisName::new(name, ""), ["rows", "not finite"], &all)?;
            Some(Figure { picture, data: self.data(data) })
        };
        self.columns.floats().into_iter().filter_map(spread).take(MOST_HISTOGRAMS).collect()
    }
}

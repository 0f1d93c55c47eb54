//! Which pictures a table allows: its columns tell.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use indexmap::IndexMap;
use mediant_artifact::Artifact;

use super::{Member, artifacts, pictured};
use crate::error::Result;
use crate::report::document::{Block, Data, Figure};
use crate::report::plot::{AxisName, Bins, Cloud, Line, Run, clouds, histogram, lines};
use crate::show::rows::read;
use crate::table::{Cell, TextTable};

/// Rows of a member that are read for a picture, and points of a cloud that are drawn.
const MOST_READ: usize = 20_000;
const MOST_POINTS: usize = 300;
/// Histograms of columns, and the fewest rows that make one.
const MOST_HISTOGRAMS: usize = 4;
const FEWEST_ROWS: usize = 30;
/// ZF plots and faithfulness curves stand side by side, one a group.
pub(super) const MOST_GROUPS: usize = 8;

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
    let found = table.faithfulness();
    if !found.is_empty() {
        return Ok(found);
    }
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

    pub(super) fn index(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|(known, _)| known == name)
    }

    /// Columns of floats, by their places.
    fn floats(&self) -> Vec<usize> {
        let float = |(_, data_type): &(String, DataType)| data_type.is_floating();
        self.0.iter().enumerate().filter(|(_, column)| float(column)).map(|(place, _)| place).collect()
    }

    /// Columns of numbers, by their places.
    pub(super) fn numbers(&self) -> Vec<usize> {
        (0..self.0.len()).filter(|place| self.0[*place].1.is_numeric()).collect()
    }

    pub(super) fn name(&self, place: usize) -> &str {
        &self.0[place].0
    }
}

pub(super) struct Tables<'m, 'a> {
    title: &'m str,
    pub(super) members: &'m [Member<'a>],
    pub(super) columns: Columns,
    /// The rows of each member.
    pub(super) rows: Vec<Vec<Vec<Cell>>>,
}

impl Tables<'_, '_> {
    fn data(&self, rows: TextTable) -> Data {
        Data::new(rows, artifacts(self.members), "rows")
    }

    /// Members that differ in their seed alone, by what they share.
    pub(super) fn groups(&self) -> Vec<(String, Vec<usize>)> {
        let mut groups: IndexMap<String, Vec<usize>> = IndexMap::new();
        for (number, member) in self.members.iter().enumerate() {
            groups.entry(member.group()).or_default().push(number);
        }
        groups.into_iter().collect()
    }

    /// Columns of texts that tell the rows of a member apart.
    pub(super) fn varying(&self) -> Vec<usize> {
        let varies = |place: usize| self.rows.iter().any(|rows| rows.iter().any(|row| row[place] != rows[0][place]));
        let text = |place: &usize| self.columns.0[*place].1 == DataType::Utf8;
        (0..self.columns.0.len()).filter(text).filter(|place| varies(*place)).collect()
    }

    /// Counts by bins that the table has itself: columns `low`, `high` and a count.
    fn density(&self) -> Option<Figure> {
        let (low, high) = (self.columns.index("low")?, self.columns.index("high")?);
        let (what, _) = self.columns.0.iter().enumerate().find(|(_, (_, of))| of.is_integer())?;
        let texts = self.varying();
        let mut all: Vec<Bins> = Vec::new();
        let mut data = TextTable::new(["series", "low", "high", self.columns.name(what)]);
        for (member, rows) in self.members.iter().zip(&self.rows) {
            let mut series: BTreeMap<String, Bins> = BTreeMap::new();
            for row in rows {
                let own = texts.iter().map(|place| row[*place].shown());
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
        let figure = |(group, numbers): (String, Vec<usize>)| {
            let mut data = TextTable::new(["instance", "z_norm", "f_norm"]);
            let mut all = Vec::new();
            for number in &numbers {
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
            let artifacts = numbers.iter().map(|number| self.members[*number].artifact);
            Some(Figure { picture: clouds(&title, &all)?, data: Data::new(data, artifacts, "rows") })
        };
        self.groups().into_iter().take(MOST_GROUPS).filter_map(figure).collect()
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
                drawn.push(Line { group: member.group(), points, band: Vec::new() });
                for row in rows.iter().filter(|row| row[place] != Cell::Empty) {
                    data.push([member.cell(), row[0].clone(), row[place].clone()]);
                }
            }
            // Losses are in nats throughout.
            let unit = if name.ends_with("loss") { "nats" } else { "" };
            let (x, y) = (AxisName::new("step", "updates"), AxisName::new(name, unit));
            let picture = lines(&format!("{}: {name}", self.title), &x, &y, Run::Auto, &drawn)?;
            Some(Figure { picture, data: self.data(data) })
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

//! Histograms: one as an area, several as outlines over each other.

use super::legend::legend;
use super::plane::{Plane, Wanted};
use super::scale::Run;
use super::{AxisName, Picture, WIDTH, look};
use crate::number::{count, float};
use crate::report::series::{Groups, listed};
use crate::xml::px;

/// Bins without gaps between them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bins {
    /// What it is called in the legend.
    pub(crate) group: String,
    /// Low end, high end and count of each bin, from left to right.
    pub(crate) bins: Vec<(f64, f64, u64)>,
    /// What is in no bin.
    pub(crate) outside: u64,
}

impl Bins {
    /// At most `bins` bins of equal width over the finite values, whose edges are round numbers.
    pub(crate) fn of(group: &str, values: &[f64], edges: &[f64]) -> Self {
        let mut bins: Vec<(f64, f64, u64)> = edges.windows(2).map(|pair| (pair[0], pair[1], 0)).collect();
        let mut outside = 0;
        for value in values {
            // A bin holds its high end, so the first bin's low end is the one place that needs care.
            let at = edges.partition_point(|edge| edge < value).saturating_sub(1);
            match bins.get_mut(at).filter(|(low, ..)| value >= low) {
                Some(bin) if value.is_finite() => bin.2 += 1,
                _ => outside += 1,
            }
        }
        Self { group: group.to_owned(), bins, outside }
    }

    /// Edges for [`Bins::of`]; none without two different finite values.
    pub(crate) fn edges(values: impl Iterator<Item = f64>) -> Option<Vec<f64>> {
        let scale = super::scale::Scale::of(values, Run::Linear, 24)?;
        Some(scale.ticks().iter().map(|(value, _)| *value).collect())
    }
}

/// A histogram over `x` of `what`, with a word on those that are in no bin; none where no bin holds anything.
pub(crate) fn histogram(title: &str, x: &AxisName, [what, outside]: [&str; 2], all: &[Bins]) -> Option<Picture> {
    let bins = || all.iter().flat_map(|bins| &bins.bins);
    if bins().all(|(.., n)| *n == 0) {
        return None;
    }
    let y = AxisName::new(what, "count");
    let ends = bins().flat_map(|(low, high, _)| [*low, *high]).collect();
    let horizontal = Wanted { name: x, run: Run::Linear, values: ends };
    let vertical = Wanted { name: &y, run: Run::FromZero, values: bins().map(|(.., n)| *n as f64).collect() };
    let plane = Plane::new(&horizontal, &vertical)?;
    let groups = Groups::of(all.iter().map(|bins| bins.group.as_str()));
    let mut body = plane.draw();
    let class = if groups.names().len() == 1 { "area" } else { "line" };
    for bins in all.iter().filter(|bins| !bins.bins.is_empty()) {
        let look = look(groups.index(&bins.group));
        body.push_str(&format!("<path class=\"{class} {look}\" d=\"{}\"/>\n", outline(&plane, &bins.bins)));
    }
    let sample = |series: usize, (x, y): (f64, f64)| {
        format!("<path class=\"line {}\" d=\"M{} {}h19\"/>", look(series), px(x), px(y))
    };
    let (legend, height) = legend(groups.names(), Plane::bottom(), sample);
    body.push_str(&legend);
    let says = says(&groups, all, [what, outside], x);
    Some(Picture { width: WIDTH, height: Plane::bottom() + height, title: title.to_owned(), says, body })
}

fn outline(plane: &Plane, bins: &[(f64, f64, u64)]) -> String {
    let mut out = String::new();
    for (i, (low, high, n)) in bins.iter().enumerate() {
        let top = px(plane.y(*n as f64));
        match i {
            0 => out.push_str(&format!("M{} {}V{top}H{}", px(plane.x(*low)), px(plane.y(0.0)), px(plane.x(*high)))),
            _ => out.push_str(&format!("V{top}H{}", px(plane.x(*high)))),
        }
    }
    out + &format!("V{}", px(plane.y(0.0)))
}

/// Where most are, group by group, and how many are in no bin.
fn says(groups: &Groups<'_>, all: &[Bins], [what, outside]: [&str; 2], x: &AxisName) -> String {
    let of = |group: &str| {
        let mode = |bins: &Bins| {
            let mode = bins.bins.iter().max_by_key(|(.., n)| *n);
            let mode = mode.map_or(String::new(), |(low, high, _)| format!("{} to {}", float(*low), float(*high)));
            if bins.outside == 0 { mode } else { format!("{mode} ({} {outside})", count(bins.outside)) }
        };
        all.iter().filter(|bins| bins.group == group).map(mode).collect::<Vec<_>>().join(", ")
    };
    let modes = listed(groups.names().iter().map(|group| (*group, of(group))));
    format!("Number of {what} by {}. The fullest bin: {modes}.", x.0)
}

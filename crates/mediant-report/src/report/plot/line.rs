//! Lines: what changes with a step, a strength, a layer.

use super::legend::legend;
use super::plane::{Plane, Wanted};
use super::scale::Run;
use super::{AxisName, Picture, WIDTH, look};
use crate::number::float;
use crate::report::series::{Groups, listed};
use crate::xml::px;

/// Points of a line that are drawn: of more, the least and the largest of each stretch.
const MOST_POINTS: usize = 240;

/// A line. Lines of one group look alike: they differ in their seed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    /// What it is called in the legend.
    pub(crate) group: String,
    /// Its points, from left to right.
    pub(crate) points: Vec<(f64, f64)>,
    /// Places with the low and the high end of an interval there, from left to right; none where there are no intervals.
    pub(crate) band: Vec<(f64, f64, f64)>,
}

/// A line chart whose vertical axis runs as `run` says; none where there is no finite point.
pub(crate) fn lines(title: &str, x: &AxisName, y: &AxisName, run: Run, lines: &[Line]) -> Option<Picture> {
    let points = || lines.iter().flat_map(|line| &line.points).filter(|(x, y)| x.is_finite() && y.is_finite());
    let horizontal = Wanted { name: x, run: Run::Linear, values: points().map(|(x, _)| *x).collect() };
    let ends = lines.iter().flat_map(|line| &line.band).flat_map(|(_, low, high)| [*low, *high]);
    let vertical = Wanted { name: y, run, values: points().map(|(_, y)| *y).chain(ends).collect() };
    let plane = Plane::new(&horizontal, &vertical)?;
    let groups = Groups::of(lines.iter().map(|line| line.group.as_str()));
    let mut body = plane.draw();
    for line in lines.iter().filter(|line| !line.band.is_empty()) {
        let colour = groups.index(&line.group) % super::COLOURS;
        body.push_str(&format!("<path class=\"band c{colour}\" d=\"{}\"/>\n", band(&plane, &line.band)));
    }
    for line in lines {
        let look = look(groups.index(&line.group));
        body.push_str(&format!("<path class=\"line {look}\" d=\"{}\"/>\n", path(&plane, &thinned(&line.points))));
    }
    let sample = |series: usize, (x, y): (f64, f64)| {
        format!("<path class=\"line {}\" d=\"M{} {}h19\"/>", look(series), px(x), px(y))
    };
    let (legend, height) = legend(groups.names(), Plane::bottom(), sample);
    body.push_str(&legend);
    let last = |group: &str| {
        let lines = lines.iter().filter(|line| line.group == group);
        let last = lines.filter_map(|line| line.points.last()).map(|(_, y)| float(*y));
        last.collect::<Vec<_>>().join(", ")
    };
    let ends = listed(groups.names().iter().map(|group| (*group, last(group))));
    let says = format!("{} against {}. At the end: {ends}.", y.0, x.0);
    Some(Picture { width: WIDTH, height: Plane::bottom() + height, title: title.to_owned(), says, body })
}

/// A path through the finite points, broken where one is not.
fn path(plane: &Plane, points: &[(f64, f64)]) -> String {
    let mut out = String::new();
    let mut pen = 'M';
    for (x, y) in points {
        if x.is_finite() && y.is_finite() {
            out.push_str(&format!("{pen}{} {}", px(plane.x(*x)), px(plane.y(*y))));
            pen = 'L';
        } else {
            pen = 'M';
        }
    }
    // A point alone is a line of no length, which round ends make visible.
    if points.len() == 1 { out + "h.1" } else { out }
}

/// The area between the low ends and, on the way back, the high ones.
fn band(plane: &Plane, band: &[(f64, f64, f64)]) -> String {
    let finite = || band.iter().filter(|(x, low, high)| x.is_finite() && low.is_finite() && high.is_finite());
    let there = finite().map(|(x, low, _)| (*x, *low));
    let back = finite().rev().map(|(x, _, high)| (*x, *high));
    format!("{}z", path(plane, &there.chain(back).collect::<Vec<_>>()))
}

/// The points, or the least and the largest of each stretch.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= MOST_POINTS {
        return points.to_vec();
    }
    let stretch = points.len().div_ceil(MOST_POINTS / 2);
    let ends = |points: &[(f64, f64)]| {
        let by = |a: &&(usize, (f64, f64)), b: &&(usize, (f64, f64))| a.1.1.total_cmp(&b.1.1);
        let numbered: Vec<(usize, (f64, f64))> = points.iter().copied().enumerate().collect();
        let mut ends: Vec<(usize, (f64, f64))> =
            numbered.iter().min_by(by).into_iter().chain(numbered.iter().max_by(by)).copied().collect();
        ends.sort_by_key(|(at, _)| *at);
        ends.dedup_by_key(|(at, _)| *at);
        ends.into_iter().map(|(_, point)| point)
    };
    points.chunks(stretch).flat_map(ends).collect()
}

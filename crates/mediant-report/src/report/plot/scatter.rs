//! A few points with their intervals and the front of the best.

use std::collections::HashSet;

use super::legend::legend;
use super::plane::{Plane, Wanted};
use super::scale::Run;
use super::{AxisName, Picture, WIDTH, form, look};
use crate::number::float;
use crate::report::series::{Groups, listed};
use crate::xml::{px, visible};

/// A point of a few.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Point {
    /// What it is called in the legend.
    pub(crate) group: String,
    /// What it is called by itself.
    pub(crate) name: String,
    pub(crate) x: f64,
    pub(crate) y: f64,
    /// The interval of its height.
    pub(crate) interval: Option<(f64, f64)>,
}

/// Width of a mark.
const MARK: f64 = 8.0;

/// Points with the front of those that no other beats: none is further to the left and higher. None without a finite point. Of a group's points
/// that lie at one place, within the width of a mark, the first is drawn, and those of the front.
pub(crate) fn scatter(title: &str, x: &AxisName, y: &AxisName, points: &[Point]) -> Option<Picture> {
    let points: Vec<&Point> = points.iter().filter(|point| point.x.is_finite() && point.y.is_finite()).collect();
    let ends = |point: &&Point| [point.y].into_iter().chain(point.interval.into_iter().flat_map(|(a, b)| [a, b]));
    let horizontal = Wanted { name: x, run: Run::Auto, values: points.iter().map(|point| point.x).collect() };
    let vertical = Wanted { name: y, run: Run::Linear, values: points.iter().flat_map(ends).collect() };
    let plane = Plane::new(&horizontal, &vertical)?;
    let groups = Groups::of(points.iter().map(|point| point.group.as_str()));
    let front = front(&points);
    let mut body = plane.draw();
    let steps: Vec<String> =
        front.iter().map(|point| format!("{} {}", px(plane.x(point.x)), px(plane.y(point.y)))).collect();
    if steps.len() > 1 {
        body.push_str(&format!("<path class=\"guide\" d=\"M{}\"/>\n", steps.join("L")));
    }
    let (mut places, mut covered) = (HashSet::new(), 0);
    for point in &points {
        let (series, at) = (groups.index(&point.group), (plane.x(point.x), plane.y(point.y)));
        let place = (series, [at.0, at.1].map(|along| (along / MARK).floor().to_bits()));
        if !places.insert(place) && !front.contains(point) {
            covered += 1;
            continue;
        }
        let whisker = point.interval.filter(|(low, high)| low.is_finite() && high.is_finite());
        let whisker = whisker.map_or_else(String::new, |(low, high)| {
            format!(
                "<path class=\"whisker c{}\" d=\"M{} {}V{}\"/>",
                series % super::COLOURS,
                px(at.0),
                px(plane.y(low)),
                px(plane.y(high))
            )
        });
        let says = format!("{}: {}, {}", point.name, float(point.x), float(point.y));
        body.push_str(&format!("<g><title>{}</title>{whisker}{}</g>\n", visible(&says), mark(series, at)));
    }
    let (legend, height) = legend(groups.names(), Plane::bottom(), |series, (x, y)| mark(series, (x + 10.0, y)));
    body.push_str(&legend);
    let best =
        listed(front.iter().map(|point| (point.name.as_str(), format!("{} at {}", float(point.y), float(point.x)))));
    let covered = match covered {
        0 => String::new(),
        _ => {
            format!(
                " Of marks of one kind at about one place one is drawn, and those of the front: {covered} of {} are not.",
                points.len()
            )
        }
    };
    let says =
        format!("{} against {}; up and to the left is better. Not beaten by another: {best}.{covered}", y.0, x.0);
    Some(Picture { width: WIDTH, height: Plane::bottom() + height, title: title.to_owned(), says, body })
}

/// The points that no other beats, from left to right.
fn front<'a>(points: &[&'a Point]) -> Vec<&'a Point> {
    let mut sorted = points.to_vec();
    sorted.sort_by(|a, b| a.x.total_cmp(&b.x).then(b.y.total_cmp(&a.y)));
    let mut front: Vec<&Point> = Vec::new();
    for point in sorted {
        if front.last().is_none_or(|last| point.y > last.y) {
            front.push(point);
        }
    }
    front
}

/// A circle, square, triangle or diamond.
pub(super) fn mark(series: usize, (x, y): (f64, f64)) -> String {
    let (x, y, look) = (px(x), px(y), look(series));
    let path = match form(series) {
        0 => format!("M{x} {y}m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z"),
        1 => format!("M{x} {y}m-3.5-3.5h7v7h-7z"),
        2 => format!("M{x} {y}m0-4.5l4.5 8h-9z"),
        _ => format!("M{x} {y}m0-5l5 5l-5 5l-5-5z"),
    };
    format!("<path class=\"mark {look}\" d=\"{path}\"/>")
}

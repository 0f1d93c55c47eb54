//! Values in rows, each with its interval.

use super::scale::{Run, Scale};
use super::{AxisName, NORMAL, Picture, SMALL, WIDTH, columns, fit, label, text_width};
use crate::number::{float, plural};
use crate::xml::{px, visible};

const ROW: f64 = 19.0;
const TOP: f64 = 24.0;
/// The most that names take beside the values; where one is longer, all stand above their values.
const NAMES: f64 = 150.0;
const ABOVE: f64 = 15.0;

/// A value with a name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) interval: Option<(f64, f64)>,
    /// The value as it is to stand beside the row.
    pub(crate) shown: String,
}

impl Row {
    /// A row whose value is shown in four digits.
    pub(crate) fn new(name: String, value: f64, interval: Option<(f64, f64)>) -> Self {
        Self { name, value, interval, shown: float(value) }
    }
}

/// What stands for a value: a dot, or a bar from zero for what can be divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Dot,
    Bar,
}

/// Rows from top to bottom, in the order given, each of one of `what`; none without a finite value.
pub(crate) fn intervals(title: &str, what: &str, x: &AxisName, mark: Mark, rows: &[Row]) -> Option<Picture> {
    let finite = |row: &Row| row.interval.filter(|(low, high)| low.is_finite() && high.is_finite());
    let ends = |row: &Row| [row.value].into_iter().chain(finite(row).into_iter().flat_map(|(low, high)| [low, high]));
    let longest = rows.iter().map(|row| text_width(&row.name, NORMAL)).fold(0.0, f64::max);
    let (names, above) = if longest > NAMES { (0.0, ABOVE) } else { (longest, 0.0) };
    let shown = rows.iter().map(|row| text_width(&row.shown, SMALL)).fold(0.0, f64::max);
    let right = WIDTH - shown - 10.0;
    let run = if mark == Mark::Bar { Run::FromZero } else { Run::Linear };
    let values: Vec<f64> = rows.iter().flat_map(ends).collect();
    let first = Scale::fitted(&values, run, right - names)?;
    // The first label stands half to the left of its tick, beyond names that are short.
    let half = first.ticks().first().map_or(0.0, |(_, label)| text_width(label, SMALL) / 2.0);
    let left = (names + 8.0).max(half + 4.0);
    let scale = Scale::fitted(&values, run, right - left)?;
    let place = |value: f64| left + scale.at(value) * (right - left);
    let foot = TOP + (ROW + above) * columns(rows.len());
    let mut grid = String::new();
    let mut body = String::new();
    for (value, text) in scale.ticks() {
        grid.push_str(&format!("M{} {}V{}", px(place(*value)), px(TOP), px(foot)));
        body.push_str(&label("tick middle", (place(*value), foot + 13.0), text, text));
    }
    body.insert_str(0, &format!("<path class=\"grid\" d=\"{grid}\"/>\n"));
    for (i, row) in rows.iter().enumerate() {
        let y = TOP + (ROW + above) * columns(i) + above + ROW / 2.0;
        let interval = finite(row);
        let says = match interval {
            Some((low, high)) => format!("{}: {} [{}, {}]", row.name, row.shown, float(low), float(high)),
            None => format!("{}: {}", row.name, row.shown),
        };
        body.push_str(&format!("<g><title>{}</title>", visible(&says)));
        // Nearer to its own value than to the one above.
        let (room, rise) = if above > 0.0 { (WIDTH - 4.0, 8.0) } else { (names.max(20.0), -4.0) };
        body.push_str(&label("", (2.0, y - rise), &fit(&row.name, NORMAL, room), &row.name));
        if row.value.is_finite() {
            let (x, y) = (px(place(row.value)), px(y));
            body.push_str(&match mark {
                Mark::Dot => {
                    format!("<path class=\"mark c0\" d=\"M{x} {y}m-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0z\"/>")
                }
                Mark::Bar => format!("<path class=\"area c0\" d=\"M{} {y}m0-5V{y}v5H{x}v-10z\"/>", px(place(0.0))),
            });
        }
        if let Some((low, high)) = interval {
            let (low, high, y) = (px(place(low)), px(place(high)), px(y));
            body.push_str(&format!(
                "<path class=\"whisker c0\" d=\"M{low} {y}H{high}M{low} {y}m0-4v8M{high} {y}m0-4v8\"/>"
            ));
        }
        body.push_str(&label("tick end", (WIDTH - 2.0, y + 3.5), &row.shown, &row.shown));
        body.push_str("</g>\n");
    }
    let (name, middle) = (scale.titled(&x.0), f64::midpoint(left, right));
    let room = 2.0 * middle.min(WIDTH - middle);
    body.push_str(&label("axis", (2.0, 13.0), &fit(what, NORMAL, WIDTH), what));
    body.push_str(&label("axis middle", (middle, foot + 28.0), &fit(&name, NORMAL, room), &name));
    let finite = || rows.iter().filter(|row| row.value.is_finite());
    let (largest, least) =
        (finite().max_by(|a, b| a.value.total_cmp(&b.value))?, finite().min_by(|a, b| a.value.total_cmp(&b.value))?);
    let named = |row: &Row| format!("{} ({})", row.shown, row.name);
    let rows = plural(rows.len() as u64, "row");
    let says = format!("{} in {rows}, from {} to {}.", x.0, named(least), named(largest));
    Some(Picture { width: WIDTH, height: foot + 34.0, title: title.to_owned(), says, body })
}

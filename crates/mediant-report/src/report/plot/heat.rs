//! Heat maps: a value for each row and column, as colour and in digits.

use super::{AxisName, NORMAL, Picture, SMALL, WIDTH, columns, fit, label, text_width};
use crate::number::float;
use crate::report::series::listed;
use crate::xml::{px, visible};

const CELL_HEIGHT: f64 = 20.0;
const NARROWEST: f64 = 34.0;
const WIDEST: f64 = 84.0;
const TOP: f64 = 40.0;
/// Digits stand in light letters on colours stronger than this.
const STRONG: f64 = 0.55;

/// The values of a heat map.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HeatMap {
    /// What goes down and what across.
    pub(crate) down: String,
    pub(crate) across: String,
    pub(crate) rows: Vec<String>,
    pub(crate) columns: Vec<String>,
    /// Row by row; a place without a value is empty.
    pub(crate) cells: Vec<Vec<Option<f64>>>,
}

/// Draws a heat map of `what`. As wide as its columns need: more than a phone may have.
pub(crate) fn heat_map(title: &str, what: &AxisName, map: &HeatMap) -> Picture {
    let finite = || map.cells.iter().flatten().flatten().copied().filter(|value| value.is_finite());
    let largest = finite().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    let names = map.rows.iter().chain([&map.down]).map(|name| text_width(name, NORMAL)).fold(0.0, f64::max).min(120.0);
    let left = names + 10.0;
    let names_above = map.columns.iter().map(|name| text_width(name, SMALL) + 8.0);
    let values = finite().map(|value| text_width(&short(value), SMALL) + 2.0);
    let wide = names_above.chain(values).fold(NARROWEST, f64::max).min(WIDEST);
    let width = WIDTH.max(left + wide * columns(map.columns.len()) + 4.0);
    let name = format!("{}: a row is a {}, a column a {}", what.0, map.down, map.across);
    let mut body = label("axis", (2.0, 13.0), &fit(&name, NORMAL, width), &name);
    body.push_str(&label("axis tick", (2.0, TOP - 6.0), &fit(&map.down, SMALL, names), &map.down));
    for (c, name) in map.columns.iter().enumerate() {
        let x = left + wide * (columns(c) + 0.5);
        body.push_str(&label("tick middle", (x, TOP - 6.0), &fit(name, SMALL, wide - 4.0), name));
    }
    for (r, (name, cells)) in map.rows.iter().zip(&map.cells).enumerate() {
        let top = TOP + CELL_HEIGHT * columns(r);
        body.push_str(&label("end", (left - 6.0, top + 14.0), &fit(name, NORMAL, names), name));
        for (c, value) in cells.iter().enumerate() {
            let place = format!("{} {}, {} {}", map.down, name, map.across, map.columns[c]);
            body.push_str(&cell((left + wide * columns(c), top), wide, *value, largest, &place));
        }
    }
    let foot = TOP + CELL_HEIGHT * columns(map.rows.len());
    body.push_str(&scale(foot + 8.0, largest, finite().any(|value| value < 0.0)));
    let mut cells: Vec<(String, f64)> = Vec::new();
    for (name, row) in map.rows.iter().zip(&map.cells) {
        let place = |c: usize| format!("{} {name}, {} {}", map.down, map.across, map.columns[c]);
        cells.extend(row.iter().enumerate().filter_map(|(c, value)| Some((place(c), (*value)?))));
    }
    cells.retain(|(_, value)| value.is_finite());
    cells.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
    let largest = listed(cells.iter().take(5).map(|(place, value)| (place.as_str(), float(*value))));
    let says = format!("{} by {} and {}. The largest: {largest}.", what.0, map.down, map.across);
    Picture { width, height: foot + 30.0, title: title.to_owned(), says, body }
}

fn cell((x, y): (f64, f64), wide: f64, value: Option<f64>, largest: f64, place: &str) -> String {
    let shown = value.map_or(String::new(), short);
    let strength =
        value.filter(|value| value.is_finite()).map(|value| if largest > 0.0 { value / largest } else { 0.0 });
    let (class, opacity) = match strength {
        Some(strength) if strength < 0.0 => ("cell less", -strength),
        Some(strength) => ("cell more", strength),
        None => ("cell none", 1.0),
    };
    let says = value.map_or_else(|| "no value".to_owned(), float);
    let on = if class != "cell none" && opacity > STRONG { " on" } else { "" };
    format!(
        "<g><title>{}: {says}</title><rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{CELL_HEIGHT}\" fill-opacity=\"{opacity:.2}\"/>{}</g>\n",
        visible(place),
        px(x),
        px(y),
        px(wide),
        label(&format!("tick middle{on}"), (x + wide / 2.0, y + 14.0), &shown, &shown).trim_end()
    )
}

/// Two digits after the point, or two digits in all where that is shorter.
fn short(value: f64) -> String {
    match value.abs() {
        size if !size.is_finite() => float(value),
        size if size >= 1e4 || (size > 0.0 && size < 0.005) => format!("{value:.0e}"),
        size if size >= 100.0 => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    }
}

/// What the colours mean.
fn scale(top: f64, largest: f64, negative: bool) -> String {
    let mut out = String::new();
    let samples = [("less", 1.0), ("less", 0.5), ("more", 0.0), ("more", 0.5), ("more", 1.0)];
    for (i, (class, opacity)) in samples.into_iter().skip(if negative { 0 } else { 2 }).enumerate() {
        let x = 2.0 + 68.0 * columns(i);
        let sign = if class == "less" { -1.0 } else { 1.0 };
        let text = short(sign * opacity * largest);
        out.push_str(&format!(
            "<rect class=\"cell {class}\" x=\"{}\" y=\"{}\" width=\"14\" height=\"12\" fill-opacity=\"{opacity}\"/>",
            px(x),
            px(top)
        ));
        out.push_str(&label("tick", (x + 18.0, top + 10.0), &text, &text));
    }
    out
}

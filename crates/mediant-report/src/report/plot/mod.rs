//! Small drawings of numbers as SVG: lines, points, histograms, intervals and heat maps.
//!
//! Every drawing is 360 pixels wide, so that it is legible on a phone as it is, has its title and what it shows in words, and tells
//! its series apart by form as well as by colour. Colours are those of Okabe and Ito (2008), darkened or lightened where they would
//! be faint on the page.

mod cloud;
mod heat;
mod histogram;
mod intervals;
mod legend;
mod line;
mod plane;
mod scale;
mod scatter;
#[cfg(test)]
mod tests;

pub(crate) use cloud::{Cloud, clouds};
pub(crate) use heat::{HeatMap, heat_map};
pub(crate) use histogram::{Bins, histogram};
pub(crate) use intervals::{Mark, Row, intervals};
pub(crate) use line::{Line, lines};
pub(crate) use scale::Run;
pub(crate) use scatter::{Point, scatter};

use crate::text::{cut, one_line, width};
use crate::xml::{px, visible};

/// Styles of all drawings, below `svg.mediant-plot`.
pub(crate) const STYLE: &str = include_str!("plot.css");

/// Width of a drawing that has no reason to be wider.
const WIDTH: f64 = 360.0;
/// Sizes of text.
const NORMAL: f64 = 11.0;
const SMALL: f64 = 10.0;
/// Colours of series.
const COLOURS: usize = 8;

/// The name of an axis with its unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AxisName(String);

impl AxisName {
    /// `loss (nats)`; pure numbers have no unit.
    pub(crate) fn new(name: &str, unit: &str) -> Self {
        Self(if matches!(unit, "" | "1") { one_line(name) } else { one_line(&format!("{name} ({unit})")) })
    }
}

/// A finished drawing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Picture {
    pub(crate) width: f64,
    pub(crate) height: f64,
    pub(crate) title: String,
    /// What it shows, in words.
    pub(crate) says: String,
    body: String,
}

impl Picture {
    /// To stand in a page that has [`STYLE`]; `id` is unique in the page.
    pub(crate) fn inline(&self, id: &str) -> String {
        self.element(&format!("aria-labelledby=\"{id}-title {id}-says\""), [id, "-"].concat().as_str(), "")
    }

    /// A file of its own.
    pub(crate) fn file(&self) -> String {
        let style = format!("<style>{STYLE}</style>\n<rect class=\"page\" width=\"100%\" height=\"100%\"/>\n");
        self.element("xmlns=\"http://www.w3.org/2000/svg\"", "", &style)
    }

    fn element(&self, attributes: &str, prefix: &str, head: &str) -> String {
        let (w, h) = (px(self.width), px(self.height));
        format!(
            "<svg {attributes} class=\"mediant-plot\" role=\"img\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\">\n\
             <title id=\"{prefix}title\">{}</title>\n<desc id=\"{prefix}says\">{}</desc>\n{head}{}</svg>\n",
            visible(&self.title),
            visible(&self.says),
            self.body
        )
    }
}

/// Colour and form of a series, by its number among the series.
fn look(series: usize) -> String {
    format!("c{} f{}", series % COLOURS, form(series))
}

/// Series of one colour have different forms.
fn form(series: usize) -> usize {
    (series + series / COLOURS) % 4
}

/// Pixels that text takes at most, in the fonts that browsers have; DejaVu Sans is the widest of them.
fn text_width(text: &str, size: f64) -> f64 {
    columns(width(text)) * size * 0.64
}

/// `text` in at most `room` pixels.
fn fit(text: &str, size: f64, room: f64) -> String {
    cut(&one_line(text), (room / (size * 0.64)).max(1.0) as usize)
}

/// A piece of text; what was cut is in its title.
fn label(class: &str, (x, y): (f64, f64), text: &str, whole: &str) -> String {
    let title = if text == whole { String::new() } else { format!("<title>{}</title>", visible(whole)) };
    format!("<text class=\"{class}\" x=\"{}\" y=\"{}\">{}{title}</text>\n", px(x), px(y), visible(text))
}

#[expect(clippy::cast_precision_loss, reason = "columns of text, rows and numbers of things drawn")]
fn columns(n: usize) -> f64 {
    n as f64
}

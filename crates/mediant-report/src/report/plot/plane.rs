//! Two axes and the plane between them.

use super::scale::{Run, Scale};
use super::{AxisName, NORMAL, SMALL, WIDTH, fit, label, text_width};
use crate::xml::px;

/// Height of the plane itself.
const HEIGHT: f64 = 168.0;
const TOP: f64 = 24.0;

/// What an axis is to show.
pub(super) struct Wanted<'a> {
    pub(super) name: &'a AxisName,
    pub(super) run: Run,
    pub(super) values: Vec<f64>,
}

/// Axes placed in a drawing.
pub(super) struct Plane {
    x: Scale,
    y: Scale,
    names: [String; 2],
    left: f64,
    width: f64,
}

impl Plane {
    /// Axes over these values; none where an axis has no finite value.
    pub(super) fn new(x: &Wanted<'_>, y: &Wanted<'_>) -> Option<Self> {
        let vertical = Scale::of(y.values.iter().copied(), y.run, 4)?;
        let label = |(_, label): &(f64, String)| text_width(label, SMALL);
        let left = vertical.ticks().iter().map(label).fold(0.0, f64::max) + 8.0;
        let room = WIDTH - left - 30.0;
        let horizontal = Scale::fitted(&x.values, x.run, room)?;
        let right = horizontal.ticks().last().map_or(0.0, label) / 2.0 + 4.0;
        let names = [horizontal.titled(&x.name.0), vertical.titled(&y.name.0)];
        Some(Self { x: horizontal, y: vertical, names, left, width: WIDTH - left - right })
    }

    pub(super) fn x(&self, value: f64) -> f64 {
        self.left + self.x.at(value) * self.width
    }

    pub(super) fn y(&self, value: f64) -> f64 {
        TOP + (1.0 - self.y.at(value)) * HEIGHT
    }

    /// The ends of both axes: what of a line between two places can be seen.
    pub(super) fn ends(&self) -> [(f64, f64); 2] {
        [self.x.ends(), self.y.ends()]
    }

    /// Below the axes' labels.
    pub(super) fn bottom() -> f64 {
        TOP + HEIGHT + 36.0
    }

    /// The axes: the vertical one's name stands above it, where it needs no turning of heads.
    pub(super) fn draw(&self) -> String {
        let (right, foot) = (self.left + self.width, TOP + HEIGHT);
        let mut grid = String::new();
        let mut out = String::new();
        for (value, text) in self.y.ticks() {
            let y = self.y(*value);
            grid.push_str(&format!("M{} {}H{}", px(self.left), px(y), px(right)));
            out.push_str(&label("tick end", (self.left - 5.0, y + 3.5), text, text));
        }
        for (value, text) in self.x.ticks() {
            let x = self.x(*value);
            grid.push_str(&format!("M{} {}V{}", px(x), px(TOP), px(foot)));
            out.push_str(&label("tick middle", (x, foot + 14.0), text, text));
        }
        let base = format!("M{} {}V{}H{}", px(self.left), px(TOP), px(foot), px(right));
        out.insert_str(0, &format!("<path class=\"grid\" d=\"{grid}\"/>\n<path class=\"base\" d=\"{base}\"/>\n"));
        let [x, y] = &self.names;
        out.push_str(&label("axis", (2.0, 13.0), &fit(y, NORMAL, WIDTH), y));
        out.push_str(&label(
            "axis middle",
            (self.left + self.width / 2.0, foot + 29.0),
            &fit(x, NORMAL, self.width),
            x,
        ));
        out
    }
}

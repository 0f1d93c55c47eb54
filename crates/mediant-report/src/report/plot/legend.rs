//! Which look is which series.

use super::{NORMAL, WIDTH, columns, fit, label, text_width};

/// Pixels of a sample of a look, and of the gap after an entry.
const SAMPLE: f64 = 24.0;
const GAP: f64 = 14.0;
const ROW: f64 = 16.0;

/// A legend from `top` down and the height that it takes: nothing for one series alone. `sample` draws a look at a place.
pub(super) fn legend(names: &[&str], top: f64, sample: impl Fn(usize, (f64, f64)) -> String) -> (String, f64) {
    if names.len() < 2 {
        return (String::new(), 0.0);
    }
    let (mut out, mut left, mut row) = (String::new(), 2.0, 0usize);
    for (series, name) in names.iter().enumerate() {
        let text = fit(name, NORMAL, WIDTH - SAMPLE - 4.0);
        let wide = SAMPLE + text_width(&text, NORMAL);
        if left > 2.0 && left + wide > WIDTH {
            (left, row) = (2.0, row + 1);
        }
        let y = top + ROW * columns(row) + 10.0;
        out.push_str(&sample(series, (left, y - 4.0)));
        out.push_str(&label("", (left + SAMPLE, y), &text, name));
        left += wide + GAP;
    }
    (out, ROW * columns(row + 1) + 2.0)
}

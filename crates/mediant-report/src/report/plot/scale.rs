//! From numbers to places on an axis, and the ticks that say which.

use crate::number;
use crate::report::plot::text_width;

/// How an axis runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    /// From about the least value to about the largest.
    Linear,
    /// From zero.
    FromZero,
    /// Logarithmic where all values are above zero and the largest is at least twenty times the least, else linear.
    Auto,
}

/// Pixels between labels.
const GAP: f64 = 6.0;
/// Logarithmic from this ratio on.
const WIDE: f64 = 20.0;
/// From this size on, and below its inverse times ten, tick labels share a power of ten.
const LARGE: f64 = 1e6;
const SMALL: f64 = 1e-3;

/// An axis: its ends and ticks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scale {
    low: f64,
    high: f64,
    log: bool,
    ticks: Vec<(f64, String)>,
    /// Set if the labels are to be multiplied by this power of ten.
    power: Option<i32>,
}

impl Scale {
    /// A scale over the finite values, with about `ticks` ticks; none if there is no finite value.
    pub(crate) fn of(values: impl Iterator<Item = f64>, run: Run, ticks: usize) -> Option<Self> {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| value.is_finite()) {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            return None;
        }
        if run == Run::Auto && low > 0.0 && high / low >= WIDE {
            return Some(Self::log(low, high, ticks));
        }
        if run == Run::FromZero {
            (low, high) = (low.min(0.0), high.max(0.0));
        }
        // Values that differ by their last bits alone are no range.
        if high - low <= high.abs().max(low.abs()) * 1e-9 {
            let pad = if high == 0.0 { 1.0 } else { high.abs() / 10.0 };
            (low, high) = (low - pad, high + pad);
        }
        (high - low).is_finite().then(|| Self::linear(low, high, ticks))
    }

    /// As [`Scale::of`], with as many ticks as have labels that stand apart on `room` pixels; where even the fewest have not, with
    /// some of them.
    pub(crate) fn fitted(values: &[f64], run: Run, room: f64) -> Option<Self> {
        let fits = |scale: &Self| {
            let places = scale.ticks.iter().map(|(at, label)| (scale.at(*at) * room, text_width(label, super::SMALL)));
            let places: Vec<(f64, f64)> = places.collect();
            places.windows(2).all(|pair| pair[1].0 - pair[0].0 >= f64::midpoint(pair[0].1, pair[1].1) + GAP)
        };
        let scales = (2..=6).rev().filter_map(|ticks| Self::of(values.iter().copied(), run, ticks));
        let mut scales: Vec<Self> = scales.collect();
        let first = scales.iter().position(fits).unwrap_or(scales.len().checked_sub(1)?);
        let mut scale = scales.swap_remove(first);
        let mut ticks = std::mem::take(&mut scale.ticks);
        let mut end = f64::NEG_INFINITY;
        ticks.retain(|(value, label)| {
            let (middle, half) = (scale.at(*value) * room, text_width(label, super::SMALL) / 2.0);
            let apart = middle - half >= end + GAP;
            end = if apart { middle + half } else { end };
            apart
        });
        Some(Self { ticks, ..scale })
    }

    fn linear(low: f64, high: f64, ticks: usize) -> Self {
        let step = nice_step((high - low) / float(ticks.max(1)));
        let (first, last) = ((low / step + 1e-9).floor(), (high / step - 1e-9).ceil());
        let count = (last - first).clamp(1.0, 1000.0) as usize;
        let values: Vec<f64> = (0..=count).map(|i| (first + float(i)) * step).collect();
        let size = values.iter().fold(0.0, |size: f64, value| size.max(value.abs()));
        let power = (!(SMALL..LARGE).contains(&size)).then(|| size.log10().floor() as i32);
        let unit = 10f64.powi(power.unwrap_or(0));
        let decimals = (0..12).find(|d| is_whole(step / unit * 10f64.powi(*d))).unwrap_or(12) as usize;
        let label = |value: &f64| {
            let text = format!("{:.decimals$}", value / unit);
            if text.trim_start_matches(['-', '0', '.']).is_empty() { "0".to_owned() } else { grouped(&text) }
        };
        let ticks = values.iter().map(|value| (*value, label(value))).collect();
        Self { low: first * step, high: (first + float(count)) * step, log: false, ticks, power }
    }

    /// From a 1, 2 or 5 times a power of ten to another.
    fn log(low: f64, high: f64, ticks: usize) -> Self {
        let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
        let all = (first..=last).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| (digit, digit * 10f64.powi(power))));
        let all: Vec<(f64, f64)> = all.collect();
        let start = all.iter().rposition(|(_, value)| *value <= low * (1.0 + 1e-9)).unwrap_or(0);
        let end = all.iter().position(|(_, value)| *value >= high * (1.0 - 1e-9)).unwrap_or(all.len() - 1);
        let shown = &all[start..=end.max(start)];
        let powers: Vec<f64> = shown.iter().filter(|(digit, _)| *digit == 1.0).map(|(_, value)| *value).collect();
        // Powers of ten alone, every so many of them, where there are more ticks than wanted.
        let values: Vec<f64> = if shown.len() <= 2 * ticks || powers.len() < 2 {
            shown.iter().map(|(_, value)| *value).collect()
        } else {
            let stride = powers.len().div_ceil(ticks.max(1));
            powers.into_iter().step_by(stride).collect()
        };
        let label =
            |value: f64| if (1e-4..1e7).contains(&value) { number::float(value) } else { format!("{value:.0e}") };
        let ticks = values.into_iter().map(|value| (value, label(value))).collect();
        Self { low: all[start].1, high: all[end.max(start)].1, log: true, ticks, power: None }
    }

    /// Where a value stands: 0 at the low end, 1 at the high one.
    pub(crate) fn at(&self, value: f64) -> f64 {
        if self.log {
            (value / self.low).log10() / (self.high / self.low).log10()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    /// The ticks and their labels, in order.
    pub(crate) fn ticks(&self) -> &[(f64, String)] {
        &self.ticks
    }

    /// The ends of the axis.
    pub(crate) fn ends(&self) -> (f64, f64) {
        (self.low, self.high)
    }

    /// The axis' name with what its tick labels leave out: `loss (nats), ×10⁶`, `loss (nats), log scale`.
    pub(crate) fn titled(&self, name: &str) -> String {
        match self.power {
            Some(power) => format!("{name}, ×10{}", superscript(power)),
            None if self.log => format!("{name}, log scale"),
            None => name.to_owned(),
        }
    }
}

/// The least 1, 2, 2.5 or 5 times a power of ten that is not below `raw`.
fn nice_step(raw: f64) -> f64 {
    let unit = 10f64.powf(raw.log10().floor());
    let digits = [1.0, 2.0, 2.5, 5.0, 10.0];
    digits.into_iter().map(|digit| digit * unit).find(|step| *step >= raw * (1.0 - 1e-9)).unwrap_or(unit * 10.0)
}

fn is_whole(x: f64) -> bool {
    (x - x.round()).abs() < 1e-6
}

/// A decimal number with separators between its thousands.
fn grouped(text: &str) -> String {
    let (sign, text) = text.strip_prefix('-').map_or(("", text), |rest| ("−", rest));
    let (whole, rest) = text.find('.').map_or((text, ""), |at| text.split_at(at));
    let whole = whole.parse().map_or_else(|_| whole.to_owned(), number::count);
    format!("{sign}{whole}{rest}")
}

fn superscript(power: i32) -> String {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let digit = |c: char| c.to_digit(10).map_or('⁻', |digit| DIGITS[digit as usize]);
    power.to_string().chars().map(digit).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a count of ticks")]
fn float(n: usize) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn labels(values: &[f64], run: Run) -> String {
        let scale = Scale::of(values.iter().copied(), run, 4).unwrap();
        let labels: Vec<&str> = scale.ticks().iter().map(|(_, label)| label.as_str()).collect();
        format!("{} | {}", scale.titled("x"), labels.join(" "))
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(labels(&[1.0, 400.0], Run::Linear), "x | 0 100 200 300 400");
        assert_eq!(labels(&[1.39, 15.2], Run::Linear), "x | 0 5 10 15 20");
        assert_eq!(labels(&[0.785, 0.982], Run::Linear), "x | 0.75 0.80 0.85 0.90 0.95 1.00");
        assert_eq!(labels(&[-0.3, 0.9], Run::FromZero), "x | −0.5 0 0.5 1.0");
        assert_eq!(labels(&[2e6, 9e6], Run::FromZero), "x, ×10⁷ | 0 0.25 0.50 0.75 1.00");
        assert_eq!(labels(&[1e-5, 4e-5], Run::Linear), "x, ×10⁻⁵ | 1 2 3 4");
        assert_eq!(labels(&[0.3, 9.1], Run::Auto), "x, log scale | 0.2 0.5 1 2 5 10");
        assert_eq!(labels(&[1e-6, 3.0], Run::Auto), "x, log scale | 1e-6 0.0001 0.01 1");
        assert_eq!(labels(&[7.0, 7.0], Run::Auto), "x | 6.0 6.5 7.0 7.5 8.0");
    }

    #[test]
    fn what_is_no_number_has_no_scale() {
        assert_eq!(Scale::of([f64::NAN, f64::INFINITY].into_iter(), Run::Auto, 4), None);
        assert_eq!(Scale::of([-1e308, 1e308].into_iter(), Run::Linear, 4), None);
        assert_eq!(Scale::fitted(&[], Run::Linear, 300.0), None);
    }

    #[test]
    fn labels_stand_apart() {
        let scale = Scale::fitted(&[0.0, 123_456.0], Run::Linear, 120.0).unwrap();
        let labels: Vec<&str> = scale.ticks().iter().map(|(_, label)| label.as_str()).collect();
        assert_eq!(labels, ["0", "100,000", "200,000"]);
    }
}

//! ZF plots: norms of codes against norms of inputs, as clouds of points.

use super::legend::legend;
use super::plane::{Plane, Wanted};
use super::scale::Run;
use super::scatter::mark;
use super::{AxisName, Picture, WIDTH};
use crate::number::float;
use crate::report::series::Groups;
use crate::xml::px;

/// The part of the points that the bounds hold for.
const HELD: f64 = 0.95;

/// Points that are many, of one group.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cloud {
    /// What it is called in the legend.
    pub(crate) group: String,
    /// ‖z‖ and ‖f‖.
    pub(crate) points: Vec<(f64, f64)>,
}

/// Clouds of points with the line of equal norms, and the bounds on ‖f‖ that follow from decoder directions which overlap by at most
/// ε: ‖z‖ / √(1 + ε(h − 1)) and, as long as ε(h − 1) is below 1, ‖z‖ / √(1 − ε(h − 1)). The ε is the least for which 95 of 100 points are
/// within. None without a finite point.
pub(crate) fn clouds(title: &str, clouds: &[Cloud]) -> Option<Picture> {
    let x = AxisName::new("‖z‖, norm of what the latents are to make", "");
    let y = AxisName::new("‖f‖, norm of the code", "");
    let finite = |cloud: &Cloud| cloud.points.iter().copied().filter(|(z, f)| z.is_finite() && f.is_finite()).collect();
    let points: Vec<Vec<(f64, f64)>> = clouds.iter().map(finite).collect();
    let all = || points.iter().flatten();
    let horizontal = Wanted { name: &x, run: Run::FromZero, values: all().map(|(z, _)| *z).collect() };
    let vertical = Wanted { name: &y, run: Run::FromZero, values: all().map(|(_, f)| *f).collect() };
    let plane = Plane::new(&horizontal, &vertical)?;
    let groups = Groups::of(clouds.iter().map(|cloud| cloud.group.as_str()));
    let mut body = plane.draw();
    body.push_str(&ray(&plane, 1.0, "guide", "‖f‖ = ‖z‖"));
    let overlap = overlap(all());
    if let Some(overlap) = overlap {
        body.push_str(&ray(&plane, (1.0 + overlap).sqrt().recip(), "bound", "‖f‖ = ‖z‖ / √(1 + ε(h − 1))"));
    }
    if let Some(overlap) = overlap.filter(|overlap| *overlap < 1.0) {
        body.push_str(&ray(&plane, (1.0 - overlap).sqrt().recip(), "bound", "‖f‖ = ‖z‖ / √(1 − ε(h − 1))"));
    }
    for (cloud, points) in clouds.iter().zip(&points) {
        let dots = points.iter().map(|(z, f)| format!("M{} {}h0", px(plane.x(*z)), px(plane.y(*f))));
        let colour = groups.index(&cloud.group) % super::COLOURS;
        body.push_str(&format!("<path class=\"dots c{colour}\" d=\"{}\"/>\n", dots.collect::<String>()));
    }
    let (legend, height) = legend(groups.names(), Plane::bottom(), |series, (x, y)| mark(series, (x + 10.0, y)));
    body.push_str(&legend);
    let (below, n) = (all().filter(|(z, f)| f < z).count(), all().count());
    let mut says = format!("{below} of {n} points lie below the dashed line ‖f‖ = ‖z‖.");
    if let Some(overlap) = overlap {
        let bounds = if overlap < 1.0 {
            "Dotted, the bounds ‖z‖ / √(1 ± ε(h − 1))"
        } else {
            "Dotted, the lower bound ‖z‖ / √(1 + ε(h − 1))"
        };
        says.push_str(&format!(" {bounds} of 95 of 100 points: ε(h − 1) = {}.", float(overlap)));
    }
    Some(Picture { width: WIDTH, height: Plane::bottom() + height, title: title.to_owned(), says, body })
}

/// ε(h − 1) = |‖z‖² − ‖f‖²| / ‖f‖², as large as it must be for the points that are to be held.
fn overlap<'a>(points: impl Iterator<Item = &'a (f64, f64)>) -> Option<f64> {
    let needed = points.map(|(z, f)| (z * z - f * f).abs() / (f * f)).filter(|need| !need.is_nan());
    let mut needed: Vec<f64> = needed.collect();
    needed.sort_by(f64::total_cmp);
    #[expect(clippy::cast_precision_loss, reason = "a count of points")]
    let held = (needed.len() as f64 * HELD).ceil() as usize;
    needed.get(held.checked_sub(1)?).copied().filter(|need| need.is_finite())
}

/// What can be seen of the line from the origin with this slope.
fn ray(plane: &Plane, slope: f64, class: &str, says: &str) -> String {
    let [(left, right), (foot, top)] = plane.ends();
    let (from, to) = (left.max(foot / slope), right.min(top / slope));
    let at = |x: f64| format!("{} {}", px(plane.x(x)), px(plane.y(x * slope)));
    if from >= to {
        return String::new();
    }
    format!("<path class=\"{class}\" d=\"M{}L{}\"><title>{says}</title></path>\n", at(from), at(to))
}

#[cfg(test)]
mod tests {
    use super::overlap;

    #[test]
    fn bounds_hold_as_many_points_as_they_say() {
        // ‖z‖² = (1 + i/100) ‖f‖² needs i/100.
        let points: Vec<(f64, f64)> = (1..=100).map(|i| ((1.0 + f64::from(i) / 100.0).sqrt(), 1.0)).collect();
        assert!((overlap(points.iter()).unwrap_or(0.0) - 0.95).abs() < 1e-12);
        assert_eq!(overlap([(1.0, 0.0)].iter()), None);
        assert_eq!(overlap([].iter()), None);
    }
}

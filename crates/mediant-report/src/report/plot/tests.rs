//! Drawings as snapshots, and what must hold of every drawing.
#![allow(clippy::unwrap_used, reason = "tests")]

use insta::assert_snapshot;
use proptest::prelude::*;

use super::*;

const HOSTILE: &str = "</svg><script>alert(1)</script>\u{202e}\"'&\n";

fn name(text: &str) -> AxisName {
    AxisName::new(text, "nats")
}

fn curves() -> Picture {
    let line = |group: &str, start: f64| Line {
        group: group.to_owned(),
        points: (1..=5).map(|step| (f64::from(step) * 100.0, start / f64::from(step))).collect(),
        band: (1..=5).map(|step| (f64::from(step) * 100.0, start / f64::from(step + 1), 9.0)).collect(),
    };
    lines(
        "Training: loss",
        &AxisName::new("step", "updates"),
        &name("loss"),
        Run::Auto,
        &[line("k=4", 8.0), line("k=4", 7.5), line("k=16", 6.0)],
    )
    .unwrap()
}

fn points() -> Picture {
    let point = |group: &str, x: f64, y: f64| Point {
        group: group.to_owned(),
        name: format!("{group},seed=0"),
        x,
        y,
        interval: Some((y - 0.02, y + 0.01)),
    };
    let points = [point("k=4", 4.0, 0.78), point("k=8", 8.0, 0.86), point("relu", 9.0, 0.8), point("k=16", 16.0, 0.93)];
    scatter("ce_score against l0", &AxisName::new("l0", "1"), &AxisName::new("ce_score", ""), &points).unwrap()
}

fn cloud() -> Picture {
    let cloud = Cloud { group: "seed=0".to_owned(), points: vec![(1.0, 0.9), (2.0, 2.1), (3.0, 2.5), (f64::NAN, 1.0)] };
    clouds("ZF plot", &[cloud]).unwrap()
}

fn bins(groups: &[&str]) -> Picture {
    let bins = |group: &&str| Bins {
        group: (*group).to_owned(),
        bins: vec![(-3.0, -2.0, 4), (-2.0, -1.0, 9), (-1.0, 0.0, 1)],
        outside: 2,
    };
    histogram(
        "Density",
        &AxisName::new("log10 of density", ""),
        ["latents", "never active"],
        &groups.iter().map(bins).collect::<Vec<_>>(),
    )
    .unwrap()
}

fn rows(mark: Mark) -> Picture {
    let rows = [
        Row::new("k=32, seed=1".to_owned(), 0.98, Some((0.97, 0.99))),
        Row::new("k=4".to_owned(), 0.78, None),
        Row::new("none".to_owned(), f64::NAN, None),
    ];
    intervals("ce_score", "k", &AxisName::new("ce_score", ""), mark, &rows).unwrap()
}

fn heat() -> Picture {
    let map = HeatMap {
        down: "layer".to_owned(),
        across: "head".to_owned(),
        rows: vec!["0".to_owned(), "1".to_owned()],
        columns: vec!["0".to_owned(), "1".to_owned(), "s2".to_owned()],
        cells: vec![vec![Some(0.5), Some(-0.25), None], vec![Some(0.004), Some(f64::NAN), Some(1.0)]],
    };
    heat_map("Scores of heads", &AxisName::new("score", ""), &map)
}

#[test]
fn drawings() {
    assert_snapshot!("line", curves().file().replace(STYLE, "[style]"));
    assert_snapshot!("scatter", points().inline("f1"));
    assert_snapshot!("clouds", cloud().inline("f1"));
    assert_snapshot!("histogram_one", bins(&[""]).inline("f1"));
    assert_snapshot!("histogram_several", bins(&["a", "b"]).inline("f1"));
    assert_snapshot!("intervals_dots", rows(Mark::Dot).inline("f1"));
    assert_snapshot!("intervals_bars", rows(Mark::Bar).inline("f1"));
    assert_snapshot!("heat", heat().inline("f1"));
}

#[test]
fn what_covers_each_other_is_drawn_once_and_said() {
    let point = |name: &str, x, y| Point { group: String::new(), name: name.to_owned(), x, y, interval: None };
    let axis = name("x");
    let of = |points: &[Point]| scatter("", &axis, &axis, points).unwrap();
    let few = [point("first", 0.0, 1.0), point("last", 1.0, 0.0)];
    assert!(!of(&few).says.contains("are not"), "{}", of(&few).says);
    let many: Vec<Point> = few.into_iter().chain((0..3).map(|_| point("again", 1.0, 0.0))).collect();
    let picture = of(&many);
    assert_eq!(picture.body.matches("class=\"mark").count(), 2, "{}", picture.body);
    assert!(picture.says.ends_with("the front: 3 of 5 are not."), "{}", picture.says);
}

#[test]
fn hostile_names_stay_text() {
    let line = |group: &str| Line {
        group: format!("{HOSTILE}{group}"),
        points: vec![(0.0, 1.0), (1.0, 2.0)],
        band: Vec::new(),
    };
    let axis = AxisName::new(HOSTILE, HOSTILE);
    let map = HeatMap {
        down: HOSTILE.to_owned(),
        across: HOSTILE.to_owned(),
        rows: vec![HOSTILE.to_owned()],
        columns: vec![HOSTILE.to_owned()],
        cells: vec![vec![Some(1.0)]],
    };
    let row = Row { name: HOSTILE.to_owned(), value: 1.0, interval: None, shown: HOSTILE.to_owned() };
    let all = [
        lines(HOSTILE, &axis, &axis, Run::Auto, &[line("a"), line("b")]).unwrap(),
        heat_map(HOSTILE, &axis, &map),
        intervals(HOSTILE, HOSTILE, &axis, Mark::Dot, &[row]).unwrap(),
    ];
    for picture in all {
        let svg = picture.inline("f1");
        assert!(!svg.contains("<script") && svg.matches("</svg>").count() == 1 && !svg.contains('\u{202e}'), "{svg}");
    }
}

#[test]
fn what_is_empty_is_not_drawn() {
    let (x, y) = (name("x"), name("y"));
    assert_eq!(lines("", &x, &y, Run::Auto, &[]), None);
    let nothing = Line { group: String::new(), points: vec![(f64::NAN, 1.0)], band: Vec::new() };
    assert_eq!(lines("", &x, &y, Run::Auto, &[nothing]), None);
    assert_eq!(clouds("", &[]), None);
    assert_eq!(scatter("", &x, &y, &[]), None);
    assert_eq!(intervals("", "", &x, Mark::Bar, &[]), None);
    assert_eq!(histogram("", &x, ["rows", ""], &[]), None);
}

#[test]
fn bins_hold_every_finite_value_once() {
    let values = [0.0, 0.1, 1.0, 2.0, 2.0, f64::NAN, f64::INFINITY];
    let edges = Bins::edges(values.iter().copied()).unwrap();
    let bins = Bins::of("", &values, &edges);
    assert_eq!(bins.bins.iter().map(|(.., n)| n).sum::<u64>(), 5);
    assert_eq!(bins.outside, 2);
}

/// The texts of a drawing with class and place; those of a line of text beside each other must not meet.
fn texts(picture: &Picture) -> Vec<(f64, f64, f64)> {
    let mut found = Vec::new();
    for text in picture.body.split("<text ").skip(1) {
        let attribute =
            |name: &str| text.split(&format!("{name}=\"")).nth(1).unwrap().split('"').next().unwrap().to_owned();
        let (class, x, y): (String, f64, f64) =
            (attribute("class"), attribute("x").parse().unwrap(), attribute("y").parse().unwrap());
        let content = text.split_once('>').unwrap().1.split('<').next().unwrap().to_owned();
        let wide = text_width(&content, if class.contains("tick") { SMALL } else { NORMAL });
        let left = if class.contains("middle") {
            x - wide / 2.0
        } else if class.contains("end") {
            x - wide
        } else {
            x
        };
        found.push((left, left + wide, y));
    }
    found
}

fn stand_apart(picture: &Picture) {
    assert!(picture.body.matches("class=\"axis").count() >= 2, "an axis has no name in {}", picture.file());
    let texts = texts(picture);
    for (i, a) in texts.iter().enumerate() {
        assert!(a.1 <= picture.width + 12.0 && a.0 >= -12.0, "{a:?} is outside of {}", picture.file());
        for b in &texts[..i] {
            let apart = a.1 <= b.0 + 0.5 || b.1 <= a.0 + 0.5 || (a.2 - b.2).abs() >= 9.0;
            assert!(apart, "{a:?} and {b:?} meet in {}", picture.file());
        }
    }
}

#[test]
fn the_first_label_has_room_where_rows_have_no_names() {
    let rows = [Row::new(String::new(), -97_918.3, None)];
    stand_apart(&intervals("t", "row", &name("x"), Mark::Bar, &rows).unwrap());
}

#[test]
fn long_values_have_room_in_their_cells() {
    let map = HeatMap {
        down: "layer".to_owned(),
        across: "head".to_owned(),
        rows: vec!["0".to_owned()],
        columns: vec![String::new(), String::new()],
        cells: vec![vec![Some(-11.25), Some(-5e10)]],
    };
    stand_apart(&heat_map("t", &name("score"), &map));
}

proptest! {
    #[test]
    fn labels_never_meet(values in proptest::collection::vec((-1e9f64..1e9, -9i32..9), 1..12), names in proptest::collection::vec("[a-z=,0-9]{0,40}", 1..12)) {
        let numbers: Vec<f64> = values.iter().map(|(value, power)| value * 10f64.powi(*power)).collect();
        let series = names.iter().enumerate().map(|(i, name)| Line { group: format!("{name}{i}"), points: numbers.iter().enumerate().map(|(x, y)| (x as f64 * numbers[0].abs(), *y)).collect(), band: Vec::new() });
        let series: Vec<Line> = series.collect();
        stand_apart(&lines("t", &name("x"), &name("y"), Run::Auto, &series).unwrap());
        let rows: Vec<Row> = names.iter().zip(numbers.iter().cycle()).map(|(name, value)| Row::new(name.clone(), *value, None)).collect();
        stand_apart(&intervals("t", "row", &name("x"), Mark::Bar, &rows).unwrap());
        let cells = vec![names.iter().zip(numbers.iter().cycle()).map(|(_, value)| Some(*value)).collect()];
        let map = HeatMap { down: "layer".to_owned(), across: "head".to_owned(), rows: vec!["0".to_owned()], columns: names.clone(), cells };
        stand_apart(&heat_map("t", &name("score"), &map));
    }
}

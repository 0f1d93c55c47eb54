//! Reports on runs with artifacts of every kind.

use mediant_artifact::MetricRow;
use mediant_report::{Card, Cost, Edge, Graph, InstanceRun, Node, Report, ResultFile, Run, State};
use serde_json::json;

use super::artifacts::{self, Made};
use super::html;

const HOSTILE: &str = "</title></style><script>alert(1)</script><img src=x onerror=alert(1)>\u{202e}\"'&";

fn instance(node: usize, label: &str, axes: &[(&str, &str)], made: &[&Made]) -> InstanceRun {
    let result = |(number, made): (usize, &&Made)| ResultFile {
        output: format!("{}{number}", made.artifact.kind()),
        default: number == 0,
        key: Vec::new(),
        artifact: made.artifact.clone(),
    };
    InstanceRun {
        node,
        label: label.to_owned(),
        axes: axes.iter().map(|(axis, label)| ((*axis).to_owned(), (*label).to_owned())).collect(),
        state: Some(State::Done),
        why: String::new(),
        recipe: "0123456789abcdef".to_owned(),
        options: json!({ "seed": 0, "sae": { "k": 4 }, "text": label }),
        cost: Some(Cost {
            seconds: 2.5,
            peak_memory: 64 << 20,
            together: 1,
            device: "cpu".to_owned(),
            threads: 2,
            ..Cost::default()
        }),
        headline: Vec::new(),
        results: made.iter().enumerate().map(result).collect(),
    }
}

/// A run of one stage with everything and one with metrics of four instances; every text is `name`.
fn run(name: &str, everything: &[Made], metrics: &[Made]) -> Run {
    let node = |stage: &str, instances| Node {
        name: format!("{stage}{name}"),
        uses: name.to_owned(),
        instances,
        state: Some(State::Done),
    };
    let edge = Edge { from: 0, to: 1, port: name.to_owned(), output: None };
    let mut instances = vec![instance(0, &format!("all{name}"), &[], &everything.iter().collect::<Vec<_>>())];
    for (number, made) in metrics.iter().enumerate() {
        let (k, seed) = (["4", "8"][number / 2], ["0", "1"][number % 2]);
        instances.push(instance(1, &format!("eval{name}[k={k},seed={seed}]"), &[("k", k), ("seed", seed)], &[made]));
    }
    Run {
        pipeline: format!("pipeline{name}"),
        about: vec![("file".to_owned(), name.to_owned())],
        sources: vec![(name.to_owned(), "00ff".to_owned())],
        overrides: vec![("params.x".to_owned(), name.to_owned())],
        store: everything[0].artifact.dir().to_owned(),
        graph: Graph::new(name, vec![node("all", 1), node("eval", 4)], vec![edge]).unwrap(),
        instances,
    }
}

fn evaluations(name: &str) -> Vec<Made> {
    let metric = |name: &str, value: f64| MetricRow {
        low: Some(value - 0.01),
        high: Some(value + 0.01),
        ..artifacts::metric(name, value)
    };
    let of = |number: u32| {
        let x = f64::from(number);
        let mut tagged = metric("accuracy", 0.5 + x / 10.0);
        tagged.tags.insert(name.to_owned(), name.to_owned());
        let l0 = metric("l0", f64::from(4 << (number / 2)));
        artifacts::metrics(&[
            metric("ev_mc", 0.9 - x / 100.0),
            l0,
            metric("ce_score", 0.8 + x / 50.0),
            tagged,
            metric(name, 1.0),
        ])
    };
    (0..4).map(of).collect()
}

fn everything() -> Vec<Made> {
    let mut all = artifacts::all();
    let heads = (0..3).flat_map(|layer| {
        (0..4).map(move |unit| (artifacts::head(layer, unit), f64::from(layer) - f64::from(unit) / 3.0))
    });
    all.push(artifacts::scores(heads));
    all
}

#[test]
fn a_report_has_what_there_is_to_see() {
    let (everything, metrics) = (everything(), evaluations("metric"));
    let report = Report::of(&run("", &everything, &metrics)).unwrap();
    let page = report.to_html(None);
    let seen = html::read(&page);
    for part in ["Pipeline", "Stages", "Results", "Cost of methods", "Options and sources", "Files"] {
        assert!(seen.headings.iter().any(|heading| heading == part), "{part} in {:?}", seen.headings);
    }
    for title in [
        "ce_score against l0",
        "Largest scores",
        "Training: mse",
        "Time by stage",
        "logit_difference without a change, 2 examples",
        "Heat map head blocks.*.attn.hook_z",
    ] {
        assert!(page.contains(&format!("<figcaption>{title}")), "{title}");
    }
    // Two seeds of a k have one look and one entry in the legend of each of the two fronts.
    assert_eq!(page.matches(">k=4</text>").count(), 2);
    assert!(seen.links.iter().all(|link| link.starts_with("data:")));
    assert_eq!(page, Report::of(&run("", &everything, &metrics)).unwrap().to_html(None));
}

#[test]
fn many_values_are_divided_among_pictures_and_parts_stay_out_of_them() {
    let row = |tags: &[(&str, String)], value| MetricRow {
        tags: tags.iter().map(|(name, tag)| ((*name).to_owned(), tag.clone())).collect(),
        ..artifacts::metric("iia", value)
    };
    let mut rows = Vec::new();
    for task in ["ioi", "capitals", "pronoun"] {
        for size in 0..20u32 {
            let tags = [
                ("task", task.to_owned()),
                ("size", size.to_string()),
                ("site", "blocks.2.hook_resid_post@subject".to_owned()),
            ];
            rows.push(row(&tags, f64::from(size) / 40.0));
            let part = [&tags[..], &[("condition", "match".to_owned())]].concat();
            rows.push(row(&part, 0.9));
        }
    }
    let page = Report::of(&run("", &everything(), &[artifacts::metrics(&rows)])).unwrap().to_html(None);
    let drawn: Vec<&str> =
        page.split("<figcaption>").skip(1).filter_map(|figure| figure.split("</figcaption>").next()).collect();
    let drawn: Vec<&str> = drawn.into_iter().filter(|title| title.starts_with("iia")).collect();
    let titles = ["capitals", "ioi", "pronoun"].map(|task| format!("iia, task={task}, without parts"));
    assert_eq!(drawn, titles);
    assert_eq!(
        page.matches("iia in 20 rows, from 0 (size=0) to 0.475 (size=19).").count(),
        6,
        "in words, and for screen readers"
    );
    // Names too long to stand beside their values stand above them, whole.
    let named = |name: &str, search: &str, value| {
        row(&[("mediator", name.to_owned()), ("name", name.to_owned()), ("search", search.to_owned())], value)
    };
    let rows = [named("heads", "attribution_patching", 0.5), named("neurons", "integrated_gradients", 0.75)];
    let page = Report::of(&run("", &everything(), &[artifacts::metrics(&rows)])).unwrap().to_html(None);
    assert!(page.contains(">heads, attribution_patching</text>"), "{page}");
}

#[test]
fn files_are_linked_from_where_the_report_lies() {
    let (everything, metrics) = (everything(), evaluations("metric"));
    let folder = everything[0].artifact.dir().parent().unwrap();
    let page = Report::of(&run("", &everything, &metrics)).unwrap().to_html(Some(folder));
    let files: Vec<String> = html::read(&page).links.into_iter().filter(|link| link.starts_with("./")).collect();
    assert!(files.len() > 4);
    assert!(files.iter().all(|link| folder.join(link).is_file()), "{files:?}");
}

#[test]
fn nothing_hostile_becomes_markup() {
    let (everything, metrics) = (everything(), evaluations(HOSTILE));
    let run = run(HOSTILE, &everything, &metrics);
    let report = Report::of(&run).unwrap();
    let page = report.to_html(None);
    // Reading refuses scripts, handlers and elements that are not closed in order.
    html::read(&page);
    assert!(page.contains("&lt;script&gt;") && !page.contains('\u{202e}'));
    for markdown in [report.to_markdown(), Card::of(&run).unwrap().to_markdown()] {
        assert!(!markdown.contains("<script") && !markdown.contains("<img") && !markdown.contains('\u{202e}'));
    }
}

#[test]
fn what_failed_is_said() {
    let (everything, metrics) = (everything(), evaluations("metric"));
    let mut run = run("", &everything, &metrics);
    let failed = &mut run.instances[1];
    (failed.state, failed.why, failed.cost) = (Some(State::Failed), "out of memory".to_owned(), None);
    failed.results.clear();
    failed.headline = vec![("ev_mc".to_owned(), 0.5)];
    let report = Report::of(&run).unwrap();
    html::read(&report.to_html(None));
    let markdown = report.to_markdown();
    assert!(markdown.contains("| failed |") && markdown.contains("out of memory"), "{markdown}");
    assert!(markdown.contains("Headline metrics of the lock file"));
    assert!(Card::of(&run).unwrap().to_markdown().contains("out of memory"));
}

#[test]
fn cards_say_what_is_missing() {
    let (everything, metrics) = (everything(), evaluations("metric"));
    let card = Card::of(&run("-x", &everything, &metrics)).unwrap();
    insta::assert_snapshot!("report_card", card.to_markdown());
    let json = card.to_json();
    assert_eq!(json["7. Ethics"]["Privacy"], "not supplied");
    assert_eq!(json["4. Evaluation"]["Spread over repeats"], "seed: 0, 1");
}

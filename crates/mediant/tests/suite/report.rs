//! Reports on a pipeline, a run and a lock file, as a reader gets them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::docs::{blocks, root};
use super::html;
use super::project::Project;

/// The example of the guide.
fn project() -> Project {
    let project = Project::new();
    let model = root().join("datasets/models/tiny-gpt2");
    let text = blocks("docs/report.md", "yaml")[0].replace("path/to/model", model.to_str().unwrap());
    project.write("heads.yaml", &text);
    project
}

#[test]
fn the_example_of_the_guide_runs() {
    let project = project();
    for line in blocks("docs/report.md", "sh")[0].lines() {
        let args: Vec<&str> = line.split(' ').skip(1).collect();
        let ran = project.mediant(&args);
        assert_eq!(ran.code, Some(0), "{line}: {}", ran.stderr);
    }
    let page = std::fs::read_to_string(project.path("heads.report.html")).unwrap();
    assert!(page.len() < 3_000_000, "{} bytes", page.len());
    let seen = html::read(&page);
    for title in [
        "ce_score against l0",
        "Training: loss",
        "Density of latents",
        "ZF plot, k=4",
        "Heat map head blocks.*.attn.hook_z",
        "Largest scores",
        "Time by stage",
    ] {
        assert!(page.contains(&format!("<figcaption>{title}</figcaption>")), "{title}");
    }
    let files: Vec<&String> = seen.links.iter().filter(|link| link.starts_with("./")).collect();
    assert!(files.len() > 10 && files.iter().all(|link| project.path(link).is_file()), "{files:?}");
    // A run and a lock file lead to the same results.
    let figures = |name: &str| html::read(&std::fs::read_to_string(project.path(name)).unwrap()).count("figure");
    assert_eq!(figures("heads-as-locked.html"), seen.count("figure"));
    assert_eq!(figures("heads-of-the-last-run.html"), seen.count("figure"));
    let markdown = std::fs::read_to_string(project.path("heads.md")).unwrap();
    assert!(markdown.contains("```mermaid\nflowchart TD") && markdown.contains("| ce_score |"), "{markdown}");
    let card = std::fs::read_to_string(project.path("card.md")).unwrap();
    assert!(
        card.contains("- **Spread over repeats**: seed: 0, 1") && card.contains("- **Licences**: not supplied"),
        "{card}"
    );
    lock_without_results(&project);
}

/// A lock file whose results are elsewhere still has its headline metrics.
fn lock_without_results(project: &Project) {
    let empty = tempfile::tempdir().unwrap();
    let store = empty.path().join("store");
    let status = project.mediant(&["status", "heads.yaml", "--store", store.to_str().unwrap()]);
    assert_eq!(status.code, Some(0), "{}", status.stderr);
    let args = ["report", "heads.lock", "--markdown", "--store", store.to_str().unwrap()];
    let ran = project.mediant(&args);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(
        ran.stdout.contains("Headline metrics of the lock file") && ran.stdout.contains("| eval[k=4,seed=0] | ev_mc |"),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("not here"));
}

const BROKEN: &str = r#"
mediant: 1
name: broken
stages:
  good:
    uses: table
    with: { title: "<img src=x onerror=alert(1)>", rows: [{ "<b>\"'&": "</td><script>" }] }
  bad:
    uses: command
    inputs: { rows: good }
    with: { argv: [sh, "-c", "echo '<i>no</i>' >&2; exit 3"], outputs: { o: table } }
  after:
    uses: table
    inputs: { tables: [bad] }
"#;

#[test]
fn failures_are_told_and_strings_stay_strings() {
    let project = Project::new();
    project.write("pipeline.yaml", BROKEN);
    assert_eq!(project.mediant(&["run", "pipeline.yaml"]).code, Some(1));
    for subject in ["pipeline.yaml", "last"] {
        let ran = project.mediant(&["report", subject, "--output", "out.html"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "out.html\n"), "{}", ran.stderr);
        let page = std::fs::read_to_string(project.path("out.html")).unwrap();
        html::read(&page);
        assert!(page.contains("<td>failed</td>") && page.contains("<td>skipped</td>"), "{page}");
        assert!(page.contains("&lt;img src=x onerror=alert(1)&gt;"));
    }
    // Once the pipeline is another, what failed then is no longer said of it.
    project.write("pipeline.yaml", &BROKEN.replace("exit 3", "exit 4"));
    let now = project.mediant(&["report", "pipeline.yaml", "--markdown"]).stdout;
    assert!(now.contains("| will run |") && !now.contains("| failed |"), "{now}");
}

/// The guide's table of faithfulness: what is said of it, and what its pictures say.
#[test]
fn faithfulness_is_drawn_from_the_columns_of_a_table() {
    let project = Project::new();
    project.write("circuits.yaml", &blocks("docs/report.md", "yaml")[1]);
    assert_eq!(project.mediant(&["run", "circuits.yaml"]).code, Some(0));
    let markdown = project.mediant(&["report", "circuits.yaml", "--markdown"]).stdout;
    let results = markdown.split("\n## ").find(|part| part.starts_with("Results")).unwrap();
    insta::assert_snapshot!("report_faithfulness", results);
    assert_eq!(project.mediant(&["report", "circuits.yaml"]).code, Some(0));
    let page = std::fs::read_to_string(project.path("circuits.report.html")).unwrap();
    html::read(&page);
    // Two curves, each with its band and an entry in the legend.
    assert_eq!((page.matches("class=\"line c").count(), page.matches("class=\"band c").count()), (4, 2));
}

#[test]
fn what_was_not_selected_stands_beside_every_selection() {
    let project = Project::new();
    let row = |mediator: &str, selection: &str, fraction: f64, f: f64| {
        format!(
            "        - {{ mediator: {mediator}, selection: {selection}, fraction: {fraction:.1}, faithfulness: {f:.1} }}\n"
        )
    };
    let rows: String = [("heads", "signed"), ("heads", "absolute"), ("random", "null")]
        .map(|(mediator, selection)| row(mediator, selection, 0.0, 0.0) + &row(mediator, selection, 1.0, 1.0))
        .concat();
    let pipeline =
        format!("mediant: 1\nstages:\n  sets:\n    uses: table\n    with:\n      title: Sets\n      rows:\n{rows}");
    project.write("sets.yaml", &pipeline);
    let ran = project.mediant(&["run", "sets.yaml"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(project.mediant(&["report", "sets.yaml"]).code, Some(0));
    let page = std::fs::read_to_string(project.path("sets.report.html")).unwrap();
    for selection in ["signed", "absolute"] {
        let picture =
            page.split(&format!("<figcaption>Faithfulness, selection={selection}</figcaption>")).nth(1).unwrap();
        let picture = picture.split("</svg>").next().unwrap();
        assert!(picture.contains(">heads</text>") && picture.contains(">random</text>"), "{picture}");
    }
    assert!(!page.contains("<figcaption>Faithfulness</figcaption>"));
}

/// In Chromium, where there is one and Python to speak to it: `benches/report.py` says what it looks at.
#[test]
fn reports_are_sound_in_a_browser() {
    let project = Project::new();
    project.write("circuits.yaml", &blocks("docs/report.md", "yaml")[1]);
    project.write("standings.yaml", &super::standings::quick());
    let mut browser = Command::new("python3");
    browser.env("MEDIANT", env!("CARGO_BIN_EXE_mediant")).env("PYTHONDONTWRITEBYTECODE", "1");
    browser
        .arg(root().join("benches/report.py"))
        .args(["circuits.yaml", "standings.yaml"].map(|file| project.path(file)));
    let Ok(ran) = browser.output() else { return };
    let said = [ran.stdout, ran.stderr].map(|said| String::from_utf8(said).unwrap());
    assert!(ran.status.success(), "{}{}", said[0], said[1]);
}

#[test]
fn a_damaged_result_is_an_error_until_it_is_made_again() {
    let project = Project::new();
    project.write("pipeline.yaml", &blocks("docs/report.md", "yaml")[1]);
    assert_eq!(project.mediant(&["run", "pipeline.yaml"]).code, Some(0));
    let (folder, file) = (project.object("measured"), "rows-00000.parquet");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::remove_file(folder.join(file)).unwrap();
    std::fs::write(folder.join(file), "PAR1 and nothing that follows").unwrap();
    for subject in ["last", "pipeline.lock"] {
        let ran = project.mediant(&["report", subject]);
        assert_eq!(ran.code, Some(2), "{}", ran.stderr);
        assert!(
            ran.stderr.starts_with("error: there is no report: ") && ran.stderr.contains("mediant run"),
            "{}",
            ran.stderr
        );
        assert_eq!(ran.stderr.lines().count(), 2, "{}", ran.stderr);
    }
    // Of a pipeline file: what is damaged counts as not there.
    let now = project.mediant(&["report", "pipeline.yaml", "--markdown"]);
    assert!(now.code == Some(0) && now.stdout.contains("| will run |"), "{}", now.stdout);
    assert_eq!(project.mediant(&["run", "pipeline.yaml"]).code, Some(0));
    assert_eq!(project.mediant(&["report", "last", "--markdown"]).code, Some(0));
}

#[test]
fn what_cannot_be_reported_is_an_error() {
    let project = project();
    let said = |args: &[&str]| {
        let ran = project.mediant(args);
        assert_eq!(ran.code, Some(2), "{args:?}: {}", ran.stderr);
        ran.stderr
    };
    assert!(said(&["report", "nothing.yaml"]).contains("no file nothing.yaml"));
    assert!(
        said(&["report", "heads.yaml", "--output", "no/such/folder.html"]).contains("cannot write no/such/folder.html")
    );
    assert!(said(&["report", "heads.yaml", "--json"]).contains("--card"));
    assert!(said(&["report", "heads.yaml", "--card", "--markdown"]).contains("cannot be used with"));
    project.write("x.lock", "{}");
    assert!(said(&["report", "x.lock", "--set", "seed=1"]).contains("--set changes a pipeline file"));
    // Nothing has run: the report says so.
    assert_eq!(project.mediant(&["report", "heads.yaml"]).code, Some(0));
    let page = std::fs::read_to_string(project.path("heads.report.html")).unwrap();
    assert!(page.contains("<td>will run</td>") && Path::new(&project.path(".mediant")).is_dir());
    assert!(said(&["report", "last"]).contains("neither a file nor a run"));
    assert!(said(&["report", "x.lock"]).contains("not a lock file"));
}

//! What the documentation shows works as shown.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::project::Project;

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The blocks of a language in a Markdown file.
pub(crate) fn blocks(file: &str, language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(file)).unwrap();
    let fence = format!("```{language}\n");
    let starts = text.split(&fence).skip(1);
    starts.map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

fn pipelines(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(pipelines(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
    found
}

/// A folder with what stands for a model on the hub and for texts that do not come with Mediant: a model as deep as GPT-2 small.
fn stand_ins() -> Project {
    let project = Project::new();
    let sizes = "n_layers: 12, d_model: 12, n_heads: 2, context: 1024, steps: 2";
    project.write("model.yaml", &MODEL.replace("n_layers: 3, d_model: 32, n_heads: 4, steps: 5", sizes));
    for args in [&["run", "model.yaml"][..], &["export", "model.yaml", "model", "model"]] {
        let ran = project.mediant(args);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    }
    project.write("text", "A text.");
    project.write("other", "Another.");
    project
}

#[test]
fn every_pipeline_fits_the_schema_and_can_be_planned() {
    let schema = std::fs::read_to_string(root().join("schemas/pipeline.schema.json")).unwrap();
    let validator = jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap();
    let store = tempfile::tempdir().unwrap();
    let stand_ins = stand_ins();
    let files = pipelines(&root().join("pipelines"));
    assert!(files.len() >= 2);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let value: Value = serde_yaml::from_str(&text).unwrap();
        let errors: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", file.display());
        let replaced =
            ["model", "text", "other"].into_iter().filter(|param| text.contains(&format!("{{params.{param}}}")));
        let values = replaced.map(|param| format!("--set=params.{param}={}", stand_ins.path(param).display()));
        let plan = Command::new(env!("CARGO_BIN_EXE_mediant"))
            .arg("plan")
            .arg(&file)
            .args(values)
            .env("MEDIANT_STORE", store.path())
            .output()
            .unwrap();
        assert!(plan.status.success(), "{}", String::from_utf8_lossy(&plan.stderr));
    }
    // The schema says no to what the program refuses.
    let wrong: Value = serde_yaml::from_str("mediant: 1\nstages: { a: { uses: load_modle } }\n").unwrap();
    assert!(!validator.is_valid(&wrong));
}

/// A model of three layers with a tokenizer, and some text: what the guide's pipeline asks for.
const MODEL: &str = "
mediant: 1
stages:
  corpus:
    uses: generate_corpus
    with: { sentences: 400, items: 5 }
  tokenizer:
    uses: train_tokenizer
    inputs: { corpus: corpus }
    with: { vocab_size: 400 }
  tokens:
    uses: tokenize
    inputs: { corpus: corpus, tokenizer: tokenizer }
    with: { context: 256 }
  model:
    uses: train_lm
    inputs: { tokens: tokens.train, tokenizer: tokenizer }
    with: { n_layers: 3, d_model: 32, n_heads: 4, steps: 5, batch: 2, lr: 0.003, warmup: 1 }
";

#[test]
fn the_guide_runs() {
    let project = Project::new();
    project.write("model.yaml", MODEL);
    for args in [&["run", "model.yaml"][..], &["export", "model.yaml", "model", "path/to/model"]] {
        let ran = project.mediant(args);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    }
    let story = "The girl went to the park. She saw a big red ball, and the ball was new.\n\n";
    project.write("stories.txt", &story.repeat(60));
    let pipeline = &blocks("docs/README.md", "yaml")[0];
    project.write("pipeline.yaml", pipeline);
    assert_eq!(project.ran(&[]), "acts compare eval[k=16] eval[k=8] loss model sae[k=16] sae[k=8] tokens");
    for args in [
        &["plan", "pipeline.yaml"][..],
        &["dag", "pipeline.yaml"],
        &["show", "pipeline.yaml", "compare"],
        &["query", "pipeline.yaml", "SELECT * FROM compare"],
        &["export", "pipeline.yaml", "acts", "DIR"],
    ] {
        let ran = project.mediant(args);
        assert_eq!(ran.code, Some(0), "{args:?}: {}", ran.stderr);
        assert!(!ran.stdout.is_empty(), "{args:?}");
    }
    read_from_python(&project);
    project.write("pipeline.yaml", &blocks("docs/README.md", "yaml")[1]);
    let ran = project.ran(&[]);
    assert_eq!(ran.split(' ').filter(|name| name.starts_with("sae[")).count(), 6, "{ran}");
}

/// Runs the page's commands and its script. Where there is no Python with the libraries, the script is not run.
fn read_from_python(project: &Project) {
    let commands = &blocks("docs/python.md", "sh")[0];
    for line in commands.lines() {
        let args: Vec<&str> = line.split(' ').skip(1).collect();
        // The guide's `eval` has two instances; the page speaks of one.
        let args: Vec<&str> = args.into_iter().map(|arg| if arg == "eval" { "eval[k=8]" } else { arg }).collect();
        let ran = project.mediant(&args);
        assert_eq!(ran.code, Some(0), "{line}: {}", ran.stderr);
    }
    std::fs::rename(project.path("out/eval[k=8].parquet"), project.path("out/eval.parquet")).unwrap();
    let python = std::env::var("MEDIANT_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let run = |script: &str| Command::new(&python).args(["-c", script]).current_dir(project.path("")).output();
    if !run("import numpy, polars, pyarrow").is_ok_and(|output| output.status.success()) {
        assert!(std::env::var("MEDIANT_PYTHON").is_err(), "{python} lacks numpy, polars or pyarrow");
        return;
    }
    let output = run(&blocks("docs/python.md", "python")[0]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("float32 ("), "{text}");
}

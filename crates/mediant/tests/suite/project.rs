//! A project in a temporary folder, and the command run in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A folder that is removed in the end.
pub(crate) struct Project {
    dir: tempfile::TempDir,
}

/// What a run of the command gave.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Project {
    /// A project that may run programs.
    pub(crate) fn new() -> Self {
        let project = Self { dir: tempfile::tempdir().unwrap() };
        project.write("mediant.toml", "allow_command = true\n");
        project
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mediant"));
        command.args(args).current_dir(self.dir.path()).env_remove("MEDIANT_STORE").env_remove("RUST_LOG");
        command
    }

    pub(crate) fn mediant(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().unwrap(), self.dir.path())
    }

    /// Runs `pipeline.yaml` and gives the stages that ran, in the order of their names.
    pub(crate) fn ran(&self, args: &[&str]) -> String {
        let mut all = vec!["run", "pipeline.yaml", "--json"];
        all.extend(args);
        let ran = self.mediant(&all);
        assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
        let mut stages: Vec<String> = ran
            .events()
            .into_iter()
            .filter(|event| event["type"] == "finished")
            .map(|event| event["stage"].as_str().unwrap().to_owned())
            .collect();
        stages.sort();
        if stages.is_empty() { "-".to_owned() } else { stages.join(" ") }
    }

    /// Logical digest of every output that is done, by `stage.output`.
    pub(crate) fn digests(&self) -> Vec<(String, String)> {
        let status = self.mediant(&["status", "pipeline.yaml", "--json"]);
        let status: Value = serde_json::from_str(&status.stdout).unwrap();
        let stages = status["stages"].as_array().unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        stages
            .iter()
            .map(|row| (format!("{}.{}", text(&row["stage"]), text(&row["output"])), text(&row["digest"])))
            .collect()
    }

    /// The folder of an output that is done.
    pub(crate) fn object(&self, stage: &str) -> PathBuf {
        let status = self.mediant(&["status", "pipeline.yaml", "--json"]);
        let status: Value = serde_json::from_str(&status.stdout).unwrap();
        let row = status["stages"].as_array().unwrap().iter().find(|row| row["stage"] == stage).unwrap().clone();
        self.path(row["path"].as_str().unwrap().trim_start_matches("DIR/"))
    }

    pub(crate) fn explain(&self, stage: &str) -> String {
        let ran = self.mediant(&["explain", "pipeline.yaml", stage]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        ran.stdout
    }
}

impl Ran {
    fn of(output: Output, dir: &Path) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(&dir.display().to_string(), "DIR");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// The events of `run --json`.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

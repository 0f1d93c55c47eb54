//! Runs under adverse circumstances: stopped, killed, together, without room, without the right to write.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::project::Project;

/// Two independent stages and one that needs both. Each appends its name to `ran.txt` in the end, after SLEEP seconds.
fn diamond(sleep: &str) -> Project {
    let project = Project::new();
    project.write("step.sh", STEP);
    let stage = |name: &str, inputs: &str, ports: &str| {
        format!(
            "  {name}:\n    uses: command\n{inputs}    with:\n      argv: [sh, \"{{files.step}}\", {name}, \"{sleep}\", \"{{outputs.out}}\"{ports}]\n      files: {{ step: step.sh }}\n      outputs: {{ out: table }}\n      env: {{ RAN: \"{}\" }}\n",
            project.path("ran.txt").display()
        )
    };
    let pipeline = [
        "mediant: 1\nname: diamond\nstages:\n".to_owned(),
        stage("left", "", ""),
        stage("right", "", ""),
        stage("join", "    inputs: { left: left, right: right }\n", ", \"{inputs.left}\", \"{inputs.right}\""),
    ];
    project.write("pipeline.yaml", &pipeline.concat());
    project
}

const STEP: &str = "\
printf '{\"step\": \"%s\"}\\n' \"$1\" > \"$3/rows.jsonl\"\n\
i=0; while [ $i -lt \"$2\" ]; do sleep 0.1; i=$((i+1)); done\n\
echo \"$1\" >> \"$RAN\"\n";

fn lines(project: &Project) -> Vec<String> {
    let text = std::fs::read_to_string(project.path("ran.txt")).unwrap_or_default();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

pub(super) fn start(project: &Project, args: &[&str]) -> Child {
    let mut all = vec!["run", "pipeline.yaml", "--json"];
    all.extend(args);
    project.command(&all).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The events of a run that ended by itself, and its exit code.
pub(super) fn end(mut child: Child) -> (Option<i32>, Vec<Value>, String) {
    let (mut events, mut errors) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut events).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    let events = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (child.wait().unwrap().code(), events, errors)
}

pub(super) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what} did not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Process ids whose parent is `parent`.
pub(super) fn children(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parent_of = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<u32>().ok()
    };
    pids.filter(|pid| parent_of(pid) == Some(parent)).collect()
}

pub(super) fn signal(pid: u32, name: &str) {
    Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap();
}

#[test]
fn two_runs_together_do_each_action_once_and_both_succeed() {
    let project = diamond("5");
    let (first, second) = (start(&project, &["-j", "2"]), start(&project, &["-j", "2"]));
    let ((code, _, errors), (other_code, _, other_errors)) = (end(first), end(second));
    assert_eq!((code, other_code), (Some(0), Some(0)), "{errors}{other_errors}");
    assert_eq!(lines(&project), ["join", "left", "right"]);
}

#[test]
fn stages_that_would_share_a_gpu_run_together_where_there_is_none() {
    let project = diamond("1");
    let text = std::fs::read_to_string(project.path("pipeline.yaml")).unwrap();
    project.write("pipeline.yaml", &text.replace("uses: command\n", "uses: command\n    resources: { gpus: 1 }\n"));
    let (code, events, errors) = end(start(&project, &["--jobs", "2", "--device", "cpu"]));
    assert_eq!(code, Some(0), "{errors}");
    let kinds: Vec<_> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    let kinds: Vec<_> = kinds.into_iter().filter(|kind| ["started", "finished"].contains(kind)).collect();
    assert_eq!(kinds[..2], ["started", "started"], "{kinds:?}");
}

#[test]
fn ctrl_c_stops_the_run_and_keeps_what_is_done() {
    let project = diamond("15");
    // One job: left, then right.
    let child = start(&project, &["-j", "1"]);
    wait_until("the first stage", || lines(&project).len() == 1);
    wait_until("its record", || project.digests().iter().filter(|(_, digest)| !digest.is_empty()).count() == 1);
    signal(child.id(), "INT");
    let (code, events, errors) = end(child);
    assert_eq!(code, Some(130), "{errors}");
    let last = events.last().unwrap();
    assert_eq!(
        (&last["type"], &last["ran"], &last["failed"]),
        (&"run_finished".into(), &1.into(), &0.into()),
        "{last}"
    );

    assert_eq!(project.ran(&["-j", "1"]), "join right");
    assert_eq!(lines(&project), ["join", "left", "right"], "nothing finished was done twice");
}

#[test]
fn a_killed_worker_fails_its_stage_or_is_replaced() {
    for (retries, code) in [("0", 1), ("1", 0)] {
        let project = diamond("5");
        let child = start(&project, &["-j", "1", "--retries", retries]);
        wait_until("a worker", || !children(child.id()).is_empty());
        std::thread::sleep(Duration::from_millis(200));
        signal(children(child.id())[0], "KILL");
        let (ended, events, errors) = end(child);
        assert_eq!(ended, Some(code), "{errors}");
        let told = events.iter().find(|event| event["error"].as_str().is_some_and(|e| e.contains("signal 9")));
        assert!(told.is_some(), "{events:?}");
        project.ran(&[]);
        assert_eq!(lines(&project), ["join", "left", "right"]);
    }
}

#[test]
fn a_write_that_fails_is_a_clear_error_and_the_next_run_goes_on() {
    let project = diamond("0");
    project.write(
        "small.yaml",
        "mediant: 1\nstages:\n  corpus:\n    uses: generate_corpus\n    with: { sentences: 20000 }\n",
    );
    // Files of at most 64 KiB, which is what a full disk looks like to a program: the write fails.
    let limited = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 128; exec \"$0\" run small.yaml"])
        .arg(env!("CARGO_BIN_EXE_mediant"))
        .current_dir(project.path(""))
        .env_remove("MEDIANT_STORE")
        .output()
        .unwrap();
    let errors = String::from_utf8(limited.stderr).unwrap();
    assert_eq!(limited.status.code(), Some(1), "{errors}");
    assert!(errors.contains("File too large"), "{errors}");
    assert!(!errors.contains("panicked"), "{errors}");
    let ran = project.mediant(&["run", "small.yaml"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let verified = project.mediant(&["status", "small.yaml"]);
    assert!(verified.stdout.lines().skip(1).all(|line| line.starts_with("done")), "{}", verified.stdout);
}

fn chmod_tree(path: &Path, folders: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    for entry in std::fs::read_dir(path).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            chmod_tree(&entry.path(), folders);
        }
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(folders)).unwrap();
}

#[test]
fn a_store_that_cannot_be_written_serves_what_it_holds() {
    let project = diamond("0");
    project.ran(&[]);
    chmod_tree(&project.path(".mediant"), 0o555);
    // Root writes where it likes: without its rights where the test has them.
    let root = std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    let user = |args: &[&str]| {
        let mut command = if root { unprivileged(&project) } else { Command::new(env!("CARGO_BIN_EXE_mediant")) };
        let output = command.args(args).current_dir(project.path("")).env_remove("MEDIANT_STORE").output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap())
    };
    if root {
        // Where the build is, only root may be able to go.
        std::fs::copy(env!("CARGO_BIN_EXE_mediant"), project.path("mediant")).unwrap();
        Command::new("chmod").args(["-R", "a+rX"]).arg(project.path("")).status().unwrap();
    }
    let (code, text) = user(&["run", "pipeline.yaml"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("0 ran, 3 cached"), "{text}");
    let (code, text) = user(&["run", "pipeline.yaml", "--force", "join"]);
    chmod_tree(&project.path(".mediant"), 0o755);
    assert_ne!(code, Some(0), "{text}");
    assert!(text.contains("read-only") && !text.contains("panicked"), "{text}");
    assert_eq!(project.ran(&[]), "-");
}

/// The command as a user who may write nowhere.
fn unprivileged(project: &Project) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(project.path("mediant"));
    command
}

#[test]
fn locked_runs_refuse_what_the_lock_does_not_say() {
    let project = diamond("0");
    let refused = project.mediant(&["run", "pipeline.yaml", "--locked"]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("there is no lock file"), "{}", refused.stderr);
    project.ran(&[]);
    assert_eq!(project.ran(&["--locked"]), "-");

    // What the lock says can be made again from nothing.
    std::fs::rename(project.path(".mediant"), project.path("elsewhere")).unwrap();
    assert_eq!(project.ran(&["--locked"]), "join left right");

    let text = std::fs::read_to_string(project.path("pipeline.yaml")).unwrap();
    project.write("pipeline.yaml", &text.replacen(", left, \"0\"", ", left, \"00\"", 1));
    let refused = project.mediant(&["run", "pipeline.yaml", "--locked"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""));
    // The keys know the folder, which is another each time.
    let hex = |word: &str| word.len() == 12 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let words = refused.stderr.split(' ').map(|word| if hex(word.trim_end_matches(',')) { "KEY" } else { word });
    insta::assert_snapshot!(words.collect::<Vec<_>>().join(" "));
    assert_eq!(lines(&project).len(), 6, "nothing ran");
}

#[test]
fn a_selector_that_means_nothing_is_an_error() {
    let project = Project::new();
    let stage = "{ uses: table, matrix: { k: [4, 8] }, with: { rows: [{ k: \"${matrix.k}\" }] } }";
    project.write("pipeline.yaml", &format!("mediant: 1\nstages:\n  sae: {stage}\n"));
    let mut told = String::new();
    for selector in ["sae[k:4]", "sae[]", "sae[k=4", "sae[k=4,x]", "sae[k=5]", "sae[q=4]", "sea", ""] {
        let refused = project.mediant(&["run", "pipeline.yaml", selector]);
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""), "{selector}");
        told += &refused.stderr;
    }
    assert_eq!(project.ran(&["sae[k=4]"]), "sae[k=4]");
    insta::assert_snapshot!(told);
}

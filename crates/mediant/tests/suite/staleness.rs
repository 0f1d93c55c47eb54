//! What runs again after which change: the twelve scenarios in which pipeline engines differ, and the ideal answers.
//!
//! The chain is src.txt → a → b → c; a strips comments, so a comment-only edit leaves its result as it was.

use std::fs::{File, FileTimes};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use super::project::Project;

const CHAIN: &str = r#"
mediant: 1
stages:
  a:
    uses: command
    with:
      argv: [sh, "{files.strip}", "{files.src}", "{outputs.out}"]
      files: { strip: strip.sh, src: src.txt }
      outputs: { out: table }
  b:
    uses: command
    inputs: { a: a }
    with:
      argv: [sh, "{files.sum}", "{inputs.a}", "{outputs.out}", b, SLEEP, K1]
      files: { sum: sum.sh }
      outputs: { out: table }
  c:
    uses: command
    inputs: { b: b }
    with:
      argv: [sh, "{files.sum}", "{inputs.b}", "{outputs.out}", c, "0"]
      files: { sum: sum.sh }
      outputs: { out: table }
"#;

const STRIP: &str = "sed 's/#.*//; /^$/d' \"$1\" | while read -r line; do echo \"{\\\"line\\\": \\\"$line\\\"}\"; done > \"$2/rows.jsonl\"\n";

/// The sum of an input, under a name; $4 seconds after having written half of something. Further arguments are ignored.
const SUM: &str = "\
if [ \"$4\" -gt 0 ]; then printf half > \"$2/part\"; sleep \"$4\"; rm \"$2/part\"; fi\n\
echo \"{\\\"$3\\\": \\\"$(cat \"$1\"/*.parquet | cksum)\\\"}\" > \"$2/rows.jsonl\"\n";

fn chain() -> Project {
    let project = Project::new();
    project.write("strip.sh", STRIP);
    project.write("sum.sh", SUM);
    project.write("src.txt", "x=1\n#c1\n");
    project.write("pipeline.yaml", &CHAIN.replace("SLEEP", "\"0\""));
    project
}

#[test]
fn a_first_run_runs_everything_and_a_second_nothing() {
    let project = chain();
    assert_eq!(project.ran(&[]), "a b c");
    assert_eq!(project.ran(&[]), "-");
}

#[test]
fn touching_a_source_runs_nothing() {
    let project = chain();
    project.ran(&[]);
    let later = SystemTime::now() + Duration::from_secs(5);
    File::options()
        .write(true)
        .open(project.path("src.txt"))
        .unwrap()
        .set_times(FileTimes::new().set_modified(later))
        .unwrap();
    assert_eq!(project.ran(&[]), "-");
}

#[test]
fn an_edit_that_leaves_a_result_as_it_was_stops_there() {
    let project = chain();
    project.ran(&[]);
    project.write("src.txt", "x=1\n#c2\n");
    assert!(project.explain("a").contains("sources.files.src: content"), "{}", project.explain("a"));
    assert!(project.explain("c").contains("because in a: sources.files.src"), "{}", project.explain("c"));
    assert_eq!(project.ran(&[]), "a");
    assert_eq!(project.ran(&[]), "-");
}

#[test]
fn a_real_edit_runs_what_depends_on_it_and_undoing_it_nothing() {
    let project = chain();
    project.ran(&[]);
    let before = project.digests();
    project.write("src.txt", "x=2\n#c1\n");
    assert_eq!(project.ran(&[]), "a b c");
    assert_ne!(project.digests(), before);
    project.write("src.txt", "x=1\n#c1\n");
    assert_eq!(project.ran(&[]), "-");
    assert_eq!(project.digests(), before);
}

#[test]
fn an_edited_command_runs_again_and_undoing_it_runs_nothing() {
    let project = chain();
    project.ran(&[]);
    let text = CHAIN.replace("SLEEP", "\"0\"");
    project.write("pipeline.yaml", &text.replace("K1", "K2"));
    let why = project.explain("b");
    assert!(why.contains("config.argv[6]: ") && why.contains("K1") && why.contains("K2"), "{why}");
    // The changed argument is one that the script ignores: b gives the same rows, and c is cut off.
    assert_eq!(project.ran(&[]), "b");
    project.write("pipeline.yaml", &text);
    assert_eq!(project.ran(&[]), "-");
}

fn unlock(path: &Path) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_deleted_result_is_made_again() {
    let project = chain();
    project.ran(&[]);
    let before = project.digests();
    let object = project.object("b");
    unlock(&object);
    std::fs::remove_dir_all(&object).unwrap();
    assert_eq!(project.ran(&[]), "b");
    assert_eq!(project.digests(), before);
}

/// Changes a byte of an object's only data file, keeping its length.
fn tamper(object: &Path) {
    unlock(object);
    let file = std::fs::read_dir(object)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|e| e == "parquet"))
        .unwrap();
    unlock(&file);
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&file, bytes).unwrap();
}

#[test]
fn a_tampered_result_is_set_aside_and_made_again() {
    for stage in ["c", "b"] {
        let project = chain();
        project.ran(&[]);
        let before = project.digests();
        tamper(&project.object(stage));
        let ran = project.mediant(&["run", "pipeline.yaml"]);
        assert_eq!(ran.code, Some(0));
        assert!(ran.stderr.contains(&format!("damaged   {stage}")), "{}", ran.stderr);
        assert_eq!(project.digests(), before);
        assert_eq!(project.ran(&[]), "-");
    }
}

#[test]
fn a_run_killed_in_the_middle_leaves_nothing_half_done() {
    let project = chain();
    project.write("pipeline.yaml", &CHAIN.replace("SLEEP", "\"30\""));
    let mut run = project.command(&["run", "pipeline.yaml"]).stderr(std::process::Stdio::null()).spawn().unwrap();
    let tmp = project.path(".mediant/tmp");
    let half = || glob_half(&tmp);
    let start = Instant::now();
    while !half() {
        assert!(start.elapsed() < Duration::from_secs(20), "b never began");
        std::thread::sleep(Duration::from_millis(20));
    }
    run.kill().unwrap();
    run.wait().unwrap();
    project.write("pipeline.yaml", &CHAIN.replace("SLEEP", "\"0\""));
    assert_eq!(project.ran(&[]), "b c");
    assert_eq!(
        std::fs::read_dir(project.path(".mediant/locks"))
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name() != "VERSION"
                && entry.as_ref().unwrap().file_name() != "store")
            .count(),
        0
    );
}

/// Whether some program has written its half of an output.
fn glob_half(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| entry.file_name() == "part" || (entry.path().is_dir() && glob_half(&entry.path())))
}

#[test]
fn a_copied_project_runs_nothing() {
    let project = chain();
    project.ran(&[]);
    let copy = Project::new();
    let status =
        std::process::Command::new("cp").arg("-r").arg(project.path(".")).arg(copy.path("copy")).status().unwrap();
    assert!(status.success());
    let ran = copy.mediant(&["run", "copy/pipeline.yaml", "--json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let last = ran.events().pop().unwrap();
    assert_eq!((&last["ran"], &last["cached"]), (&0.into(), &3.into()));
}

#[test]
fn a_source_that_changes_while_its_stage_runs_is_not_cached() {
    let project = chain();
    project.write("strip.sh", &format!("echo '#more' >> \"$1\"\n{STRIP}"));
    let ran = project.mediant(&["run", "pipeline.yaml"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("changed while the stage ran"), "{}", ran.stderr);
    project.write("src.txt", "x=1\n#c1\n");
    project.write("strip.sh", STRIP);
    // Neither the old content nor the new one has a result of a.
    assert_eq!(project.ran(&[]), "a");
}

//! Other processes: this test binary, run again with a task in its environment.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use mediant_store::{Store, Written};

use super::common::{key, publish, record};

const TASK: &str = "MEDIANT_STORE_TEST_TASK";
const STORE: &str = "MEDIANT_STORE_TEST_STORE";
/// How many actions a child works through.
pub(crate) const ACTIONS: usize = 40;

pub(crate) fn start(task: &str, store: &Store) -> Child {
    command(task, store).spawn().unwrap()
}

pub(crate) fn command(task: &str, store: &Store) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "suite::child::child", "--nocapture"]);
    command.env(TASK, task).env(STORE, store.root());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command
}

/// Waits until the child says a word, and returns the rest of its line.
pub(crate) fn hear(child: &mut Child, word: &str) -> String {
    let mut output = BufReader::new(child.stdout.as_mut().unwrap());
    let mut line = String::new();
    loop {
        line.clear();
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "the child ended before it said {word}");
        if let Some((_, rest)) = line.split_once(word) {
            return rest.trim().to_owned();
        }
    }
}

/// Not a test by itself: what a child does.
#[test]
fn child() {
    let (Ok(task), Some(root)) = (std::env::var(TASK), std::env::var_os(STORE)) else {
        return;
    };
    let store = Store::open(&PathBuf::from(root)).unwrap();
    match task.as_str() {
        "work" => work(&store),
        "hold" => {
            let _action = store.lock_action(key(0), || ()).unwrap();
            let _run = store.shared_lock(|| ()).unwrap();
            let staging = store.stage_dir("held").unwrap();
            std::fs::write(staging.path().join("half"), "half").unwrap();
            say(&format!("HELD {}", staging.path().display()));
            // Until told to end, or killed.
            let _ = std::io::stdin().read_line(&mut String::new());
        }
        "count" => {
            for _ in 0..50 {
                let _lock = store.lock_action(key(0), || ()).unwrap();
                let path = store.root().join("count");
                let count: u64 = std::fs::read_to_string(&path).unwrap_or_default().parse().unwrap_or(0);
                std::fs::write(&path, (count + 1).to_string()).unwrap();
            }
        }
        "write" => match super::common::try_publish(&store, "a") {
            Ok(_) => say("WROTE"),
            Err(error) => say(&format!("REFUSED {error}")),
        },
        "fill" => super::disk::fill(&store),
        other => panic!("no task {other}"),
    }
}

/// Finishes every action that is not finished, as a worker does; says how often it was the first.
fn work(store: &Store) {
    let _run = store.shared_lock(|| ()).unwrap();
    let mut first = 0;
    for n in 0..ACTIONS {
        let _lock = store.lock_action(key(n), || ()).unwrap();
        if store.read_action(key(n)).unwrap().is_some() {
            continue;
        }
        let checkpoints = store.checkpoints(key(n), "cpu");
        checkpoints.save(|dir| std::fs::write(dir.join("state"), "half")).unwrap();
        let record = record(publish(store, &n.to_string()), &std::process::id().to_string());
        first += usize::from(store.write_action(key(n), &record).unwrap() == Written::First);
        checkpoints.clear().unwrap();
    }
    say(&format!("FIRST {first}"));
}

fn say(text: &str) {
    let mut output = std::io::stdout().lock();
    writeln!(output, "\n{text}").unwrap();
    output.flush().unwrap();
}

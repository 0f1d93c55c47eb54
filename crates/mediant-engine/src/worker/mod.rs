//! The worker process: takes actions from its run over a socket, does them, answers with events.
//!
//! The socket is the process's standard input, so that it closes when the run dies, however it dies; the worker then
//! exits at once. Standard output and error belong to whatever the stage calls, and go to the action's log.

mod action;
mod host;

use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use mediant_store::{StatIndex, Store};

use crate::catalogue::Catalogue;
use crate::context::Reporter;
use crate::protocol::{Answer, Reply, Request};

static CANCEL: AtomicBool = AtomicBool::new(false);

/// Runs a worker until its run closes the connection. `store` is the store's folder.
///
/// # Errors
/// Describes what made the worker unusable; its run then sees the connection close.
pub fn serve(catalogue: &Catalogue, store: &Path) -> Result<(), String> {
    let socket = take_stdin().map_err(|error| format!("no connection to a run: {error}"))?;
    // A run must survive its workers: when memory is short the kernel is to take a worker first.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let store = Store::open(store).map_err(|error| error.to_string())?;
    // Held as long as the process lives, so that gc waits even for a worker whose run was killed.
    let _shared = store.shared_lock(|| ()).map_err(|error| error.to_string())?;
    let stats = StatIndex::load(&store);
    let reader = socket.try_clone().map_err(|error| error.to_string())?;
    let replies = Replies(Arc::new(Mutex::new(socket)));

    let (sender, requests) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(reader).lines() {
            let Ok(line) = line else { break };
            match serde_json::from_str(&line) {
                Ok(Request::Run(actions)) => {
                    CANCEL.store(false, Ordering::Relaxed);
                    if sender.send(actions).is_err() {
                        break;
                    }
                }
                Ok(Request::Cancel) => CANCEL.store(true, Ordering::Relaxed),
                Err(_) => break,
            }
        }
        // The run is gone. Whatever is under way is abandoned; its staging folder is removed by the next process.
        std::process::exit(0);
    });
    let mut pools = Pools::default();
    for actions in requests {
        action::Worker { catalogue, store: &store, stats: &stats, replies: &replies }.perform(&actions, &mut pools);
    }
    Ok(())
}

/// The connection, moved away from descriptor 0 so that no library can read from it. Programs that a stage starts do not
/// inherit it: they would keep it open after the worker's death.
fn take_stdin() -> std::io::Result<UnixStream> {
    let socket: OwnedFd = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let null: OwnedFd = std::fs::File::open("/dev/null")?.into();
    rustix::stdio::dup2_stdin(&null)?;
    Ok(UnixStream::from(socket))
}

/// The way back to the run.
#[derive(Clone)]
struct Replies(Arc<Mutex<UnixStream>>);

impl Replies {
    fn send(&self, member: usize, reply: Reply) {
        let Ok(mut line) = serde_json::to_vec(&Answer { member, reply }) else { return };
        line.push(b'\n');
        // A run that is gone is noticed by the reading thread.
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line);
    }
}

/// Sends progress at most ten times a second.
struct Throttled {
    replies: Replies,
    member: usize,
    last: Mutex<Option<Instant>>,
}

impl Reporter for Throttled {
    fn progress(&self, done: u64, total: u64, unit: &str) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| last.elapsed() < Duration::from_millis(100)) && done != total {
            return;
        }
        *last = Some(Instant::now());
        self.replies.send(self.member, Reply::Progress { done, total, unit: unit.to_owned() });
    }

    fn note(&self, text: &str) {
        self.replies.send(self.member, Reply::Note(text.to_owned()));
    }
}

/// Thread pools by size; an action runs inside one of its own size, so that libraries that ask rayon see that size.
#[derive(Default)]
struct Pools(Vec<(usize, rayon::ThreadPool)>);

impl Pools {
    fn of(&mut self, threads: usize) -> Result<&rayon::ThreadPool, rayon::ThreadPoolBuildError> {
        let index = match self.0.iter().position(|(size, _)| *size == threads) {
            Some(index) => index,
            None => {
                self.0.push((threads, rayon::ThreadPoolBuilder::new().num_threads(threads).build()?));
                self.0.len() - 1
            }
        };
        Ok(&self.0[index].1)
    }
}

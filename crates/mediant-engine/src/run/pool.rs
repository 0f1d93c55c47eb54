//! Worker processes: started when needed, kept between actions, renewed when they grew or died.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;

use crate::error::{Error, Result};
use crate::protocol::{Answer, Request};

/// A worker whose resident memory is above this after an action is replaced by a fresh one, so that what one stage
/// leaves behind does not add up over a run.
const RENEW_ABOVE: u64 = 1 << 30;

/// What reaches the run's loop.
pub(super) enum Message {
    /// A worker said something.
    Answer(usize, Answer),
    /// A worker's connection closed.
    Gone(usize),
    /// Ctrl-C or a request to terminate.
    Interrupt,
}

/// How to start a worker.
#[derive(Debug, Clone)]
pub struct WorkerCommand {
    /// The program; normally the running one.
    pub program: PathBuf,
    /// Its arguments before the store's folder.
    pub args: Vec<String>,
}

impl WorkerCommand {
    /// `PROGRAM worker STORE` of the running program.
    ///
    /// # Errors
    /// If the program's own path is unknown.
    pub fn current() -> Result<Self> {
        let program = std::env::current_exe()
            .map_err(|error| Error::Worker(format!("the program's own path is unknown: {error}")))?;
        Ok(Self { program, args: vec!["worker".to_owned()] })
    }
}

/// The workers of a run. Each has a number that is never used twice.
pub(super) struct Pool {
    command: WorkerCommand,
    store: PathBuf,
    messages: Sender<Message>,
    workers: Vec<Worker>,
    next: usize,
}

struct Worker {
    number: usize,
    child: Child,
    socket: UnixStream,
    busy: bool,
}

impl Pool {
    pub(super) fn new(command: WorkerCommand, store: &Path, messages: Sender<Message>) -> Self {
        Self { command, store: store.to_owned(), messages, workers: Vec::new(), next: 0 }
    }

    /// Gives a request to an idle worker, or to a new one; returns its number.
    pub(super) fn give(&mut self, request: &Request) -> Result<usize> {
        let mut line = serde_json::to_vec(request).map_err(|error| Error::Worker(error.to_string()))?;
        line.push(b'\n');
        while let Some(worker) = self.workers.iter_mut().find(|worker| !worker.busy) {
            if worker.socket.write_all(&line).is_ok() {
                worker.busy = true;
                return Ok(worker.number);
            }
            // It died while idle; its `Gone` is on the way, and nobody waits for it.
            let number = worker.number;
            self.remove(number);
        }
        let mut worker = self.start()?;
        worker.socket.write_all(&line).map_err(|error| Error::Worker(format!("it does not listen: {error}")))?;
        worker.busy = true;
        let number = worker.number;
        self.workers.push(worker);
        Ok(number)
    }

    fn start(&mut self) -> Result<Worker> {
        let failed = |what: &str, error: std::io::Error| Error::Worker(format!("{what}: {error}"));
        let (ours, theirs) = UnixStream::pair().map_err(|error| failed("no socket", error))?;
        let child = Command::new(&self.command.program)
            .args(&self.command.args)
            .arg(&self.store)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A group of its own: Ctrl-C goes to the run alone, which then stops its workers in order.
            .process_group(0)
            .spawn()
            .map_err(|error| failed(&format!("cannot start {}", self.command.program.display()), error))?;
        self.next += 1;
        let number = self.next;
        let reader = ours.try_clone().map_err(|error| failed("no socket", error))?;
        let messages = self.messages.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines() {
                let Some(answer) = line.ok().and_then(|line| serde_json::from_str(&line).ok()) else { break };
                if messages.send(Message::Answer(number, answer)).is_err() {
                    return;
                }
            }
            let _ = messages.send(Message::Gone(number));
        });
        Ok(Worker { number, child, socket: ours, busy: false })
    }

    /// A worker has ended what it was given; `resident` is its memory now.
    pub(super) fn idle(&mut self, number: usize, resident: u64) {
        if resident > RENEW_ABOVE {
            self.kill(number);
        } else if let Some(worker) = self.workers.iter_mut().find(|worker| worker.number == number) {
            worker.busy = false;
        }
    }

    /// Asks every busy worker to stop when it next can.
    pub(super) fn cancel(&mut self) {
        let Ok(mut line) = serde_json::to_vec(&Request::Cancel) else { return };
        line.push(b'\n');
        for worker in self.workers.iter_mut().filter(|worker| worker.busy) {
            // One that is gone is noticed by its reading thread.
            let _ = worker.socket.write_all(&line);
        }
    }

    /// Ends a worker at once, with what it has started.
    pub(super) fn kill(&mut self, number: usize) {
        if let Some(mut worker) = self.remove(number) {
            end(&mut worker);
        }
    }

    /// Ends all workers at once.
    pub(super) fn kill_all(&mut self) {
        for mut worker in self.workers.drain(..) {
            end(&mut worker);
        }
    }

    /// Says what became of a worker whose connection closed.
    pub(super) fn bury(&mut self, number: usize) -> String {
        let Some(mut worker) = self.remove(number) else { return "the worker is gone".to_owned() };
        let status = worker.child.wait();
        end(&mut worker);
        status.map_or_else(|error| format!("the worker is gone: {error}"), cause_of_death)
    }

    fn remove(&mut self, number: usize) -> Option<Worker> {
        let index = self.workers.iter().position(|worker| worker.number == number)?;
        Some(self.workers.swap_remove(index))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Idle workers would exit by themselves when their connection closes; a busy one must not go on unseen.
        self.kill_all();
    }
}

/// Kills a worker's process group (the worker and programs it runs) and reaps the worker.
fn end(worker: &mut Worker) {
    if let Some(group) = i32::try_from(worker.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = worker.child.kill();
    let _ = worker.child.wait();
}

fn cause_of_death(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(9), _) => "the worker was killed (signal 9); the usual cause is that memory ran out: see `resources: { memory: … }`, --jobs 1, a smaller batch or a smaller model".to_owned(),
        (Some(signal), _) => format!("the worker crashed with signal {signal}{}", if status.core_dumped() { " (core dumped)" } else { "" }),
        (None, Some(code)) => format!("the worker exited with code {code} in the middle of the action"),
        (None, None) => "the worker is gone".to_owned(),
    }
}

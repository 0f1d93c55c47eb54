//! How actions end: by an answer, with their worker, at a deadline, by Ctrl-C.

use std::time::Instant;

use mediant_artifact::MANIFEST;

use super::{GRACE, Run, Running};
use crate::error::Result;
use crate::events::{Event, Hit};
use crate::plan::{Known, Made};
use crate::protocol::{Answer, Done, Reply};

impl Run<'_> {
    pub(super) fn answer(&mut self, worker: usize, Answer { member, reply }: Answer) -> Result<()> {
        let this = |running: &Running| (running.worker, running.member) == (worker, member);
        let Some(position) = self.running.iter().position(this) else { return Ok(()) };
        let index = self.running[position].instance;
        let stage = self.label(index);
        match reply {
            Reply::Waiting => self.emit(Event::Waiting { stage }),
            Reply::Progress { done, total, unit } => self.emit(Event::Progress { stage, done, total, unit }),
            Reply::Note(text) => self.emit(Event::Note { stage, text }),
            Reply::Done(done) => {
                self.over(position, done.resident);
                self.done(index, *done)?;
            }
            Reply::Failed { error, cancelled } => {
                self.over(position, 0);
                if !(cancelled && self.stop.is_some()) {
                    self.fail(index, error);
                }
            }
        }
        Ok(())
    }

    /// An action is over; its worker is free when all that it was given are.
    fn over(&mut self, position: usize, resident: u64) {
        let Running { worker, instance, .. } = self.running.swap_remove(position);
        self.queue.release(instance);
        if self.running.iter().all(|running| running.worker != worker) {
            self.pool.idle(worker, resident);
        }
    }

    fn done(&mut self, index: usize, done: Done) -> Result<()> {
        let (stage, key) = (self.label(index), self.plan.instances[index].recipe);
        if done.hit {
            self.outcome.cached += 1;
            self.emit(Event::Cached { stage: stage.clone(), key, how: Hit::OtherRun });
        } else {
            self.outcome.ran += 1;
            self.emit(Event::Finished {
                stage: stage.clone(),
                key,
                seconds: done.seconds,
                peak_memory: done.peak_memory,
            });
        }
        if let Some(path) = done.source_changed {
            let reason =
                format!("{path} changed while the stage ran; the result is used in this run and not kept for the next");
            self.emit(Event::NotCached { stage: stage.clone(), reason });
        }
        if let Some(path) = &done.divergent {
            self.emit(Event::Divergent { stage, key, aside: path.display().to_string() });
        }
        self.record.tidy_log(&self.plan.instances[index].label);
        // So that the next run need not read again what was just written. Of a divergent result an older one stays.
        if done.divergent.is_none() {
            for output in done.outputs.values() {
                self.plan.store.note_published(output.object, MANIFEST, &output.files, &self.plan.stats)?;
            }
        }
        let made = Made { device: self.options.device.kind().to_owned(), metrics: done.metrics };
        self.judge.learn(index, Known::new(&done.outputs, made));
        let ready = self.settle(index);
        self.consider(ready)
    }

    fn fail(&mut self, index: usize, error: String) {
        self.outcome.failed += 1;
        self.settled[index] = true;
        let log = self.record.log(&self.plan.instances[index].label).display().to_string();
        self.emit(Event::Failed { stage: self.label(index), error, log });
    }

    /// A worker died. That is the only cause that may be transient: what a stage itself reports would happen again.
    pub(super) fn gone(&mut self, worker: usize) -> Result<()> {
        let cause = self.pool.bury(worker);
        let (lost, running): (Vec<_>, Vec<_>) = self.running.drain(..).partition(|running| running.worker == worker);
        self.running = running;
        let together = lost.len() > 1;
        for Running { instance: index, .. } in lost {
            self.queue.release(index);
            if self.stop.is_some() {
                continue;
            }
            let retries =
                self.plan.pipeline.stages[self.plan.instances[index].decl].retries.unwrap_or(self.options.retries);
            if together || self.attempts[index] <= retries {
                self.emit(Event::Retry {
                    stage: self.label(index),
                    attempt: self.attempts[index],
                    error: cause.clone(),
                });
                self.queue.push(index);
            } else {
                self.fail(index, cause.clone());
            }
            if together {
                // What happened to the gang does not count for any of them.
                self.alone[index] = true;
                self.attempts[index] -= 1;
            }
        }
        Ok(())
    }

    pub(super) fn interrupt(&mut self) {
        if self.stop.is_none() {
            self.outcome.interrupted = true;
            self.emit(Event::Interrupted);
            self.pool.cancel();
            self.stop = Some(Instant::now() + GRACE);
        } else {
            self.abandon();
        }
    }

    fn abandon(&mut self) {
        self.pool.kill_all();
        self.running.clear();
    }

    /// A deadline has passed: that of the whole run's stop, or of an action.
    pub(super) fn late(&mut self) -> Result<()> {
        let now = Instant::now();
        if self.stop.is_some_and(|stop| stop <= now) {
            self.abandon();
            return Ok(());
        }
        while let Some(position) =
            self.running.iter().position(|running| running.deadline.is_some_and(|deadline| deadline <= now))
        {
            let Running { worker, instance, .. } = self.running.swap_remove(position);
            self.pool.kill(worker);
            self.queue.release(instance);
            self.fail(instance, "it took longer than its `timeout`".to_owned());
        }
        Ok(())
    }
}

//! Running a plan: ready actions go to workers, results become known, what depends on them becomes ready.

mod actions;
mod endings;
mod pool;
mod queue;

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use petgraph::graph::NodeIndex;

use crate::context::Device;
use crate::error::Result;
use crate::events::{Event, EventSink, Hit};
use crate::plan::{Judge, Known, Plan, Status, Why, id};
use crate::protocol::Request;
use crate::record::RunRecord;

pub use pool::WorkerCommand;
use pool::{Message, Pool};
use queue::{Need, Queue};

/// How long a worker may take to stop after the first Ctrl-C before it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// What a user asks of a run.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Actions at a time.
    pub jobs: usize,
    /// Threads for all actions together.
    pub cpus: usize,
    /// Where stages compute.
    pub device: Device,
    /// Whether a result made on another kind of device counts as missing.
    pub device_strict: bool,
    /// Stages or instances to compute again.
    pub force: Vec<String>,
    /// How often an action whose worker died is tried again, where the pipeline does not say.
    pub retries: u32,
    /// How to start workers.
    pub worker: WorkerCommand,
}

/// How a run went.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Actions executed.
    pub ran: usize,
    /// Actions whose result was there.
    pub cached: usize,
    /// Actions that failed.
    pub failed: usize,
    /// Actions not tried because of that, or because the run was stopped.
    pub skipped: usize,
    /// Whether the run was stopped by the user.
    pub interrupted: bool,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// The result of every instance that has one, by index.
    pub known: Vec<Option<Known>>,
}

/// Runs a plan. `interrupts` yields once for every Ctrl-C.
///
/// # Errors
/// If the store or the workers cannot be used at all; failures of stages are part of the outcome.
pub fn run(
    plan: &Plan,
    options: &RunOptions,
    record: &RunRecord,
    sink: &mut dyn EventSink,
    interrupts: Receiver<()>,
) -> Result<Outcome> {
    let started = Instant::now();
    let _shared = plan.store.shared_lock(|| tracing::warn!("waiting for `mediant gc` to finish"))?;
    let (sender, messages) = channel();
    forward_interrupts(interrupts, sender.clone());
    let mut forced = BTreeSet::new();
    for selector in &options.force {
        forced.extend(plan.select(selector)?);
    }
    let judge = Judge::new(plan, forced.clone(), options.device_strict.then_some(options.device))?;
    let mut run = Run {
        plan,
        options,
        record,
        sink,
        judge,
        forced,
        pool: Pool::new(options.worker.clone(), plan.store.root(), sender),
        queue: Queue::new(plan, options),
        waiting: plan
            .graph
            .node_indices()
            .map(|node| plan.graph.neighbors_directed(node, petgraph::Incoming).count())
            .collect(),
        running: Vec::new(),
        attempts: vec![0; plan.instances.len()],
        alone: vec![false; plan.instances.len()],
        settled: vec![false; plan.instances.len()],
        outcome: Outcome::default(),
        stop: None,
    };
    run.emit(Event::RunStarted {
        run: record.name().to_owned(),
        pipeline: plan.pipeline.name.clone(),
        store: plan.store.root().display().to_string(),
        instances: plan.wanted.iter().filter(|wanted| **wanted).count(),
        jobs: options.jobs,
        device: options.device.to_string(),
    });
    run.work(&messages)?;
    let Run { mut outcome, judge, .. } = run;
    outcome.seconds = started.elapsed().as_secs_f64();
    outcome.known = judge.into_known();
    sink.event(&Event::RunFinished {
        ran: outcome.ran,
        cached: outcome.cached,
        failed: outcome.failed,
        skipped: outcome.skipped,
        seconds: outcome.seconds,
    });
    Ok(outcome)
}

fn forward_interrupts(interrupts: Receiver<()>, sender: Sender<Message>) {
    std::thread::spawn(move || while interrupts.recv().is_ok() && sender.send(Message::Interrupt).is_ok() {});
}

struct Run<'a> {
    plan: &'a Plan,
    options: &'a RunOptions,
    record: &'a RunRecord,
    sink: &'a mut dyn EventSink,
    judge: Judge<'a>,
    forced: BTreeSet<usize>,
    pool: Pool,
    queue: Queue,
    /// Producers of an instance that are not settled yet.
    waiting: Vec<usize>,
    running: Vec<Running>,
    attempts: Vec<u32>,
    /// Instances that a gang lost its worker with: each is tried again by itself, so that one of them cannot fail the others.
    alone: Vec<bool>,
    /// Whether an instance's fate is decided: done, failed or skipped.
    settled: Vec<bool>,
    outcome: Outcome,
    /// Set by the first Ctrl-C: when running workers are killed.
    stop: Option<Instant>,
}

struct Running {
    worker: usize,
    /// Its place in what the worker was given.
    member: usize,
    instance: usize,
    deadline: Option<Instant>,
}

impl Run<'_> {
    fn emit(&mut self, event: Event) {
        self.sink.event(&event);
    }

    fn label(&self, instance: usize) -> String {
        self.plan.instances[instance].label.clone()
    }

    fn work(&mut self, messages: &Receiver<Message>) -> Result<()> {
        let ready: Vec<usize> = (0..self.plan.instances.len())
            .filter(|index| self.plan.wanted[*index] && self.waiting[*index] == 0)
            .collect();
        self.consider(ready)?;
        loop {
            self.dispatch()?;
            if self.running.is_empty() {
                break;
            }
            let next = [self.stop, self.running.iter().filter_map(|running| running.deadline).min()]
                .into_iter()
                .flatten()
                .min();
            let message = match next {
                None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => messages.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match message {
                Ok(Message::Answer(worker, answer)) => self.answer(worker, answer)?,
                Ok(Message::Gone(worker)) => self.gone(worker)?,
                Ok(Message::Interrupt) => self.interrupt(),
                Err(RecvTimeoutError::Timeout) => self.late()?,
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // What is neither done nor failed waited for something that is not coming.
        for index in 0..self.plan.instances.len() {
            if self.plan.wanted[index] && !self.settled[index] {
                self.outcome.skipped += 1;
                let because =
                    if self.outcome.interrupted { "the run was stopped" } else { "a stage that it needs failed" };
                self.emit(Event::Skipped { stage: self.label(index), because: because.to_owned() });
            }
        }
        Ok(())
    }

    /// Decides about instances whose producers are all done, and about what that makes ready in turn.
    fn consider(&mut self, mut ready: Vec<usize>) -> Result<()> {
        ready.reverse();
        while let Some(index) = ready.pop() {
            match self.judge.decide(index)? {
                Status::Cached(_, how) => {
                    self.outcome.cached += 1;
                    let key = self.plan.instances[index].recipe;
                    if how == Hit::Content {
                        self.adopt(index)?;
                    }
                    self.emit(Event::Cached { stage: self.label(index), key, how });
                    ready.extend(self.settle(index));
                }
                Status::Run(why) => {
                    if let Why::Damaged { object, reason } = &why {
                        self.plan.store.quarantine(*object, reason)?;
                        self.emit(Event::Damaged { stage: self.label(index), reason: reason.clone() });
                    }
                    self.queue.push(index);
                }
                // Cannot be: all producers are done. A worker that left out an output was refused.
                Status::Depends(_) => self.settled[index] = false,
            }
        }
        Ok(())
    }

    /// Marks an instance as done; returns what became ready by it.
    fn settle(&mut self, index: usize) -> Vec<usize> {
        self.settled[index] = true;
        let mut ready: Vec<usize> = Vec::new();
        for next in self.plan.graph.neighbors(NodeIndex::new(index)).map(NodeIndex::index) {
            self.waiting[next] -= 1;
            if self.waiting[next] == 0 && self.plan.wanted[next] {
                ready.push(next);
            }
        }
        ready.sort_unstable_by(|a, b| b.cmp(a));
        ready
    }

    /// Records under this recipe a result that another recipe led to, so that next time the recipe is enough.
    fn adopt(&mut self, index: usize) -> Result<()> {
        let (Some(content), Ok(inputs)) = (self.judge.content_key(index), self.judge.input_digests(index)) else {
            return Ok(());
        };
        if self.plan.store.is_read_only() {
            return Ok(());
        }
        let Some(found) = self.plan.store.read_content(id(content))? else { return Ok(()) };
        let Some(made) = self.plan.store.read_action(found.action)? else { return Ok(()) };
        let preimage = mediant_store::RawJson::new(&self.plan.preimage(index).to_json())?;
        let record = mediant_store::ActionRecord { preimage, inputs, ..made };
        self.plan.store.replace_action(id(self.plan.instances[index].recipe), &record)?;
        Ok(())
    }

    fn dispatch(&mut self) -> Result<()> {
        while self.stop.is_none() {
            let Some(first) = self.queue.pop() else { return Ok(()) };
            let gang = self.gang(first)?;
            let mut actions = Vec::with_capacity(gang.len());
            for &index in &gang {
                actions.push(self.action(index)?);
                self.attempts[index] += 1;
                let (key, attempt) = (self.plan.instances[index].recipe, self.attempts[index]);
                self.emit(Event::Started { stage: self.label(index), key, attempt });
                if let Some((asked, there)) = self.queue.short_of_memory(index) {
                    let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
                    let (asked, there) = (gib(asked), gib(there));
                    let text = format!(
                        "is expected to need {asked:.1} GiB of memory, and {there:.1} GiB were free at the start: it may be killed"
                    );
                    self.emit(Event::Note { stage: self.label(index), text });
                }
            }
            let worker = self.pool.give(&Request::Run(actions))?;
            for (member, instance) in gang.into_iter().enumerate() {
                let timeout = self.plan.pipeline.stages[self.plan.instances[instance].decl].timeout;
                let deadline = timeout.map(|timeout| Instant::now() + timeout);
                self.running.push(Running { worker, member, instance, deadline });
            }
        }
        Ok(())
    }
}

impl Queue {
    fn new(plan: &Plan, options: &RunOptions) -> Self {
        let cpus = options.cpus.max(options.jobs);
        // On a CPU nothing is computed on a GPU, whatever a stage would occupy there.
        let gpus = |asked| if options.device == Device::Cpu { 0 } else { asked };
        let needs = plan.instances.iter().map(|instance| Need {
            cpus: instance.threads(cpus),
            memory: instance.resources.memory,
            gpus: gpus(instance.resources.gpus),
        });
        Self::of(needs.collect(), queue::priorities(plan), cpus, options.jobs)
    }
}

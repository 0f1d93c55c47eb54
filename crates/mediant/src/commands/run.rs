//! `mediant run`: does what of a pipeline is not done yet.

use std::io::IsTerminal;
use std::sync::mpsc::{Receiver, channel};

use clap::Args;
use mediant_engine::{Device, EventSink, Fanout, LockFile, Outcome, Plan, RunOptions, RunRecord, WorkerCommand};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::PipelineArgs;
use crate::exit::{CommandResult, Failure};
use crate::progress::{Bars, JsonLines, PlainLines, summary};

/// Runs what of a pipeline is not done yet, and writes its lock file.
///
/// Results are kept in the store; a stage runs again only when its options, inputs or outside files change.
/// Exit codes: 0 done, 1 a stage failed, 2 the pipeline is wrong, 130 interrupted.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  mediant run pipelines/quickstart.yaml\n  mediant run pipelines/quickstart.yaml sae --set stages.sae.with.steps=200\n  mediant run pipelines/quickstart.yaml --json | tail -n 1"
)]
pub(crate) struct Run {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Only these stages (or instances such as sae[seed=0]) and what they need
    #[arg(value_name = "STAGE")]
    targets: Vec<String>,
    /// Actions at a time [default: the number of CPUs]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Where stages compute: cpu, cuda, cuda:N [default: cuda:0 where there is one and this build knows CUDA, else cpu]
    #[arg(long, value_name = "DEVICE")]
    device: Option<Device>,
    /// Compute again what was computed on another kind of device
    #[arg(long)]
    device_strict: bool,
    /// Compute this stage again even if its result is there
    #[arg(long, value_name = "STAGE")]
    force: Vec<String>,
    /// How often an action whose worker died is tried again
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u32,
    /// Refuse to run anything but what the lock file says
    #[arg(long)]
    locked: bool,
    /// Let the pipeline run programs (`uses: command`)
    #[arg(long)]
    allow_command: bool,
    /// One JSON object a line for every event, on standard output
    #[arg(long)]
    json: bool,
    /// Say only what failed
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,
}

impl Run {
    pub(crate) fn run(self) -> CommandResult {
        init_log();
        let plan = self.pipeline.plan(&self.targets)?;
        let lock_path = LockFile::path(&self.pipeline.file);
        if self.locked {
            check_lock(&plan, &lock_path)?;
        }
        self.check_trust(&plan)?;
        let cpus = cpus();
        let options = RunOptions {
            jobs: self.jobs.map_or(cpus, usize::from),
            cpus,
            device: mediant_stages::choose_device(self.device).map_err(Failure::input)?,
            device_strict: self.device_strict,
            force: self.force.clone(),
            retries: self.retries,
            worker: WorkerCommand::current()?,
        };
        let outcome = self.execute(&plan, &options)?;
        plan.stats.save().unwrap_or_else(|error| tracing::warn!(%error, "the memory of file digests was not saved"));
        if !self.locked
            && self.targets.is_empty()
            && let Some(lock) = LockFile::of(&plan, &outcome.known)
            && let Err(error) = lock.write(&lock_path, &plan)
        {
            tracing::warn!(%error, "the lock file was not written");
        }
        match outcome {
            Outcome { interrupted: true, .. } => Err(Failure::Interrupted),
            Outcome { failed: 0, skipped: 0, .. } => Ok(()),
            Outcome { .. } => Err(Failure::Stage),
        }
    }

    fn execute(&self, plan: &Plan, options: &RunOptions) -> Result<Outcome, Failure> {
        let record = RunRecord::create(plan)?;
        let mut log = record.events()?;
        let mut shown: Box<dyn EventSink> = match (self.json, self.quiet) {
            (true, _) => Box::new(JsonLines::new()),
            (_, true) => Box::new(PlainLines::quiet()),
            _ if std::io::stderr().is_terminal() => Box::new(Bars::new()),
            _ => Box::new(PlainLines::new()),
        };
        let outcome =
            mediant_engine::run(plan, options, &record, &mut Fanout(vec![&mut log, &mut *shown]), interrupts()?)?;
        drop(shown);
        if !self.json && !self.quiet {
            summary(plan, &outcome);
        }
        Ok(outcome)
    }

    fn check_trust(&self, plan: &Plan) -> CommandResult {
        if self.allow_command || plan.project.config.allow_command {
            return Ok(());
        }
        match plan.program(mediant_stages::catalogue()) {
            None => Ok(()),
            Some(stage) => Err(Failure::Input(format!(
                "error: stage `{stage}` runs a program\nhelp: a pipeline may do so only when you trust it: add --allow-command, or `allow_command = true` to the project's mediant.toml\n"
            ))),
        }
    }
}

fn check_lock(plan: &Plan, path: &std::path::Path) -> CommandResult {
    let Some(lock) = LockFile::read(path)? else {
        return Err(Failure::Input(format!(
            "error: there is no lock file {}\nhelp: run once without --locked to write it\n",
            path.display()
        )));
    };
    let differences = lock.differences(plan);
    if differences.is_empty() {
        return Ok(());
    }
    let list: String = differences.iter().map(|difference| format!("  {difference}\n")).collect();
    Err(Failure::Input(format!("error: the pipeline is not what {} says; nothing was run\n{list}", path.display())))
}

/// Threads for all actions: RAYON_NUM_THREADS where it is set, as rayon itself would.
fn cpus() -> usize {
    let asked = std::env::var("RAYON_NUM_THREADS").ok().and_then(|count| count.parse().ok()).filter(|count| *count > 0);
    asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// Yields once for every Ctrl-C or SIGTERM.
fn interrupts() -> Result<Receiver<()>, Failure> {
    let (sender, receiver) = channel();
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if sender.send(()).is_err() {
                break;
            }
        }
    });
    Ok(receiver)
}

/// Warnings on standard error; more with RUST_LOG.
pub(crate) fn init_log() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .without_time()
        .with_target(false)
        .init();
}

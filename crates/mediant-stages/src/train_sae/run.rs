//! Trainings that see the same batches, step by step together.

use std::io;
use std::time::Instant;

use mediant_artifact::{ActivationsReader, HookFact, Tokens};
use mediant_dict::artifact::{Origin, write};
use mediant_dict::synth::{self, Generated};
use mediant_dict::train::{
    Activations, Batch, Cached, CpuLearner, EitherLearner, Estimates, Feed, Learner, Places, Trained, Trainer,
    not_on_devices,
};
use mediant_dict::{Error, TrainConfig, Training, Weights};
use mediant_engine::{GangDone, RunContext, StageError};
use mediant_lm::HookPoint;
use mediant_methods::Streamed;
use mediant_tensor::{Device, on_device};

use super::choose_hook;
use crate::device::compute_device;
use crate::model_input::loaded_facts;

type Context<'a> = RunContext<'a, TrainConfig>;

/// Trains all; `done` hears of each, by its place, as soon as it is over.
pub(super) fn train(members: &[Context<'_>], done: &mut GangDone<'_>) {
    let Some(first) = members.first() else { return };
    let mut gang = Gang { members, open: (0..members.len()).collect(), done };
    let ran = match (first.is_connected("model"), first.is_connected("truth")) {
        (true, _) => streamed(first, &mut gang),
        (_, true) => generated(first, &mut gang),
        _ => cached(first, &mut gang),
    };
    if let Err(error) = ran {
        gang.end_all(&error);
    }
}

/// On activations from a cache.
fn cached(first: &Context<'_>, gang: &mut Gang<'_, '_, '_>) -> Result<(), StageError> {
    let artifact = first.input("activations")?;
    let meta = ActivationsReader::open(&artifact)?.meta;
    let chosen = gang.choose(&meta.hooks);
    let source = Cached::open(&artifact, &names(&chosen))?;
    let origin = Origin {
        hook: String::new(),
        hook_out: None,
        model: meta.model,
        context: meta.context,
        prepend_bos: meta.prepend_bos,
    };
    gang.train(&source, &chosen, &origin)
}

/// On activations that a model computes on the way.
fn streamed(first: &Context<'_>, gang: &mut Gang<'_, '_, '_>) -> Result<(), StageError> {
    let artifact = first.input("model")?;
    let tokens = Tokens::read(&first.input("tokens")?)?;
    let chosen = gang.choose(&loaded_facts(&artifact)?.hooks);
    let points = names(&chosen).into_iter().map(str::parse).collect::<Result<Vec<HookPoint>, _>>()?;
    let origin = Origin {
        hook: String::new(),
        hook_out: None,
        model: first.input_digest("model")?,
        context: tokens.meta.context,
        prepend_bos: tokens.meta.prepend_bos,
    };
    let between = unless_cancelled(first);
    on_device!(compute_device(first.device()), C, device => {
        let model = mediant_lm::load::<C>(&artifact, &device)?;
        gang.train(&Streamed::new(model, tokens, points, between), &chosen, &origin)
    })
}

/// On vectors that are drawn from known features on the way.
fn generated(first: &Context<'_>, gang: &mut Gang<'_, '_, '_>) -> Result<(), StageError> {
    let generator = synth::artifact::read(&first.input("truth")?)?;
    let width = generator.config().hidden_dim;
    let chosen = gang.choose(&[HookFact { name: synth::HOOK.to_owned(), shape: vec![width] }]);
    let origin = Origin {
        hook: String::new(),
        hook_out: None,
        model: first.input_digest("truth")?,
        context: synth::EXAMPLE_ROWS as usize,
        prepend_bos: false,
    };
    gang.train(&Generated::new(&generator, unless_cancelled(first)), &chosen, &origin)
}

/// An error once the run is being cancelled.
fn unless_cancelled(first: &Context<'_>) -> impl Fn() -> mediant_dict::Result<()> + Sync + use<> {
    let cancel = first.cancel_flag();
    move || match cancel.load(std::sync::atomic::Ordering::Relaxed) {
        true => Err(Error::Stopped),
        false => Ok(()),
    }
}

/// Which training, by its place, is on which hook points.
struct Choice {
    place: usize,
    hook: String,
    hook_out: Option<String>,
}

type Chosen = Vec<Choice>;

/// The hook points, each once.
fn names(chosen: &Chosen) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for name in chosen.iter().flat_map(|choice| [&choice.hook].into_iter().chain(&choice.hook_out)) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names
}

struct Gang<'g, 'a, 'd> {
    members: &'g [Context<'a>],
    /// Places of those that are not over.
    open: Vec<usize>,
    done: &'g mut GangDone<'d>,
}

/// A training under way.
struct Member<L> {
    place: usize,
    training: Training,
    trainer: Trainer<L>,
    hook: String,
    hook_out: Option<String>,
}

impl<'a> Gang<'_, 'a, '_> {
    fn end(&mut self, place: usize, result: Result<(), StageError>) {
        self.open.retain(|open| *open != place);
        (self.done)(place, result);
    }

    fn end_all(&mut self, error: &StageError) {
        for place in self.open.clone() {
            let again = if error.is_cancelled() { StageError::cancelled() } else { StageError::new(error.to_string()) };
            self.end(place, Err(again));
        }
    }

    fn cancelled(&self) -> bool {
        self.members.iter().any(RunContext::cancelled)
    }

    /// The hook point of every training that there is one for.
    fn choose(&mut self, hooks: &[mediant_artifact::HookFact]) -> Chosen {
        let mut chosen = Chosen::new();
        for (place, cx) in self.members.iter().enumerate() {
            let config = cx.config();
            let hook = choose_hook("hook", config.hook.as_deref(), hooks).map(|hook| hook.name.clone());
            let out = config.hook_out.as_deref().map(|name| choose_hook("hook_out", Some(name), hooks));
            let hook_out = out.transpose().map(|out| out.map(|out| out.name.clone()));
            match hook.and_then(|hook| Ok((hook, hook_out?))) {
                Ok((hook, hook_out)) => chosen.push(Choice { place, hook, hook_out }),
                Err(_) => self.end(place, Err(StageError::new("there are no activations of the hook point"))),
            }
        }
        chosen
    }

    /// Trains on a source that has the chosen hook points, in the order of [`names`], with the learner of the device.
    fn train(&mut self, source: &dyn Activations, chosen: &Chosen, origin: &Origin) -> Result<(), StageError> {
        let Some(first) = self.members.first() else { return Ok(()) };
        match compute_device(first.device()) {
            // Sparse work with kernels of our own.
            Device::Cpu => self.train_with(source, chosen, origin, &CpuLearner::new),
            device => on_device!(device, C, handle => {
                let learner = |training: &Training, weights| EitherLearner::<C>::new(training, weights, &handle);
                self.train_with(source, chosen, origin, &learner)
            }),
        }
    }

    fn train_with<L: Learner>(
        &mut self,
        source: &dyn Activations,
        chosen: &Chosen,
        origin: &Origin,
        learner: &dyn Fn(&Training, Weights) -> L,
    ) -> Result<(), StageError> {
        let mut members = self.begin(source, chosen, learner);
        let Some(first) = members.first() else { return Ok(()) };
        let mut feed = Feed::new(source, &first.training);
        let mut saved = Instant::now();
        loop {
            let (over, rest): (Vec<_>, Vec<_>) = members.into_iter().partition(|member| member.trainer.is_done());
            members = rest;
            for member in over {
                let place = member.place;
                let written = self.write(member, origin);
                self.end(place, written);
            }
            // Those that were interrupted later wait for the others.
            let Some(step) = members.iter().map(|member| member.trainer.steps_done()).min() else { return Ok(()) };
            match feed.batch(step) {
                Ok(batch) => members.retain_mut(|member| self.step(member, step, batch)),
                Err(error) if !self.cancelled() => return Err(error.into()),
                // What was cancelled while it waited for data has something to save.
                Err(_) => {}
            }
            let cancelled = self.cancelled();
            let every = self.members.iter().map(RunContext::checkpoint_every).max().unwrap_or_default();
            if cancelled || saved.elapsed() > every {
                for member in &members {
                    let checkpoints = self.members[member.place].checkpoints();
                    checkpoints.save(|folder| member.trainer.save(folder).map_err(io::Error::other))?;
                }
                saved = Instant::now();
            }
            if cancelled {
                return Err(StageError::cancelled());
            }
        }
    }

    /// All trainings, new or from their checkpoints.
    fn begin<L: Learner>(
        &mut self,
        source: &dyn Activations,
        chosen: &Chosen,
        learner: &dyn Fn(&Training, Weights) -> L,
    ) -> Vec<Member<L>> {
        let names = names(chosen);
        let mut estimates = Estimates::new(source);
        let mut members = Vec::new();
        for Choice { place, hook, hook_out } in chosen {
            let begun = (|| {
                let cx = &self.members[*place];
                let training = resolve(cx.config())?;
                check_device(&training, cx)?;
                let index = |hook: &String| names.iter().position(|name| name == hook).unwrap_or(0);
                let read = index(hook);
                let places = Places { read, written: hook_out.as_ref().map_or(read, index) };
                announce(cx, &training, source, read);
                let trainer = match cx.checkpoints().latest()? {
                    Some(folder) => {
                        let trainer = Trainer::resume(training.clone(), places, source, &folder, learner)?;
                        cx.note(format!("goes on from its checkpoint after step {}", trainer.steps_done()));
                        trainer
                    }
                    None => match cx.optional("start")? {
                        None => Trainer::start(training.clone(), places, &mut estimates, learner)?,
                        Some(artifact) => {
                            let (sae, _) = mediant_dict::artifact::read(&artifact)?;
                            Trainer::start_from(&sae, training.clone(), places, &mut estimates, learner)?
                        }
                    },
                };
                Ok(Member { place: *place, training, trainer, hook: hook.clone(), hook_out: hook_out.clone() })
            })();
            match begun {
                Ok(member) => members.push(member),
                Err(error) => self.end(*place, Err(stopped_or(error, self.cancelled()))),
            }
        }
        members
    }

    /// The step of a training that has come to it; whether it goes on.
    fn step<L: Learner>(&mut self, member: &mut Member<L>, step: u64, batch: &Batch) -> bool {
        if member.trainer.steps_done() != step {
            return true;
        }
        if let Err(error) = member.trainer.step(batch) {
            self.end(member.place, Err(error.into()));
            return false;
        }
        self.members[member.place].progress(member.trainer.steps_done(), member.training.steps, "steps");
        true
    }

    fn write<L: Learner>(&self, member: Member<L>, origin: &Origin) -> Result<(), StageError> {
        let origin = Origin { hook: member.hook, hook_out: member.hook_out, ..origin.clone() };
        let cx = &self.members[member.place];
        let trained = member.trainer.finish()?;
        if let Some(note) = far_from_target(&member.training, &trained) {
            cx.note(note);
        }
        write(cx.output("sae")?, &trained, &member.training, &origin)?;
        Ok(())
    }
}

/// What to say where the wanted number of active latents was not reached: it takes a coefficient time to find its size.
fn far_from_target(training: &Training, trained: &Trained) -> Option<String> {
    let target = training.l0_target?;
    let l0 = trained.curve.iter().rfind(|row| row.name == "l0")?.value;
    let near = (l0 / target - 1.0).abs() <= 0.2;
    let why = "the coefficient was still on its way; begin with another one, or train longer";
    (!near).then(|| format!("L0 is {l0:.1} at the end, not the {target} of `l0_target`: {why}"))
}

/// An error of the source, which may be that nobody waits for it any more.
fn stopped_or(error: StageError, cancelled: bool) -> StageError {
    if cancelled { StageError::cancelled() } else { error }
}

fn resolve(config: &TrainConfig) -> Result<Training, StageError> {
    let joined = |wrong: Vec<mediant_dict::ConfigProblem>| {
        let messages: Vec<String> = wrong.into_iter().map(|wrong| wrong.message).collect();
        StageError::new(messages.join("; "))
    };
    config.resolve().map_err(joined)
}

/// Says what trains on the CPU on any device. The CPU's products are of f32 numbers, and slower of any other.
fn check_device(training: &Training, cx: &Context<'_>) -> Result<(), StageError> {
    let device = cx.device();
    if device != mediant_engine::Device::Cpu {
        if let Some(what) = not_on_devices(training) {
            cx.note(format!("{what} is trained by the CPU: there is no training of it for {}", device.kind()));
        }
        return Ok(());
    }
    let dtype = training.compute_dtype;
    if dtype.is_f32() {
        return Ok(());
    }
    let name = dtype.name();
    Err(StageError::new(format!(
        "`compute_dtype: {name}` is for a GPU, and this run computes on the CPU: run with --device cuda, or leave the option out"
    )))
}

fn announce(cx: &Context<'_>, training: &Training, source: &dyn Activations, hook: usize) {
    let rows = source.offsets().last().copied().unwrap_or(0);
    let (steps, batch, width) = (training.steps, training.batch, source.widths()[hook]);
    let epochs = (steps * batch as u64) as f64 / rows as f64;
    cx.note(format!("{steps} steps of {batch} on {rows} vectors of {width}: {epochs:.2} epochs"));
    if let Some(share) =
        training.objective.batch_choice().and_then(|choice| choice.start_left(steps)).filter(|left| *left > 0.05)
    {
        let why = "inference will have more active latents than k: train longer, or raise `topk_threshold_lr`";
        cx.note(format!(
            "the running threshold begins at 0 and will still hold {:.0} % of that at the end: {why}",
            100.0 * share
        ));
    }
}

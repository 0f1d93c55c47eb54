//! `train_sae`: a sparse autoencoder on cached activations.

use std::io;
use std::time::{Duration, Instant};

use mediant_artifact::{ActivationsFacts, ActivationsReader, DictionaryFacts, Facts, HookFact, Kind};
use mediant_dict::artifact::{Origin, write};
use mediant_dict::train::{Activations, Cached, CpuLearner, Trainer};
use mediant_dict::{ConfigProblem, TrainConfig, Training};
use mediant_engine::{
    Docs, InputFacts, Output, Port, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_spec::did_you_mean;

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct TrainSae;

const PORTS: &[Port] = &[Port::one("activations", &[Kind::Activations], "What it learns to reconstruct.")];

/// Least time between two checkpoints.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(30);

impl Stage for TrainSae {
    type Config = TrainConfig;
    const NAME: &'static str = "train_sae";
    const VERSION: u32 = 1;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Trains a sparse autoencoder on the activations of one hook point",
            details: DETAILS,
            example: "sae:\n  uses: train_sae\n  inputs: { activations: acts }\n  with: { sae: { architecture: topk, k: 32 }, d_sae: 2048, steps: 5000, batch: 1024, lr: 1e-3 }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, _: &TrainConfig) -> Vec<Output> {
        vec![Output::new("sae", Kind::Dictionary, "The autoencoder in its inference form, with the training curve.")]
    }

    fn check(&self, config: &TrainConfig) -> Result<(), Problems> {
        config.resolve().map(drop).map_err(problems)
    }

    fn infer(
        &self,
        config: &TrainConfig,
        inputs: &InputFacts,
        _: &SourcePaths,
    ) -> Result<Vec<(String, Facts)>, Problems> {
        let (Some(activations), Ok(training)) = (inputs.activations("activations"), config.resolve()) else {
            return Ok(Vec::new());
        };
        let hook = choose_hook(config.hook.as_deref(), &activations.hooks)?;
        let facts = DictionaryFacts {
            architecture: training.objective.activation().architecture().to_owned(),
            hook: hook.name.clone(),
            d_in: hook.width(),
            d_sae: training.d_sae,
        };
        Ok(vec![("sae".to_owned(), Facts::Dictionary(facts))])
    }

    fn resources(&self, config: &TrainConfig, inputs: &InputFacts) -> Resources {
        let width = inputs.activations("activations").map_or(0, widest);
        // Parameters, gradients and two moments of each; a piece of pre-activations; the batch a few times.
        let numbers = 8 * width * config.d_sae + (1 << 25) + 6 * width * config.batch;
        Resources { memory: 4 * numbers as u64, gpus: 0, ..Resources::all_cpus() }
    }

    fn run(&self, cx: &RunContext<'_, TrainConfig>) -> Result<(), StageError> {
        let training = cx
            .config()
            .resolve()
            .map_err(|wrong| StageError::new(wrong.iter().map(|w| &*w.message).collect::<Vec<_>>().join("; ")))?;
        let artifact = cx.input("activations")?;
        let meta = ActivationsReader::open(&artifact)?.meta;
        let hook = choose_hook(cx.config().hook.as_deref(), &meta.hooks)
            .map_err(|_| StageError::new("the activations lack the hook point"))?;
        let source = Cached::open(&artifact, &hook.name)?;
        announce(cx, &training, &source);

        let mut trainer = match cx.checkpoints().latest()? {
            Some(folder) => Trainer::resume(training.clone(), &source, &folder, CpuLearner::new)?,
            None => Trainer::start(training.clone(), &source, CpuLearner::new)?,
        };
        let mut saved = Instant::now();
        while !trainer.is_done() {
            trainer.step(&source)?;
            cx.progress(trainer.steps_done(), training.steps, "steps");
            let cancelled = cx.cancelled();
            if cancelled || saved.elapsed() > CHECKPOINT_EVERY {
                cx.checkpoints().save(|folder| trainer.save(folder).map_err(io::Error::other))?;
                saved = Instant::now();
            }
            if cancelled {
                return Err(StageError::cancelled());
            }
        }
        let origin =
            Origin { hook: hook.name.clone(), model: meta.model, context: meta.context, prepend_bos: meta.prepend_bos };
        write(cx.output("sae")?, &trainer.finish()?, &training, &origin)?;
        Ok(())
    }
}

/// The hook named, or the only one.
fn choose_hook<'h>(asked: Option<&str>, hooks: &'h [HookFact]) -> Result<&'h HookFact, Problems> {
    let names = || hooks.iter().map(|hook| hook.name.as_str());
    let hook = match (asked, hooks) {
        (None, [only]) => only,
        (None, _) => {
            let message =
                format!("the activations hold {} hook points, and `hook` does not say which to train on", hooks.len());
            return Err(Problems::config("", message)
                .help(format!("add `hook:`, one of {}", names().collect::<Vec<_>>().join(", "))));
        }
        (Some(name), _) => hooks.iter().find(|hook| hook.name == name).ok_or_else(|| {
            let problem = Problems::config("hook", format!("the activations do not hold `{name}`"));
            match did_you_mean(name, names()) {
                Some(near) => problem.help(format!("did you mean `{near}`?")),
                None => problem.help(format!("they hold {}", names().collect::<Vec<_>>().join(", "))),
            }
        })?,
    };
    match hook.shape[..] {
        [width] if width >= 2 => Ok(hook),
        _ => {
            let message =
                format!("`{}` has shape {:?}; an autoencoder needs one vector a position", hook.name, hook.shape);
            Err(if asked.is_some() {
                Problems::config("hook", message)
            } else {
                Problems::input("activations", message)
            })
        }
    }
}

fn widest(facts: &ActivationsFacts) -> usize {
    facts.hooks.iter().map(HookFact::width).max().unwrap_or(0)
}

fn problems(wrong: Vec<ConfigProblem>) -> Problems {
    let mut all = Problems::none();
    for ConfigProblem { path, message, help } in wrong {
        let problem = Problems::config(path, message);
        all.push(match help {
            Some(help) => problem.help(help),
            None => problem,
        });
    }
    all
}

fn announce(cx: &RunContext<'_, TrainConfig>, training: &Training, source: &Cached) {
    let rows = source.offsets().last().copied().unwrap_or(0);
    let seen = training.steps * training.batch as u64;
    cx.note(format!(
        "{} steps of {} on {rows} vectors of {}: {:.2} epochs",
        training.steps,
        training.batch,
        source.width(),
        seen as f64 / rows as f64
    ));
}

const DETAILS: &str = "\
With `x' = x − b_dec` (unless `apply_b_dec_to_input: false`), `z = x' W_enc + b_enc` and `x̂ = f W_dec + b_dec`, the families are:

- `relu`: `f = max(z, 0)`; loss `‖x − x̂‖² + λ Σ_i f_i ‖W_dec,i‖₂`, where λ is `l1`, rising from 0 over `l1_warm_up_steps`. This is \
  SAELens' `standard` (Anthropic, April 2024 update).
- `gated` (Rajamanoharan et al. 2024, arXiv:2404.16014): a gate `π = x' W_enc + b_gate` and a magnitude \
  `m = (x' W_enc) ⊙ exp(r_mag) + b_mag`; `f = max(m, 0)` where `π > 0`. Loss `‖x − x̂‖² + λ Σ_i max(π_i, 0) ‖W_dec,i‖₂ + ‖x − x̂_π‖²` \
  with `x̂_π = max(π, 0) W_dec + b_dec` and λ as for `relu`. As in SAELens, and unlike the paper, the last term trains W_dec and b_dec \
  too.
- `topk` (Gao et al. 2024, arXiv:2406.04093): the `k` largest `z_i ‖W_dec,i‖₂` of each vector (the largest `z_i` with \
  `rescale_acts_by_decoder_norm: false`) where they are positive; loss `‖x − x̂‖²` plus AuxK: the `d_in / 2` dead latents of the largest \
  pre-activations reconstruct the residual, `c · min(n_dead / (d_in / 2), 1) · ‖(x − x̂) − ê‖²` with c = `aux_loss_coefficient`.
- `batchtopk` (Bussmann et al. 2024, arXiv:2412.06410): as `topk`, but the `⌊k · batch⌋` largest of a whole batch, so that `k`, which may \
  be a fraction, is a mean. Which latents of a vector are active then depends on the batch it is in; so inference uses a threshold \
  instead: the running mean `θ ← (1 − r) θ + r · (smallest chosen activation)` from 0, with r = `topk_threshold_lr`. The output is a \
  `jumprelu` autoencoder with this threshold for every latent. After few steps (compared with 1/r) it lies too low.
- `matryoshka` (Bussmann et al. 2025, arXiv:2503.17547): `batchtopk` whose first w latents reconstruct by themselves too, for every w of \
  `matryoshka_widths` below `d_sae`: loss `‖x − x̂‖² + Σ_w ‖x − x̂_w‖²` plus AuxK, `x̂_w = Σ_{i<w} f_i W_dec,i + b_dec`.
- `jumprelu` (Rajamanoharan et al. 2024, arXiv:2407.14435): `f_i = z_i` where `z_i > θ_i`, θ trained directly and kept at 0 or above; \
  loss `‖x − x̂‖² + λ · s`, λ = `l0_coefficient`, rising from 0 over `l0_warm_up_steps`. With \
  `jumprelu_sparsity_loss_mode: step`, s is `L0`, the number of active latents; with `tanh`, `Σ_i tanh(c f_i ‖W_dec,i‖₂)` with \
  c = `jumprelu_tanh_scale` (Anthropic, January 2025 update); with `quadratic`, `2/t · (L0 − t)²` with t = `target_l0` (Gemma Scope 2). \
  Where `|z_i − θ_i| < ε/2`, ε = `jumprelu_bandwidth`, the step has the straight-through gradients `∂f_i/∂θ_i = −θ_i/ε` and \
  `∂L0/∂θ_i = −1/ε`, and with `jumprelu_ste_to_input: true` their negatives towards `z_i`. `pre_act_loss_coefficient: p` adds \
  `p Σ_dead max(θ_i − z_i, 0) ‖W_dec,i‖₂`.

Squared errors are summed over dimensions and averaged over the batch. Formulas and defaults are those of SAELens 6.54: Adam with \
epsilon 1e-8, gradients clipped together at `max_grad_norm`, decoder rows initialised to norm 0.1 and the encoder to their transpose.

Sequences come in random order, fill a block of `block` positions, and the block is shuffled; batches are cut from blocks one after \
another, epoch after epoch. Everything random follows from `seed`.

The output holds W_enc, b_enc, W_dec and b_dec as SAELens saves them for inference (the scale of `normalize_activations` and, for \
`topk`, the decoder norms are taken over into the weights), and the curve: `loss` and its parts, `ev_trainer` \
(`1 − mean error / variance of the batch`), `l0`, `dead_fraction`, `grad_norm`, `lr`, and `examples_in_batch`, the number of sequences \
that a batch comes from. An interrupted training goes on from its last checkpoint and gives the same bytes.";

//! `train_sae`: a sparse autoencoder on activations, cached or computed on the way.

mod run;
mod start;

use std::borrow::Cow;

use mediant_artifact::{DictionaryFacts, Facts, HookFact, Kind};
use mediant_dict::{ConfigProblem, TrainConfig};
use mediant_engine::{
    Docs, GangDone, InputFacts, Output, Port, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_lm::HookPoint;
use mediant_spec::did_you_mean;

use crate::evaluate_synth_sae::check_truth;
use crate::model_input::check_tokens;

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct TrainSae;

const PORTS: &[Port] = &[
    Port::optional("activations", &[Kind::Activations], "What it learns to reconstruct, of `cache_activations`."),
    Port::optional(
        "model",
        &[Kind::Model],
        "Instead of `activations`, with `tokens`: the model, whose activations are computed on the way.",
    ),
    Port::optional("tokens", &[Kind::Tokens], "What that model reads."),
    Port::optional(
        "truth",
        &[Kind::Dictionary],
        "Instead of `activations`: the truth of a `synth_sae_bench`, whose training vectors are drawn on the way.",
    ),
    Port::optional(
        "start",
        &[Kind::Dictionary],
        "A dictionary of the same architecture and shape, whose parameters begin the training.",
    ),
];

impl Stage for TrainSae {
    type Config = TrainConfig;
    const NAME: &'static str = "train_sae";
    const VERSION: u32 = 2;

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
        check_inputs(inputs)?;
        let (Some(hooks), Ok(training)) = (hooks(inputs), config.resolve()) else {
            return Ok(Vec::new());
        };
        let hook = choose_hook("hook", config.hook.as_deref(), &hooks)?;
        let hook_out =
            config.hook_out.as_deref().map(|name| choose_hook("hook_out", Some(name), &hooks)).transpose()?;
        if let Some(same) = hook_out.filter(|out| out.name == hook.name) {
            let message = format!("`{}` is the hook point that is read", same.name);
            return Err(Problems::config("hook_out", message).help("leave it out to train an autoencoder"));
        }
        let activation = training.objective.activation();
        let facts = DictionaryFacts {
            architecture: activation.architecture().to_owned(),
            hook: hook.name.clone(),
            d_in: hook.width(),
            d_sae: training.d_sae,
            hook_out: hook_out.map(|out| HookFact { name: out.name.clone(), shape: vec![out.width()] }),
            skips: config.sae.skip,
            plain_topk: activation.is_plain_topk(),
            input_norm: training.normalize_activations.input_norm().given().map(str::to_owned),
        };
        start::check_start(config, &facts, inputs)?;
        Ok(vec![("sae".to_owned(), Facts::Dictionary(facts))])
    }

    fn resources(&self, config: &TrainConfig, inputs: &InputFacts) -> Resources {
        let hooks = hooks(inputs).unwrap_or_default();
        let width_of = |field, name| choose_hook(field, name, &hooks).map_or(0, HookFact::width);
        let d_in = width_of("hook", config.hook.as_deref());
        let d_out = config.hook_out.as_deref().map_or(d_in, |name| width_of("hook_out", Some(name)));
        let skipped = if config.sae.skip { d_in * d_out } else { 0 };
        let width = d_in.max(d_out);
        let held = if config.hook_out.is_some() { d_in + d_out } else { d_in };
        // Parameters, gradients and two moments of each; a piece of pre-activations; the batch a few times.
        let numbers = 4 * ((d_in + d_out) * config.d_sae + skipped) + (1 << 25) + 6 * width * config.batch;
        let block = if inputs.many("activations").is_empty() { config.block * held as u64 } else { 0 };
        Resources { memory: 4 * (numbers as u64 + block), gpus: 0, ..Resources::all_cpus() }
    }

    fn run(&self, cx: &RunContext<'_, TrainConfig>) -> Result<(), StageError> {
        let mut result = Ok(());
        run::train(std::slice::from_ref(cx), &mut |_, ended| result = ended);
        result
    }

    fn gang(&self, config: &TrainConfig) -> Option<String> {
        // What the order of the data depends on, besides the data.
        Some(format!("batch {}, block {}, seed {}", config.batch, config.block, config.seed))
    }

    fn run_gang(&self, members: &[RunContext<'_, TrainConfig>], done: &mut GangDone<'_>) {
        run::train(members, done);
    }
}

/// A cache, or a model with what it reads, or a generator.
fn check_inputs(inputs: &InputFacts) -> Result<(), Problems> {
    let given = |port: &str| !inputs.many(port).is_empty();
    let either = "connect an output of `cache_activations` to `activations`, or a model and tokens to `model` and `tokens`, or the \
                  truth of a `synth_sae_bench` to `truth`";
    match (given("activations"), given("model"), given("tokens"), given("truth")) {
        (true, false, false, false) => Ok(()),
        (false, true, true, false) => check_tokens(inputs, "model", "tokens"),
        (false, false, false, true) => inputs.dictionary("truth").map_or(Ok(()), |truth| check_truth("truth", truth)),
        (true, model, tokens, _) => {
            let port = if model {
                "model"
            } else if tokens {
                "tokens"
            } else {
                "truth"
            };
            let both = format!("the activations are there already: the {port} would not be used");
            Err(Problems::input(port, both).help(either))
        }
        (false, model, tokens, true) if model || tokens => {
            let both = "the vectors are drawn from the truth: no model would be used";
            Err(Problems::input(if model { "model" } else { "tokens" }, both).help(either))
        }
        (false, true, false, _) => Err(Problems::input("model", "there are no `tokens` for it to read").help(either)),
        (false, false, true, _) => Err(Problems::input("tokens", "there is no `model` to read them").help(either)),
        _ => Err(Problems::input("activations", "there is nothing to train on").help(either)),
    }
}

/// The hook points that there are to choose from.
fn hooks(inputs: &InputFacts) -> Option<Cow<'_, [HookFact]>> {
    let cached = inputs.activations("activations").map(|activations| Cow::Borrowed(&activations.hooks[..]));
    let streamed = || inputs.model("model").map(|model| Cow::Borrowed(&model.hooks[..]));
    let of_truth = |truth: &DictionaryFacts| HookFact { name: truth.hook.clone(), shape: vec![truth.d_in] };
    let drawn = || inputs.dictionary("truth").map(|truth| Cow::Owned(vec![of_truth(truth)]));
    cached.or_else(streamed).or_else(drawn)
}

/// The hook that an option names, or the only one.
fn choose_hook<'h>(field: &str, asked: Option<&str>, hooks: &'h [HookFact]) -> Result<&'h HookFact, Problems> {
    let names = || hooks.iter().map(|hook| hook.name.as_str());
    // A model has many more than fit on a line.
    let listed = || match hooks.len() {
        0..=12 => format!("one of {}", names().collect::<Vec<_>>().join(", ")),
        _ => "for example `blocks.0.hook_resid_post`".to_owned(),
    };
    let hook = match (asked, hooks) {
        (None, [only]) => only,
        (None, _) => {
            let message = format!("there are {} hook points, and `hook` does not say which to train on", hooks.len());
            return Err(Problems::config("", message).help(format!("add `hook:`, {}", listed())));
        }
        (Some(name), _) => hooks.iter().find(|hook| hook.name == name).ok_or_else(|| {
            let problem = Problems::config(field, format!("there are no activations of `{name}`"));
            match did_you_mean(name, names()) {
                Some(near) => problem.help(format!("did you mean `{near}`?")),
                None => problem.help(listed()),
            }
        })?,
    };
    // Heads count as one vector, one beside the other, as SAELens takes `hook_z`.
    match hook.width() {
        2.. if !hook.name.parse().is_ok_and(HookPoint::per_key) => Ok(hook),
        _ => {
            let message =
                format!("`{}` has shape {:?}; an autoencoder needs one vector a position", hook.name, hook.shape);
            Err(if asked.is_some() {
                Problems::config(field, message)
            } else {
                Problems::input("activations", message)
            })
        }
    }
}

/// Wrong options of a stage of dictionaries.
pub(crate) fn problems(wrong: Vec<ConfigProblem>) -> Problems {
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

const DETAILS: &str = "\
With `x' = x − b_dec` (unless `apply_b_dec_to_input: false`), `z = x' W_enc + b_enc` and `x̂ = f W_dec + b_dec`, the families are:

- `relu`: `f = max(z, 0)`; loss `‖x − x̂‖² + λ Σ_i f_i ‖W_dec,i‖₂`, where λ is `l1`, rising from 0 over `l1_warm_up_steps`. This is \
  SAELens' `standard` (Anthropic, April 2024 update).
- `gated` (Rajamanoharan et al. 2024, arXiv:2404.16014): a gate `π = x' W_enc + b_gate` and a magnitude \
  `m = (x' W_enc) ⊙ exp(r_mag) + b_mag`; `f = max(m, 0)` where `π > 0`. Loss `‖x − x̂‖² + λ Σ_i max(π_i, 0) ‖W_dec,i‖₂ + ‖x − x̂_π‖²` \
  with `x̂_π = max(π, 0) W_dec + b_dec` and λ as for `relu`. As in SAELens the last term trains W_dec and b_dec too; with \
  `gated_detach_decoder: true` it does not, as in the paper and in dictionary_learning.
- `topk` (Gao et al. 2024, arXiv:2406.04093): the `k` largest `z_i ‖W_dec,i‖₂` of each vector (the largest `z_i` with \
  `rescale_acts_by_decoder_norm: false`) where they are positive; loss `‖x − x̂‖²` plus AuxK: the `d_in / 2` dead latents of the largest \
  pre-activations reconstruct the residual, `c · min(n_dead / (d_in / 2), 1) · ‖(x − x̂) − ê‖²` with c = `aux_loss_coefficient`. With \
  `aux_loss: dictionary_learning` they are those of the largest activations, after ReLU, and the loss is `c · ‖e − ê‖² / ‖e − E e‖²`, e the \
  residual and E e its mean over the batch, by default with c = 1/32. (dictionary_learning's ReLU before the choice of the k largest chooses the \
  same latents.)
- `batchtopk` (Bussmann et al. 2024, arXiv:2412.06410): as `topk`, but the `⌊k · batch⌋` largest of a whole batch, so that `k`, which may \
  be a fraction, is a mean. Which latents of a vector are active then depends on the batch it is in; so inference uses a threshold \
  instead: the running mean `θ ← (1 − r) θ + r · (smallest chosen activation)` from 0, with r = `topk_threshold_lr`. The output is a \
  `jumprelu` autoencoder with this threshold for every latent. After few steps (compared with 1/r) it lies too low. With \
  `topk_threshold_start_step: s` it begins after step s with the smallest chosen activation as it is (dictionary_learning, s = 1000 and r = 0.001).
- `matryoshka` (Bussmann et al. 2025, arXiv:2503.17547): `batchtopk` whose first w latents reconstruct by themselves too, for every w of \
  `matryoshka_widths` below `d_sae`: loss `‖x − x̂‖² + Σ_w ‖x − x̂_w‖²` plus AuxK, `x̂_w = Σ_{i<w} f_i W_dec,i + b_dec`. With \
  `use_matryoshka_aux_loss: true` there is an AuxK for each width instead of one: the dead ones of the latents that the width adds \
  reconstruct `x − x̂_w`, and the scale of each counts these alone (SAELens; false by default there too).
- `jumprelu` (Rajamanoharan et al. 2024, arXiv:2407.14435): `f_i = z_i` where `z_i > θ_i`, θ trained directly and kept at 0 or above; \
  loss `‖x − x̂‖² + λ · s`, λ = `l0_coefficient`, rising from 0 over `l0_warm_up_steps`. With \
  `jumprelu_sparsity_loss_mode: step`, s is `L0`, the number of active latents; with `tanh`, `Σ_i tanh(c f_i ‖W_dec,i‖₂)` with \
  c = `jumprelu_tanh_scale` (Anthropic, January 2025 update); with `quadratic`, `2/t · (L0 − t)²` with t = `target_l0` (Gemma Scope 2); with \
  `relative`, `(L0 / t − 1)²` of the mean L0 of the batch (dictionary_learning). \
  Where `|z_i − θ_i| < ε/2`, ε = `jumprelu_bandwidth`, the step has the straight-through gradients `∂f_i/∂θ_i = −θ_i/ε` and \
  `∂L0/∂θ_i = −1/ε`, and with `jumprelu_ste_to_input: true` their negatives towards `z_i`. `pre_act_loss_coefficient: p` adds \
  `p Σ_dead max(θ_i − z_i, 0) ‖W_dec,i‖₂`. With `relative`, as in dictionary_learning, L0 counts and has its gradient at `f_i` in the place of \
  `z_i`, so that a latent that is not active counts as lying at 0; that loss alone keeps θ from falling below 0, and nothing else does.
- `top_afa` (`SewoongLee/top-afa-sae`): the number of active latents is chosen for each vector. There is no b_enc; with   `q_i = (max(z_i, 0) ‖W_dec,i‖₂)²`, sorted falling, and `c_k = √(q_1 + … + q_k)`, the `k*` latents of the largest q are active for which `c_k`   is nearest `‖x'‖`, `1 ≤ k* < d_sae`. Loss `‖x − x̂‖² + d_in λ (‖f‖₂ − ‖x‖₂)² + c ‖(x − x̂) − ê‖²` with λ = `afa_coeff`, c = `aux_loss_coefficient` (1/32) and   ê made by the `k_aux` (512) dead latents of the largest activations; unlike that of `topk`, this last term trains what made x̂ too. This is `d_in`   times the paper's loss, which averages over dimensions, so that coefficients mean the same. Before each step the gradient of W_dec loses its component along the rows   and the rows are divided by their norms. The paper normalises each vector to mean 0 and deviation 1, and trains with `adam_beta2: 0.99`,   `dead_feature_window: 4` and `max_grad_norm: null`: `normalize_activations: layer_norm`. The encoder   starts as the transpose of the decoder, with columns of norm 1, and with `encoder_init_norm: null` with those of the paper's code. λ takes the place of k: a larger one gives more active latents.

With `l0_target: t` the sparsity coefficient λ of `relu`, `gated` or `jumprelu` is steered once it has warmed up: \
`λ = λ₀ exp(Σ 0.01 c + g c̄)` with g 6 for `jumprelu`, whose thresholds answer late, and 2 for the others, `c = (L0 − t) / t` of each batch so far, kept between -1 and 1, and c̄ its running mean over some ten steps: a \
proportional-integral controller on log λ, for sweeps at equal L0; SAELens and dictionary_learning have none. The curve holds λ step by step. A training whose last L0 is more than a fifth from t says so in a note.

**Normalisation.** `normalize_activations` multiplies all vectors by one factor during training, which is then taken over into the weights: `√d_in / E‖x‖` (`expected_average_only_in`) or `1 / √E‖x‖²` (`root_mean_square_norm`, dictionary_learning's). Or it normalises each vector by itself, before it is encoded, and brings the reconstruction back, in training and ever after, since weights cannot hold that: `x' = (x − μ) / (σ + 1e-5)`, `x̂ = x̂' σ + μ` with μ and σ the mean and the unbiased deviation of the numbers of x (`layer_norm`), or `x' = x √d_in / ‖x‖` (`constant_norm_rescale`). Losses and `ev_trainer` are then of normalised vectors, as in top-AFA's and OpenAI's code, so that each counts alike and coefficients mean the same for all hook points; SAELens takes them of the vectors as they are, where long ones count more, and has no AuxK then. `evaluate_sae` measures what was brought back.

**Heads.** A hook point of several heads, `hook_z` for example, is read as one vector, the heads one beside the other in their order, as \
SAELens takes `hook_z`.

**Transcoders.** With `hook_out` the target is the activation y at that hook point, at the same position: `f` is of \
`z = x W_enc + b_enc`, `b_dec` is not subtracted from the input, and `ŷ = f W_dec + b_dec`, in the place of `x̂`, is to be y; W_dec has the width of `hook_out`. \
`sae.skip: true` adds `x W_skipᵀ` to `ŷ`, W_skip `[d_out, d_in]`. These are SAELens' `transcoder`, `skip_transcoder`, `jumprelu_transcoder` and \
`jumprelu_skip_transcoder`, and its initial values: W_dec as for an autoencoder, W_enc a Kaiming draw of its own (uniform in ±√(6/d_sae)), \
W_skip and biases zero. SAELens does not train them; the losses are those of the family, with y for x, and AuxK has `d_out / 2` latents, as in sparsify. For `relu`, \
`topk`, `batchtopk`, `matryoshka` and `jumprelu`: neither SAELens nor sparsify has transcoders of the other families. With `normalize_activations` x and y have scales of their own, \
`√d_in / E‖x‖` and `√d_out / E‖y‖`, taken over at the end: `W_enc · s_x`, `W_dec / s_y`, `b_dec / s_y`, `W_skip · s_x / s_y`. This is what OpenMOSS' Language-Model-SAEs \
does but for the unit of the codes, which stay those of the training until decoder norms are taken over, as with autoencoders; SAELens has no scale for \
what a transcoder writes.

**Warm start.** A dictionary at `start` gives the initial parameters, W_skip and thresholds included; the moments of Adam, the learning rate and the \
order of the data begin anew. Its architecture must be the one that the training's is at inference (a `jumprelu` for `batchtopk` and `matryoshka`, whose \
running threshold is learnt anew from 0), it must normalise single vectors as the training does, and its shape must be the training's.

`decoder_norm` says what keeps the rows of W_dec at norm 1, if anything does: nothing with `free` (SAELens; the default of all but \
`top_afa`). With `one_after_step` (dictionary_learning) the gradient loses its component along each row, gradients are clipped, and after the \
optimiser's step each row is divided by its norm; `relu` then has the plain L1 loss on activations. With `one_before_step` (the default of \
`top_afa`) rows are divided before the step and are off norm 1 by it. Rows then begin at norm 1.

**As dictionary_learning trains.** Its trainers (0.1.0) and the options that do what they do, beside `steps`, `lr_warm_up_steps` and the like; \
`tests/suite/dictionary_learning.rs` of `mediant-dict` follows each of them step by step:

| trainer | `sae` | others |
| --- | --- | --- |
| StandardTrainer | `architecture: relu, l1: 0.1, l1_warm_up_steps: 2000, decoder_norm: one_after_step, encoder_init_norm: 0.1` | `lr: 1e-3, max_grad_norm: null` |
| StandardTrainerAprilUpdate | `architecture: relu, l1: 0.1, l1_warm_up_steps: 2000` | `lr: 1e-3` |
| GatedSAETrainer | `architecture: gated, l1: 0.1, l1_warm_up_steps: 2000, gated_detach_decoder: true, decoder_norm: one_after_step` | `lr: 5e-5, adam_beta1: 0, max_grad_norm: null` |
| TopKTrainer | `architecture: topk, rescale_acts_by_decoder_norm: false, aux_loss: dictionary_learning, decoder_norm: one_after_step, b_dec_init: geometric_median` | `lr: 2e-4 / √(d_sae / 2^14)`, `dead_feature_window: 10,000,000 / batch` |
| BatchTopKTrainer | as for TopKTrainer with `architecture: batchtopk`, and `topk_threshold_lr: 0.001, topk_threshold_start_step: 1000` | as for TopKTrainer |
| MatryoshkaBatchTopKTrainer | as for BatchTopKTrainer with `architecture: matryoshka`, and `aux_loss_coefficient: n²/32` for n widths: its loss is that here over n² | as for TopKTrainer, and `max_grad_norm: n²` |
| JumpReluTrainer | `architecture: jumprelu, jumprelu_sparsity_loss_mode: relative, l0_warm_up_steps: 2000, apply_b_dec_to_input: false, decoder_norm: one_after_step` | `lr: 7e-5, adam_beta1: 0` |

Different are the initial draws (uniform where it draws normal numbers), the resampling of dead latents, which is not built, the warm-up of the \
learning rate, which is one step behind there, and that a latent counts as dead before a step here, and after its forward pass there.

Squared errors are summed over dimensions and averaged over the batch. Formulas and defaults are those of SAELens 6.54: Adam with \
epsilon 1e-8, gradients clipped together at `max_grad_norm`, decoder rows initialised to norm 0.1 (`top_afa` and `matching_pursuit`: 1) and the encoder to their transpose.

Sequences come in random order, fill a block of `block` positions, and the block is shuffled; batches are cut from blocks one after \
another, epoch after epoch. Everything random follows from `seed`.

With `model` and `tokens` instead of `activations` nothing is cached: each block is computed when its turn comes, at the positions whose mask is \
set, and is what stays in memory. That gives the batches, and the bytes, that activations cached in f32 give; a further epoch computes them again, and so does \
`norm_estimate_batches`. Trainings that are ready together, on the same inputs and with the same `batch`, `block` and `seed`, are done together: each \
batch is read once, each sequence run once for all their hook points, and each gets the bytes that it gets alone. With `truth` the training \
vectors of a `synth_sae_bench` are drawn in the same way.

The output holds W_enc, b_enc, W_dec and b_dec as SAELens saves them for inference (the scale of `normalize_activations` and, for \
`topk` and `top_afa`, the decoder norms are taken over into the weights), and the curve: `loss` and its parts, `ev_trainer` \
(`1 − mean error / variance of the batch`), `l0`, `dead_fraction`, `grad_norm`, `lr`, and `examples_in_batch`, the number of sequences \
that a batch comes from. An interrupted training goes on from its last checkpoint and gives the same bytes.

The CPU computes in f32, and touches only what is active. On a GPU (`--device cuda`) the whole step runs there, by the same formulas in dense \
products, whose inputs its kernels round to TF32; `top_afa` and `matching_pursuit` are trained by the CPU there too, and a note says so. `compute_dtype: bf16` or `f16` rounds the inputs of these products instead; \
sums, losses, gradients, moments and parameters stay f32. The loss is scaled by batch / 2 until the optimiser, which keeps \
f16's products in its range; activations above 65,504 are beyond it and end the training (see `normalize_activations`). On the CPU, and for \
what it trains on any device, any `compute_dtype` but f32 is an error. A checkpoint is resumed on the kind of device that made it. The GPU's path is tested \
against the CPU's on a CPU; it has not yet been run on a GPU.";

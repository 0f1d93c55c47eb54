//! `path_patching`: what becomes of the metric when one component's output is another's on its way to chosen receivers.

use mediant_artifact::{Facts, HookFact, ModelFacts};
use mediant_engine::{
    Docs, InputFacts, Output, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_lm::{HookPoint, Site};
use mediant_methods::{Direction, Metric, Paths, Receiver, Sender, path_patch};
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::compute_device;
use crate::measuring::{self, Asked, Counterfactual};
use crate::model_input::{choose_hooks, hooks_like};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct PathPatching;

/// Options of `path_patching`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// What writes, each alone: hook points or globs among `hook_embed`, `hook_pos_embed`, `blocks.*.attn.hook_z` (each head), `blocks.*.hook_attn_out`,
    /// `blocks.*.hook_mlp_out`.
    senders: Vec<String>,
    /// What reads, all together.
    receivers: Vec<Reads>,
    /// Which run gets activations of the other.
    #[serde(default)]
    direction: Direction,
    /// What is measured of the answer.
    #[serde(default)]
    metric: Metric,
    /// Which counterfactual of the prompts; the first if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    counterfactual: Option<String>,
    /// Of the bootstrap.
    #[serde(default)]
    seed: u64,
}

/// What reads the residual stream.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reads {
    /// `blocks.N.hook_q_input`, `hook_k_input`, `hook_v_input` or `hook_mlp_in`, or the last layer's `hook_resid_post` for the unembedding.
    hook: String,
    /// Which heads of it; all if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    heads: Option<Vec<usize>>,
}

impl Config {
    fn asked(&self) -> Asked<'_> {
        Asked {
            metric: self.metric,
            counterfactual: Counterfactual::of("counterfactual", self.counterfactual.as_deref()),
            seed: self.seed,
        }
    }
}

impl Stage for PathPatching {
    type Config = Config;
    const NAME: &'static str = "path_patching";
    const VERSION: u32 = 2;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Path patching: the effect of components on the metric straight through chosen receivers",
            details: DETAILS,
            example: "paths:\n  uses: path_patching\n  inputs: { model: model, prompts: prompts }\n  with:\n    senders: [\"blocks.*.attn.hook_z\"]\n    receivers: [{ hook: blocks.3.hook_q_input, heads: [2] }]\n",
        }
    }

    fn inputs(&self) -> Ports {
        measuring::PORTS
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        measuring::outputs()
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        let mut problems = Problems::none();
        if config.senders.is_empty() {
            problems.push(Problems::config("senders", "no hook point is listed"));
        }
        if config.receivers.is_empty() {
            problems.push(Problems::config("receivers", "no hook point is listed"));
        }
        problems.finish()
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let mut problems = config.asked().check(inputs);
        if let Some(model) = inputs.model("model") {
            problems.check(ends(config, model));
        }
        measuring::facts(problems)
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        measuring::RESOURCES
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let run = config.asked().open(cx, Self::NAME)?;
        let paths = ends(config, &run.facts).map_err(|_| StageError::new("the model lacks a sender or receiver"))?;
        let settings = [("direction", config.direction.name().to_owned())];
        let mut recorder = run.recorder(config.direction.contrast(), settings, paths.mediators())?;
        on_device!(compute_device(cx.device()), C, device => {
            let model = mediant_lm::load::<C>(&run.model, &device)?;
            path_patch(&model, &run.pairs, &paths, config.direction, run.metric, &mut recorder, run.progress())
        })?;
        run.finish(recorder)
    }
}

/// Senders and receivers of a model, as the options name them.
fn ends(config: &Config, model: &ModelFacts) -> Result<Paths, Problems> {
    let mut problems = Problems::none();
    let mut receivers = Vec::new();
    for (index, reads) in config.receivers.iter().enumerate() {
        let field = format!("receivers[{index}].hook");
        let last = format!("blocks.{}.hook_resid_post", model.n_layers - 1);
        let readable = reads.hook == last
            || ["hook_q_input", "hook_k_input", "hook_v_input", "hook_mlp_in"]
                .iter()
                .any(|site| reads.hook.ends_with(site));
        match hooks_like(&field, &reads.hook, model) {
            Err(wrong) => problems.push(wrong),
            Ok(_) if !readable => {
                let message = format!("`{}` does not read the residual stream", reads.hook);
                let help = format!("receivers are hook_q_input, hook_k_input, hook_v_input, hook_mlp_in and {last}");
                problems.push(Problems::config(field, message).help(help));
            }
            Ok(hooks) => {
                for hook in hooks {
                    let heads = if hook.shape.len() > 1 { hook.shape[0] } else { 0 };
                    if let Some(beyond) = reads.heads.iter().flatten().find(|&&head| head >= heads) {
                        let message = format!("`{}` has no head {beyond}; it has {heads}", hook.name);
                        problems.push(Problems::config(format!("receivers[{index}].heads"), message));
                    }
                    receivers.extend(hook.name.parse().map(|point| Receiver { point, heads: reads.heads.clone() }));
                }
            }
        }
    }
    let hooks = choose_hooks("senders", &config.senders, model);
    let senders = hooks.and_then(|hooks| {
        let senders = hooks.iter().map(|hook| senders_at(hook, model)).collect::<Result<Vec<_>, _>>()?;
        Ok(senders.concat())
    });
    match (senders, problems.finish()) {
        (Ok(senders), Ok(())) => Ok(Paths { senders, receivers }),
        (senders, receivers) => {
            let mut problems = Problems::none();
            problems.check(senders);
            problems.check(receivers);
            Err(problems)
        }
    }
}

/// What writes to the residual stream at a hook point.
fn senders_at(hook: &HookFact, model: &ModelFacts) -> Result<Vec<Sender>, Problems> {
    match hook.name.parse() {
        Ok(point @ HookPoint::Block(_, Site::Z)) => {
            Ok((0..model.n_heads).map(|head| Sender { point, head: Some(head) }).collect())
        }
        Ok(point @ (HookPoint::Embed | HookPoint::PosEmbed | HookPoint::Block(_, Site::AttnOut | Site::MlpOut))) => {
            Ok(vec![Sender { point, head: None }])
        }
        _ => {
            let message = format!("`{}` is not what a component adds to the residual stream", hook.name);
            let help = "senders are hook_embed, hook_pos_embed, attn.hook_z, hook_attn_out and hook_mlp_out";
            Err(Problems::config("senders", message).help(help))
        }
    }
}

const DETAILS: &str = "\
What a sender writes to the residual stream differs between a prompt and its counterfactual by Δ, `[positions, d_model]`. The inputs of all receivers \
that come after the sender get Δ added, everything else stays as it was in the run, and the pass goes on from the first receiver: \
the effect of the sender through the residual stream straight into these receivers, and through whatever the receivers then change. With one \
receiver this is patching one edge of the graph of `edge_attribution`. The unembedding as receiver is the last `hook_resid_post`.

`direction: noising` runs the clean prompt and gives receivers the counterfactual's output: score = (clean − patched) / (clean − counterfactual). \
`denoising` is the reverse, as in `activation_patching`. A sender that reaches no receiver has the score 0. In a model that normalises the sum of its heads (Gemma \
2) what one head writes is not known alone: send from `hook_attn_out` there.

Sources: Goldowsky-Dill et al. 2023 (arXiv:2304.05969); Wang et al. 2022 (arXiv:2211.00593), who let the MLPs between sender and receiver respond, which this \
does not.";

//! `direct_logit_attribution`: what each component writes towards the answer.

use mediant_artifact::{Contrast, Facts};
use mediant_engine::{
    Docs, InputFacts, Output, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_methods::{Component, ComponentKind, Metric, attribute_logits, components};
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::compute_device;
use crate::measuring::{self, Asked, Counterfactual};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct DirectLogitAttribution;

/// Options of `direct_logit_attribution`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Which kinds of component get a row: `heads`, `mlps`, `neurons`, `embeddings`, `bias`.
    #[serde(default = "usual")]
    components: Vec<ComponentKind>,
    /// Layers whose neurons get a row; all if left out. With `neurons` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    neuron_layers: Option<Vec<usize>>,
    /// Of the bootstrap.
    #[serde(default)]
    seed: u64,
}

/// What sums to the logit difference with every part once.
fn usual() -> Vec<ComponentKind> {
    vec![ComponentKind::Heads, ComponentKind::Mlps, ComponentKind::Embeddings, ComponentKind::Bias]
}

impl Config {
    fn asked(&self) -> Asked<'_> {
        Asked { metric: Metric::LogitDiff, counterfactual: Counterfactual::None, seed: self.seed }
    }
}

impl Stage for DirectLogitAttribution {
    type Config = Config;
    const NAME: &'static str = "direct_logit_attribution";
    const VERSION: u32 = 2;

    fn docs(&self) -> Docs {
        Docs {
            summary: "What every head, MLP, neuron, embedding and bias adds to the logit difference",
            details: DETAILS,
            example: "writes:\n  uses: direct_logit_attribution\n  inputs: { model: model, prompts: prompts }\n  with: { components: [heads, mlps, embeddings, bias] }\n",
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
        let kinds = &config.components;
        if kinds.is_empty() {
            problems.push(Problems::config("components", "no kind of component is listed"));
        }
        if let Some(again) = (1..kinds.len()).find(|&i| kinds[..i].contains(&kinds[i])) {
            problems.push(Problems::config(format!("components[{again}]"), "is listed twice"));
        }
        if let Some(layers) = &config.neuron_layers {
            if !kinds.contains(&ComponentKind::Neurons) {
                let unused = Problems::config("neuron_layers", "changes nothing without neurons");
                problems.push(unused.help("add `neurons` to `components`, or remove it"));
            }
            if layers.is_empty() {
                problems.push(Problems::config("neuron_layers", "no layer is listed"));
            }
            if let Some(again) = (1..layers.len()).find(|&i| layers[..i].contains(&layers[i])) {
                problems.push(Problems::config(format!("neuron_layers[{again}]"), "is listed twice"));
            }
        }
        problems.finish()
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let mut problems = config.asked().check(inputs);
        if let Some(model) = inputs.model("model") {
            for (i, layer) in config.neuron_layers.iter().flatten().enumerate() {
                if *layer >= model.n_layers {
                    let message = format!("there is no layer {layer}; the model has 0 to {}", model.n_layers - 1);
                    problems.push(Problems::config(format!("neuron_layers[{i}]"), message));
                }
            }
        }
        measuring::facts(problems)
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        measuring::RESOURCES
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let run = config.asked().open(cx, Self::NAME)?;
        on_device!(compute_device(cx.device()), C, device => {
            let model = mediant_lm::load::<C>(&run.model, &device)?;
            let every: Vec<usize> = (0..model.config().n_layers).collect();
            let layers = config.neuron_layers.as_deref().unwrap_or(&every);
            let found = components(model.config(), &config.components, layers);
            let mut settings = vec![("scale", "frozen at the clean run's".to_owned())];
            if let Some(cap) = model.config().logit_softcap {
                cx.note(format!("logits are taken before their soft cap of {cap}: nothing linear goes through it"));
                settings.push(("logits", format!("before the soft cap of {cap}")));
            }
            let mediators = found.iter().copied().map(Component::mediator).collect();
            let mut recorder = run.recorder(Contrast::Share, settings, mediators)?;
            attribute_logits(&model, &run.pairs, &found, &mut recorder, run.progress())?;
            run.finish(recorder)
        })
    }
}

const DETAILS: &str = "\
The residual stream is a sum, and the last norm is linear once its scale is held at what it is in the run itself. So the logit difference at \
the last position of a prompt is a sum too. With d = mean of `W_U[:, right]` less mean of `W_U[:, wrong]`, γ, β and σ the last norm's gain, \
bias and scale (`ln_final.hook_scale` of the clean run), and y what a component adds to the residual stream at that position, its \
contribution is (y − mean(y)) / σ · γ · d; RMSNorm takes no mean away.

- `heads`: `blocks.L.attn.hook_result[H]`, z W_O of each head, without the bias; `mlps`: `blocks.L.hook_mlp_out`, output bias included;
- `neurons`: `blocks.L.mlp.hook_post[N]`, the neuron's activation times its row of W_out. With `blocks.L.mlp.b_out` they sum to \
  their MLP, so that listing `mlps` too counts it twice;
- `embeddings`: `hook_embed` and, where there is one, `hook_pos_embed`;
- `bias`: `blocks.*.attn.b_O`, the output biases of attention together; `ln_final.b` = β · d; `unembed.b_U`, of processed weights. Models \
  have those that their architecture has.

`heads, mlps, embeddings, bias`, the default, sum to the logit difference. In the effects `clean` is the logit difference and `patched` the \
contribution; score = patched / clean, the share of the mean logit difference, whose numerator is the mean contribution in nats. \
The interval holds 95 percent of 1,000 draws of groups of prompts.

Gemma 2: the norms after attention and MLP are linear with their scales held at the run's own likewise, and each head's and neuron's part goes \
through them. The soft cap on logits is not linear whatever is held, so logits are taken before it, and `clean` is their difference there.

Sources: Elhage et al. 2021, A mathematical framework for transformer circuits; TransformerLens' `get_full_resid_decomposition`, whose rows \
these are, and `apply_ln_to_stack`.";

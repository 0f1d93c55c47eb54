//! `edge_attribution`: EAP, EAP-IG, and exact patching of every edge of a model's graph.

use mediant_artifact::{Facts, ModelFacts, ModelReader, SearchFacts};
use mediant_engine::{
    Docs, InputFacts, Output, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_lm::LmConfig;
use mediant_methods::mediators::MediatorKind;
use mediant_methods::{EdgeMethod, Graph, Metric, Reference, Rule, Slope, edge_contrast, edge_effects};
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::compute_device;
use crate::integrated_gradients::MOST_STEPS;
use crate::measuring::{self, Asked, Counterfactual};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct EdgeAttribution;

/// Options of `edge_attribution`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// How edges are judged.
    method: Method,
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

/// How edges are judged.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Method {
    /// Edge attribution patching: the gradient at one run.
    Eap {
        /// At which run; `clean` in EAP's code.
        #[serde(default = "clean")]
        reference: Reference,
    },
    /// With integrated gradients over the token embeddings.
    EapIg {
        /// Points on the way; 5 in MIB.
        #[serde(default = "five")]
        steps: usize,
        /// Where they lie; `left` in EAP-IG's code.
        #[serde(default = "left")]
        rule: Rule,
    },
    /// Every edge patched: as many partial passes as there are edges.
    Exact,
}

fn clean() -> Reference {
    Reference::Clean
}

fn five() -> usize {
    5
}

fn left() -> Rule {
    Rule::Left
}

impl Method {
    fn method(&self) -> EdgeMethod {
        match self {
            Self::Eap { reference } => EdgeMethod::Attribution(Slope::At(*reference)),
            Self::EapIg { steps, rule } => EdgeMethod::Attribution(Slope::OverEmbeddings(*rule, *steps)),
            Self::Exact => EdgeMethod::Exact,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Eap { .. } => "eap",
            Self::EapIg { .. } => "eap_ig",
            Self::Exact => "exact",
        }
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = vec![("method", self.name().to_owned())];
        match self {
            Self::Eap { reference } => settings.push(("reference", reference.name().to_owned())),
            Self::EapIg { steps, rule } => {
                settings.extend([("steps", steps.to_string()), ("rule", rule.name().to_owned())]);
            }
            Self::Exact => {}
        }
        settings
    }
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

impl Stage for EdgeAttribution {
    type Config = Config;
    const NAME: &'static str = "edge_attribution";
    const VERSION: u32 = 3;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Edge attribution patching (EAP, EAP-IG), and exact patching of every edge",
            details: DETAILS,
            example: "edges:\n  uses: edge_attribution\n  inputs: { model: model, prompts: prompts }\n  with: { method: { eap_ig: { steps: 5 } } }\n",
        }
    }

    fn inputs(&self) -> Ports {
        measuring::PORTS
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        measuring::outputs()
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        match config.method {
            Method::EapIg { steps, .. } if steps == 0 || steps > MOST_STEPS => {
                Err(Problems::config("method.eap_ig.steps", format!("must be from 1 to {MOST_STEPS}")))
            }
            _ => Ok(()),
        }
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let mut problems = config.asked().check(inputs);
        let normalised = |model: &ModelFacts| model.hooks.iter().any(|hook| hook.name.ends_with("ln1_post.hook_scale"));
        if inputs.model("model").is_some_and(normalised) {
            let message = "a norm follows attention in this model, so what one head writes is not known alone, and it has no graph of heads";
            problems.push(Problems::input("model", message));
        }
        let method = config.method.name().to_owned();
        let search = SearchFacts { mediator: MediatorKind::Edges.name().to_owned(), method, shuffled: Some(false) };
        measuring::facts_of(problems, Some(search))
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        measuring::RESOURCES
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let run = config.asked().open(cx, Self::NAME)?;
        let method = config.method.method();
        let graph = Graph::new(&LmConfig::of_artifact(&ModelReader::open(&run.model)?.meta)?)?;
        let mut recorder = run.recorder(edge_contrast(method), config.method.settings(), graph.mediators())?;
        on_device!(compute_device(cx.device()), C, device => {
            let model = mediant_lm::load::<C>(&run.model, &device)?;
            edge_effects(&model, &run.pairs, &graph, method, run.metric, &mut recorder, run.progress())
        })?;
        run.finish(recorder)
    }
}

const DETAILS: &str = "\
The graph: nodes write to the residual stream, `input` (`hook_embed`), `a2.h3` (a head's `attn.hook_result`), `m2` (`hook_mlp_out`); receivers read it, \
`a2.h3<q>`, `<k>`, `<v>` (`hook_q_input`, …), `m2` (`hook_mlp_in`), `logits` (the last `hook_resid_post`). An edge leads from every node to every receiver that comes \
after it; a model of L layers and H heads has 1 + L(H + 1) nodes and L(3H + 1) + 1 receivers. Keys and values are by key head where several \
query heads share them. In a parallel block (GPT-NeoX) heads do not feed their own MLP. Position embeddings are no node.

With z the node's output, summed over positions:

- `eap`: Σ (z_counterfactual − z_clean) · ∂m/∂in at the clean run, the predicted change of the metric when the clean run's receiver gets the node's \
  counterfactual output. Score = −that / (clean − counterfactual), EAP's sign: high where the edge is needed. With `reference: counterfactual` the gradient is taken \
  there and the reverse is predicted.
- `eap_ig`: the same with the mean gradient over `steps` points between the two runs' token embeddings, e_k = e_counterfactual + k/n (e_clean − e_counterfactual), k = 0 … n − 1 \
  (`rule: left`). The scores of the edges that leave `input` sum to 1 as the steps grow (completeness); how far a left sum of few steps is from it is \
  `SELECT SUM(value) FROM edges WHERE name LIKE 'input->%'`.
- `exact`: the receiver's input gets z_counterfactual − z_clean added, and the rest of the pass is run.

Sources: Syed et al. 2023 (arXiv:2310.10348); Hanna et al. 2024 (arXiv:2403.17806); Mueller et al. 2025 (MIB, arXiv:2504.13151).";

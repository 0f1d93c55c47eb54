//! `pca`: the principal components of activations.

use mediant_artifact::{DirectionsMeta, Facts};
use mediant_engine::{
    Docs, InputFacts, Output, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_lm::Positions;
use mediant_methods::Metric;
use mediant_methods::subspace::{Which, gather, principal};
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::compute_device;
use crate::measuring::{self, Asked, Counterfactual};
use crate::sites::{Sites, both_versions, directions_output, rows_of, write_subspaces};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct Pca;

/// Options of `pca`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Hook points without heads by their TransformerLens names, or globs: `blocks.*.hook_resid_post`.
    hooks: Vec<String>,
    /// Spans of the prompts; a subspace at each of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spans: Option<Vec<String>>,
    /// In place of `spans`, the positions of one subspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    positions: Option<Positions>,
    /// How many components.
    rank: usize,
    /// Which counterfactual of the prompts; the first if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    counterfactual: Option<String>,
}

impl Config {
    fn sites(&self) -> Sites<'_> {
        Sites { hooks: &self.hooks, positions: self.positions.as_ref(), spans: self.spans.as_deref() }
    }

    fn asked(&self) -> Asked<'_> {
        let counterfactual = Counterfactual::of("counterfactual", self.counterfactual.as_deref());
        // No answer is looked at.
        Asked { metric: Metric::LogProb, counterfactual, seed: 0 }
    }
}

const METHOD: &str = "pca";

impl Stage for Pca {
    type Config = Config;
    const NAME: &'static str = "pca";
    const VERSION: u32 = 1;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Principal components of activations, as directions",
            details: DETAILS,
            example: "components:\n  uses: pca\n  inputs: { model: model, prompts: prompts }\n  with: { hooks: [\"blocks.*.hook_resid_post\"], spans: [s2, last], rank: 8 }\n",
        }
    }

    fn inputs(&self) -> Ports {
        measuring::PORTS
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![directions_output()]
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        config.sites().check().finish()
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let mut problems = config.asked().check(inputs);
        problems.check(config.sites().check_inputs(inputs).finish());
        problems.check(config.sites().check_rank("rank", config.rank, inputs));
        problems.finish()?;
        let directions = config.sites().facts(true, &[Some(config.rank)], (METHOD, None), inputs);
        Ok(vec![("directions".to_owned(), directions)])
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        measuring::RESOURCES
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let run = config.asked().open(cx, Self::NAME)?;
        let sites = config.sites().sites(&run.facts)?;
        let count = run.pairs.prompts().len();
        let gathered = on_device!(compute_device(cx.device()), C, device => {
            let model = mediant_lm::load::<C>(&run.model, &device)?;
            let mut progress = run.progress();
            let clean = gather(&model, &run.pairs, Which::Clean, &sites, |done| progress(done, 2 * count))?;
            let other = gather(&model, &run.pairs, Which::Counterfactual, &sites, |done| progress(count + done, 2 * count))?;
            Ok::<_, StageError>([clean, other])
        })?;
        let [clean, other] = &gathered;
        let mut rows = Vec::new();
        for (site, (clean, other)) in sites.iter().zip(clean.iter().zip(other)) {
            cx.check_cancelled()?;
            let found = principal(&[clean, other], config.rank)?;
            rows.extend(rows_of(site, &found.vectors, |index| found.shares.get(index).copied()));
        }
        let meta = DirectionsMeta {
            method: METHOD.to_owned(),
            nested: true,
            value: Some("explained_variance".to_owned()),
            counterfactual: run.counterfactual.clone(),
            passes: both_versions(&sites, run.facts.n_layers),
            ..DirectionsMeta::default()
        };
        write_subspaces(cx, meta, [("centred", "true".to_owned())], &rows)
    }
}

const DETAILS: &str = "\
The activations of all prompts and their counterfactuals together, at every chosen position of each, less their mean: the eigenvectors of \
their covariance, that of the largest eigenvalue first, in f64. `value` is the share of the variance along a vector. In every vector the number of the largest \
size is positive. The first r vectors are the subspace of rank r, so that one run serves all ranks up to `rank`. Where fewer dimensions vary than are \
asked for, the rest is completed by the unit vectors of the standard basis, made orthogonal to those before, with a share of 0.

Nothing here looks at answers: the components say where activations vary, not what matters to the model. They are what `train_mask` and interchange \
interventions can choose from, and what a learned subspace has to beat.";

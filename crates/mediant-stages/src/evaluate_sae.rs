//! `evaluate_sae`: how well does an autoencoder reconstruct, and what does splicing it into its model cost?

use mediant_artifact::{Facts, Kind, Tokens, write_metrics};
use mediant_engine::{
    Docs, InputFacts, Output, Port, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_lm::HookPoint;
use mediant_methods::sae_eval::{SpecialTokens, sae_eval};
use mediant_spec::did_you_mean;
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::compute_device;
use crate::model_input::check_tokens;

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct EvaluateSae;

/// Options of `evaluate_sae`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// What happens at BOS and separators (tokens whose mask is not set).
    #[serde(default)]
    special_tokens: SpecialTokens,
    /// Of the bootstrap.
    #[serde(default)]
    seed: u64,
}

const PORTS: &[Port] = &[
    Port::one("model", &[Kind::Model], "The model that the autoencoder is spliced into."),
    Port::one("sae", &[Kind::Dictionary], "The autoencoder; it knows its hook point."),
    Port::one("tokens", &[Kind::Tokens], "What it is measured on."),
];

impl Stage for EvaluateSae {
    type Config = Config;
    const NAME: &'static str = "evaluate_sae";
    const VERSION: u32 = 1;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Reconstruction, sparsity, and the model's loss with the autoencoder in place",
            details: DETAILS,
            example: "eval:\n  uses: evaluate_sae\n  inputs: { model: model, sae: sae, tokens: tokens.test }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![Output::new("metrics", Kind::Metrics, "`ev_mc`, `l0`, `ce_score` and others, with intervals.")]
    }

    fn infer(&self, _: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let mut problems = Problems::none();
        problems.check(check_tokens(inputs, "model", "tokens"));
        if let (Some(model), Some(sae)) = (inputs.model("model"), inputs.dictionary("sae")) {
            match model.hook(&sae.hook) {
                None => {
                    let problem =
                        Problems::input("sae", format!("it reads `{}`, which the model does not have", sae.hook));
                    problems.push(match did_you_mean(&sae.hook, model.hooks.iter().map(|hook| hook.name.as_str())) {
                        Some(near) => problem.help(format!("the model has `{near}`")),
                        None => problem,
                    });
                }
                Some(hook) if hook.shape != [sae.d_in] => {
                    let message = format!(
                        "it reads vectors of {}, the model's `{}` has shape {:?}",
                        sae.d_in, sae.hook, hook.shape
                    );
                    problems.push(Problems::input("sae", message));
                }
                Some(_) => {}
            }
        }
        problems.finish()?;
        Ok(vec![("metrics".to_owned(), Facts::Metrics)])
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        Resources::all_cpus()
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let (sae, meta) = mediant_dict::artifact::read(&cx.input("sae")?)?;
        let tokens = Tokens::read(&cx.input("tokens")?)?;
        let hook: HookPoint = meta.hook.parse()?;
        // One that was loaded may not say; it is taken at its word that it is of this model.
        let own_model = meta.model.is_none_or(|model| Some(model) == cx.input_digest("model").ok());
        if !own_model {
            cx.note("the autoencoder was trained on another model than the one it is evaluated on");
        }
        let special_tokens = cx.config().special_tokens;
        let found = on_device!(compute_device(cx.device()), C, device => {
            let model = mediant_lm::load::<C>(&cx.input("model")?, &device)?;
            sae_eval(&model, &sae, hook, &tokens, special_tokens, |done, total| {
                cx.progress(done, total, "tokens");
                cx.check_cancelled()
            })
        })?;
        let mut metrics = found.metrics(cx.config().seed);
        for row in &mut metrics {
            row.split = Some(tokens.meta.split.clone());
            if !own_model {
                row.tags.insert("model".to_owned(), "not the one trained on".to_owned());
            }
        }
        write_metrics(cx.output("metrics")?, &metrics)?;
        Ok(())
    }
}

const DETAILS: &str = "\
At the hook, over all positions whose mask is set, with x the activation and x̂ its reconstruction:

- `ev_mc` = 1 − E‖x − x̂‖² / (E‖x‖² − ‖E x‖²): explained variance about the mean (SAELens since 6.45.1). A reconstruction that is the \
  mean scores 0. Numerator and denominator are `mse` and the variance;
- `mse` = E‖x − x̂‖², summed over dimensions; `cossim` = E cos(x, x̂); `l2_ratio` = E ‖x̂‖/‖x‖, below 1 under shrinkage; \
  `relative_reconstruction_bias` = E‖x̂‖² / E x·x̂ (arXiv:2404.16014);
- `l0` = mean number of active latents, `l1` = mean of Σ|f|;
- `dead_fraction`: latents never active in these tokens; `density_above_1pct`, `density_above_10pct`: latents active in more than that \
  part of them.

In the model, as the mean over predicted tokens whose mask is set, in nats: `ce_clean` as it is (the `ce_loss` of `evaluate_lm`), `ce_sae` \
with x̂ in the place of x, `ce_zero_ablation` with zeros at every position of the hook; `ce_score` = (`ce_zero_ablation` − `ce_sae`) / \
(`ce_zero_ablation` − `ce_clean`), kept with numerator and denominator.

BOS and separators keep their activations when the autoencoder is spliced in and are not measured at the hook, as in SAELens and SAEBench; \
`special_tokens: replaced` treats them like all others. (SAELens also leaves out the loss of predictions made at those positions.)

Intervals are 95 percent percentile bootstrap intervals over sequences, which are taken together in at most 200 groups of neighbours; 1,000 \
draws, the same for all metrics. `n` is the number of positions or of predicted tokens.";

//! `load_sae`: a dictionary of another tool to a dictionary artifact.

use mediant_artifact::{DictionaryFacts, Facts, Kind, ModelFacts};
use mediant_dict::artifact::write_loaded;
use mediant_dict::format::{FILES, Foreign, Format};
use mediant_engine::{
    Docs, InputFacts, Output, Port, Ports, Problems, Resources, RunContext, Source, SourceKind, SourcePaths, Stage,
    StageError,
};
use mediant_lm::HookPoint;
use mediant_spec::did_you_mean;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct LoadSae;

/// Options of `load_sae`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// A folder or file of another tool: local, or `hf://owner/name[@revision]/path` on the Hugging Face hub.
    source: String,
    /// Its format; by default the one that its content has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    format: Option<Format>,
    /// The hook point that it reads, where the files do not say so or say it otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hook: Option<String>,
}

const PORTS: &[Port] = &[Port::optional(
    "model",
    &[Kind::Model],
    "The model whose activations it reads: hook point and width are compared, and the dictionary remembers it.",
)];

impl Stage for LoadSae {
    type Config = Config;
    const NAME: &'static str = "load_sae";
    const VERSION: u32 = 1;

    fn docs(&self) -> Docs {
        Docs {
            summary: "A sparse autoencoder from the files of SAELens, sparsify, Gemma Scope or dictionary_learning",
            details: DETAILS,
            example: "sae:\n  uses: load_sae\n  inputs: { model: model }\n  with: { source: saes/layer-2, hook: blocks.2.hook_resid_post }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![Output::new("sae", Kind::Dictionary, "The autoencoder in its inference form.")]
    }

    fn sources(&self, config: &Config) -> Vec<Source> {
        vec![Source { field: "source".to_owned(), path: config.source.clone(), what: SourceKind::FileOrFolder(&FILES) }]
    }

    fn infer(
        &self,
        config: &Config,
        inputs: &InputFacts,
        sources: &SourcePaths,
    ) -> Result<Vec<(String, Facts)>, Problems> {
        let path = sources.get("source").ok_or_else(|| Problems::config("source", "is not known"))?;
        let foreign =
            Foreign::open(path, config.format).map_err(|error| Problems::config("source", error.to_string()))?;
        let hook = hook(config, &foreign)?;
        if let Some(model) = inputs.model("model") {
            check(config, &hook, foreign.d_in, model)?;
        }
        let facts = DictionaryFacts {
            architecture: foreign.activation.architecture().to_owned(),
            hook,
            d_in: foreign.d_in,
            d_sae: foreign.d_sae,
            hook_out: None,
            plain_topk: foreign.activation.is_plain_topk(),
        };
        Ok(vec![("sae".to_owned(), Facts::Dictionary(facts))])
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        Resources { gpus: 0, ..Resources::all_cpus() }
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let foreign = Foreign::open(cx.source("source")?, config.format)?;
        // The plan has checked it.
        let hook = config.hook.clone().or_else(|| foreign.hook.clone()).unwrap_or_default();
        let model = if cx.is_connected("model") { Some(cx.input_digest("model")?) } else { None };
        write_loaded(cx.output("sae")?, &foreign, &hook, model)?;
        Ok(())
    }
}

/// The hook that is read: the option's, else the files'.
fn hook(config: &Config, foreign: &Foreign) -> Result<String, Problems> {
    let (field, name) = match (&config.hook, &foreign.hook) {
        (Some(name), _) => ("hook", name),
        (None, Some(name)) => ("source", name),
        (None, None) => {
            let message = "the files do not say which hook point the autoencoder reads";
            return Err(Problems::config("", message).help("add `hook:`, for example `hook: blocks.2.hook_resid_post`"));
        }
    };
    let read: Result<HookPoint, _> = name.parse();
    read.map(|_| name.clone()).map_err(|error| {
        let named = "hook points are named as in TransformerLens: `blocks.2.hook_resid_post`";
        let help = if field == "hook" { named } else { "say with `hook:` which hook point is meant" };
        Problems::config(field, error.to_string()).help(help)
    })
}

/// Whether the model has the hook, in the width that is read.
fn check(config: &Config, hook: &str, d_in: usize, model: &ModelFacts) -> Result<(), Problems> {
    let field = if config.hook.is_some() { "hook" } else { "source" };
    match model.hook(hook) {
        None => {
            let message = format!(
                "it reads `{hook}`, which the {} model of {} layers does not have",
                model.architecture, model.n_layers
            );
            let problem = Problems::config(field, message);
            Err(match did_you_mean(hook, model.hooks.iter().map(|hook| hook.name.as_str())) {
                Some(near) => problem.help(format!("the model has `{near}`")),
                None => problem,
            })
        }
        Some(found) if found.width() != d_in || found.name.parse().is_ok_and(HookPoint::per_key) => {
            let message = format!("it reads vectors of {d_in}, the model's `{hook}` has shape {:?}", found.shape);
            Err(Problems::config(field, message))
        }
        Some(_) => Ok(()),
    }
}

const DETAILS: &str = "\
**Formats**, known by their files:

| `format` | files | what is read |
| --- | --- | --- |
| `saelens` | `cfg.json`, `sae_weights.safetensors` | SAELens 6: standard (`relu` here), gated, topk, jumprelu, which its batchtopk and matryoshka are saved as |
| `sparsify` | `cfg.json`, `sae.safetensors` | EleutherAI's sparse coders: topk |
| `gemma_scope` | `params.npz`, or any `.npz` given as a file | Gemma Scope: jumprelu whose input is the activation itself |
| `dictionary_learning` | `ae.pt`, `config.json` | AutoEncoder, AutoEncoderNew, GatedAutoEncoder, AutoEncoderTopK, BatchTopKSAE, MatryoshkaBatchTopKSAE, JumpReluAutoEncoder |

Of a folder that holds several formats, `format` says which is meant. An architecture that is not built (transcoders, \
abstopk, groupmax, …), an option that would change the numbers, a tensor that is missing, left over or of another shape, and a damaged \
file are each an error that names it, before anything runs; a value that is not a finite number is one when the stage runs.

`ae.pt` is read without Python and without running anything: of pickle, the opcodes of a dict of tensors are known, and whatever else a \
file asks for is refused. BatchTopK and matryoshka autoencoders of dictionary_learning use their threshold, as its `encode` does by default; \
its AutoEncoderTopK uses k. Features are those of the weights as they are: where dictionary_learning multiplies them by the norms of the \
decoder's rows, which its training keeps at 1, they differ by that factor, and reconstructions do not.

SAELens' files name their hook point, and so do those of dictionary_learning whose `submodule_name` is that of its demos \
(`resid_post_layer_3`) or a hook point's own (`blocks.3.hook_mlp_out`); for the others give `hook`. Weights in float16, bfloat16 or float64 become float32.

On the hub: `hf://owner/name@revision/path`, where the path is that of the folder or file in the repository; see `load_model` for how it is \
fetched and pinned.";

//! `load_sae`: a dictionary of another tool to a dictionary artifact.

use mediant_artifact::{DictionaryFacts, Facts, HookFact, Kind, ModelFacts};
use mediant_dict::artifact::write_loaded;
use mediant_dict::format::{FILES, Foreign, Format, Writes};
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
    /// Of a transcoder, the hook point that it writes, where the files do not say so or say it otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hook_out: Option<String>,
}

const PORTS: &[Port] = &[Port::optional(
    "model",
    &[Kind::Model],
    "The model whose activations it reads: hook points and widths are compared, and the dictionary remembers it.",
)];

impl Stage for LoadSae {
    type Config = Config;
    const NAME: &'static str = "load_sae";
    const VERSION: u32 = 1;

    fn docs(&self) -> Docs {
        Docs {
            summary: "A sparse autoencoder or transcoder from the files of SAELens, sparsify, Gemma Scope or dictionary_learning",
            details: DETAILS,
            example: "sae:\n  uses: load_sae\n  inputs: { model: model }\n  with: { source: saes/layer-2, hook: blocks.2.hook_resid_post }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![Output::new("sae", Kind::Dictionary, "The dictionary in its inference form.")]
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
        let (read, written) = (config.read(&foreign)?, config.written(&foreign)?);
        if let Some(model) = inputs.model("model") {
            read.check("reads", foreign.d_in, model)?;
            written.as_ref().map_or(Ok(()), |hook| hook.check("writes", foreign.d_out, model))?;
        }
        if let Some(same) = written.as_ref().filter(|written| written.name == read.name) {
            let message = format!("`{}` is the hook point that the transcoder reads", same.name);
            return Err(Problems::config(same.field, message));
        }
        let facts = DictionaryFacts {
            architecture: foreign.activation.architecture().to_owned(),
            hook: read.name.to_owned(),
            d_in: foreign.d_in,
            d_sae: foreign.d_sae,
            hook_out: written.map(|hook| HookFact { name: hook.name.to_owned(), shape: vec![foreign.d_out] }),
            skips: foreign.skips(),
            plain_topk: foreign.activation.is_plain_topk(),
            input_norm: foreign.input_norm.given().map(str::to_owned),
        };
        Ok(vec![("sae".to_owned(), Facts::Dictionary(facts))])
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        Resources { gpus: 0, ..Resources::all_cpus() }
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let foreign = Foreign::open(cx.source("source")?, config.format)?;
        let unnamed = |_| StageError::new("the files name no hook point");
        let (read, written) = (config.read(&foreign).map_err(unnamed)?, config.written(&foreign).map_err(unnamed)?);
        let model = if cx.is_connected("model") { Some(cx.input_digest("model")?) } else { None };
        write_loaded(cx.output("sae")?, &foreign, (read.name, written.map(|hook| hook.name)), model)?;
        Ok(())
    }
}

/// A hook point, and the option that named it or `source`.
struct Hook<'a> {
    field: &'static str,
    name: &'a str,
}

impl Config {
    /// The hook point that is read.
    fn read<'a>(&'a self, foreign: &'a Foreign) -> Result<Hook<'a>, Problems> {
        let named = Hook::named("hook", self.hook.as_deref(), foreign.hook.as_deref())?;
        named.ok_or_else(|| {
            let message = "the files do not say which hook point the dictionary reads";
            Problems::config("", message).help("add `hook:`, for example `hook: blocks.2.hook_resid_post`")
        })
    }

    /// The hook point that is written, of a transcoder.
    fn written<'a>(&'a self, foreign: &'a Foreign) -> Result<Option<Hook<'a>>, Problems> {
        let option = self.hook_out.as_deref();
        match &foreign.writes {
            Writes::WhatItReads if option.is_some() => {
                let problem =
                    Problems::config("hook_out", "the files are those of an autoencoder, not of a transcoder");
                Err(problem.help("leave it out"))
            }
            Writes::WhatItReads => Ok(None),
            Writes::NotSaid => Hook::named("hook_out", option, None),
            Writes::Another(name) => match Hook::named("hook_out", option, name.as_deref())? {
                None => {
                    let message = "the files do not say which hook point the transcoder writes";
                    Err(Problems::config("", message)
                        .help("add `hook_out:`, for example `hook_out: blocks.2.hook_mlp_out`"))
                }
                named => Ok(named),
            },
        }
    }
}

impl<'a> Hook<'a> {
    /// What the option says, or else the files.
    fn named(option: &'static str, given: Option<&'a str>, said: Option<&'a str>) -> Result<Option<Self>, Problems> {
        let Some(name) = given.or(said) else { return Ok(None) };
        let field = if given.is_some() { option } else { "source" };
        match name.parse::<HookPoint>() {
            Ok(_) => Ok(Some(Self { field, name })),
            Err(error) if given.is_some() => {
                let help = "hook points are named as in TransformerLens: `blocks.2.hook_resid_post`";
                Err(Problems::config(field, error.to_string()).help(help))
            }
            Err(error) => {
                let help = format!("say with `{option}:` which hook point is meant");
                Err(Problems::config(field, error.to_string()).help(help))
            }
        }
    }

    /// Whether the model has it, in this width.
    fn check(&self, verb: &str, width: usize, model: &ModelFacts) -> Result<(), Problems> {
        let Self { field, name } = self;
        match model.hook(name) {
            None => {
                let message = format!(
                    "it {verb} `{name}`, which the {} model of {} layers does not have",
                    model.architecture, model.n_layers
                );
                let problem = Problems::config(*field, message);
                Err(match did_you_mean(name, model.hooks.iter().map(|hook| hook.name.as_str())) {
                    Some(near) => problem.help(format!("the model has `{near}`")),
                    None => problem,
                })
            }
            Some(found) if found.width() != width || found.name.parse().is_ok_and(HookPoint::per_key) => {
                let message = format!("it {verb} vectors of {width}, the model's `{name}` has shape {:?}", found.shape);
                Err(Problems::config(*field, message))
            }
            Some(_) => Ok(()),
        }
    }
}

const DETAILS: &str = "\
**Formats**, known by their files:

| `format` | files | what is read |
| --- | --- | --- |
| `saelens` | `cfg.json`, `sae_weights.safetensors` | SAELens 6: standard (`relu` here), gated, topk, jumprelu, which its batchtopk and matryoshka are saved as, matching_pursuit; transcoder, skip_transcoder, jumprelu_transcoder, jumprelu_skip_transcoder; `normalize_activations` `none`, `layer_norm` or `constant_norm_rescale` |
| `sparsify` | `cfg.json`, `sae.safetensors` | EleutherAI's sparse coders: topk; transcoders (`transcode`) with and without `skip_connection` |
| `gemma_scope` | `params.npz`, or any `.npz` given as a file | Gemma Scope: jumprelu whose input is the activation itself; a transcoder if `hook_out` says so |
| `dictionary_learning` | `ae.pt`, `config.json` | AutoEncoder, AutoEncoderNew, GatedAutoEncoder, AutoEncoderTopK, BatchTopKSAE, MatryoshkaBatchTopKSAE, JumpReluAutoEncoder |

Of a folder that holds several formats, `format` says which is meant. An architecture that is not built (abstopk, \
temporal, groupmax, …), an option that would change the numbers, a tensor that is missing, left over or of another shape, and a damaged \
file are each an error that names it, before anything runs; a value that is not a finite number is one when the stage runs.

`ae.pt` is read without Python and without running anything: of pickle, the opcodes of a dict of tensors are known, and whatever else a \
file asks for is refused. BatchTopK and matryoshka autoencoders of dictionary_learning use their threshold, as its `encode` does by default; \
its AutoEncoderTopK uses k. Features are those of the weights as they are: where dictionary_learning multiplies them by the norms of the \
decoder's rows, which its training keeps at 1, they differ by that factor, and reconstructions do not.

SAELens' files name their hook points, and so do those of dictionary_learning whose `submodule_name` is that of its demos \
(`resid_post_layer_3`) or a hook point's own (`blocks.3.hook_mlp_out`); for the others give `hook`, and `hook_out` of a transcoder. Gemma Scope's files of transcoders look like those of autoencoders: \
`hook_out` makes the difference. Weights in float16, bfloat16 or float64 become float32.

On the hub: `hf://owner/name@revision/path`, where the path is that of the folder or file in the repository; see `load_model` for how it is \
fetched and pinned.";

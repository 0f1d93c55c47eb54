//! `export`: a dictionary as the files of another tool.

use mediant_artifact::{Facts, FilesMeta, HookFact, Kind, write_files};
use mediant_dict::artifact::export;
use mediant_dict::format::{Format, Held, fold_refusal, refusal};
use mediant_engine::{
    Docs, InputFacts, Output, Port, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct Export;

/// Options of `export`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The format to write.
    format: Format,
    /// Decoder rows of norm 1, their norms moved into the encoder; refused where that would change what the dictionary
    /// computes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    fold_decoder_norms: bool,
}

const PORTS: &[Port] = &[Port::one("dictionary", &[Kind::Dictionary], "What is written.")];

impl Stage for Export {
    type Config = Config;
    const NAME: &'static str = "export";
    const VERSION: u32 = 1;

    fn docs(&self) -> Docs {
        Docs {
            summary: "A dictionary as files that SAELens, sparsify, dictionary_learning or the readers of Gemma Scope load",
            details: DETAILS,
            example: "saelens:\n  uses: export\n  inputs: { dictionary: sae }\n  with: { format: saelens }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![Output::new("files", Kind::Files, "The files, as the other tool reads them.")]
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        if let Some(dictionary) = inputs.dictionary("dictionary") {
            let held = Held {
                architecture: &dictionary.architecture,
                d_in: dictionary.d_in,
                d_out: dictionary.hook_out.as_ref().map(HookFact::width),
                skips: dictionary.skips,
            };
            if let Some((why, help)) = refusal(config.format, held) {
                return Err(Problems::config("format", why).help(help));
            }
            let refused = fold_refusal(&dictionary.architecture, dictionary.plain_topk);
            if let Some((why, help)) = refused.filter(|_| config.fold_decoder_norms) {
                return Err(Problems::config("fold_decoder_norms", why).help(help));
            }
        }
        Ok(vec![("files".to_owned(), Facts::Files)])
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        Resources { gpus: 0, ..Resources::all_cpus() }
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let &Config { format, fold_decoder_norms } = cx.config();
        let dictionary = cx.input("dictionary")?;
        write_files(cx.output("files")?, &FilesMeta { format: format.name().to_owned() }, |folder| {
            export(&dictionary, format, fold_decoder_norms, folder).map_err(StageError::from)
        })?;
        Ok(())
    }
}

const DETAILS: &str = "\
| `format` | files | what it holds |
| --- | --- | --- |
| `saelens` | `cfg.json`, `sae_weights.safetensors` | every architecture but `top_afa`, in SAELens 6's inference form, with hook points, context and the options of the training; of transcoders `relu` and `jumprelu` |
| `sparsify` | `cfg.json`, `sae.safetensors` | `topk` alone; transcoders if they write vectors as wide as they read |
| `gemma_scope` | `params.npz` | `jumprelu`, and `relu` with thresholds of 0; transcoders without a skip connection; no hook point |
| `dictionary_learning` | `ae.pt`, `config.json` | `relu` (AutoEncoder; AutoEncoderNew where b_dec is not subtracted), `gated`, `topk`, and `jumprelu`, `batchtopk` among them, as JumpReluAutoEncoder; with hook point, layer, learning rate, steps and seed |

What a format has no place for is refused, before anything runs where the architecture says so. Where a format always, or never, subtracts \
b_dec from the input and the dictionary does not, or does, the encoder's bias takes the difference over: `x W + b = (x − b_dec) W + (b + b_dec W)`. \
Sparsify and dictionary_learning choose by pre-activations as they are, so decoder norms are folded into a `topk` that chooses by activation times norm. \
No format has a place for `top_afa`.

`ae.pt` is what `torch.load(weights_only=True)` reads: a zip archive of tensors and the pickle that names them, the same bytes for the same dictionary. \
A hook point at the end of a block, or of its attention or MLP, has in `submodule_name` the name that the demos of dictionary_learning give it \
(`resid_post_layer_3`), any other its own; `lm_name` is null. What `config.json` said of a dictionary that was loaded from this format is kept.

`fold_decoder_norms: true` gives the decoder rows norm 1: `W_enc`, its biases and thresholds are multiplied by the norms. That leaves what a \
`relu`, `gated` or `jumprelu` dictionary computes as it is (its features are scaled), and a `topk` with `rescale_acts_by_decoder_norm: true`. \
It is refused for a plain `topk`, whose k largest pre-activations would be others, and for `matching_pursuit`, whose encoder is the decoder.

**Where the files are.** The output is a folder of plain files in the store: complete or not there at all, and never changed. A `uses: command` \
stage that has it as an input finds the files in the folder it is given, `mediant status` names the folder, and `mediant export FILE STAGE DIR` \
copies them out.";

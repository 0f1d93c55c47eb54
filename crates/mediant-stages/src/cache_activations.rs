//! `cache_activations`: a model's activations on a corpus, to disk.

use std::io;
use std::time::Instant;

use mediant_artifact::{
    ActivationsFacts, ActivationsMeta, ActivationsWriter, DType, Facts, HookFact, Kind, ModelReader, ModelTokenizer,
    Tokens,
};
use mediant_engine::{
    Docs, InputFacts, Output, Port, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_lm::{Capture, HookPoint, LmConfig, Positions, model_facts};
use mediant_tensor::on_device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::compute_device;
use crate::direction::DICTIONARY;
use crate::interventions::{ACTIVATIONS, Intervention, Scene, check, resolve, with_interventions};
use crate::model_input::{check_tokens, choose_hooks};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct CacheActivations;

/// Options of `cache_activations`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Hook points by their TransformerLens names, or globs: `blocks.*.hook_resid_post`.
    hooks: Vec<String>,
    /// Format of the stored numbers.
    #[serde(default)]
    dtype: Format,
    /// Which positions of each row are kept, of those whose mask is set: `all`, `last`, `{ exclude_first: 1 }` or `{ at: [0, -1] }`.
    #[serde(default)]
    positions: Positions,
    /// Changes of activations on the way: `[{ at: blocks.2.hook_resid_post, do: zero, positions: { exclude_first: 1 } }]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    interventions: Vec<Intervention>,
}

/// Format of stored numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// As computed.
    #[default]
    Float32,
    /// Half the size; up to 65,504, 11 significant bits.
    Float16,
    /// Half the size; the range of float32, 8 significant bits.
    Bfloat16,
}

impl From<Format> for DType {
    fn from(format: Format) -> Self {
        match format {
            Format::Float32 => Self::F32,
            Format::Float16 => Self::F16,
            Format::Bfloat16 => Self::BF16,
        }
    }
}

const PORTS: &[Port] = &[
    Port::one("model", &[Kind::Model], "The model."),
    Port::one("tokens", &[Kind::Tokens], "What it reads."),
    ACTIVATIONS,
    DICTIONARY,
];

/// Rows of a part, which work resumes at.
const PART_ROWS: u64 = 1 << 16;

impl Stage for CacheActivations {
    type Config = Config;
    const NAME: &'static str = "cache_activations";
    const VERSION: u32 = 1;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Activations of a model at chosen hook points on a corpus",
            details: DETAILS,
            example: "acts:\n  uses: cache_activations\n  inputs: { model: model, tokens: tokens.train }\n  with: { hooks: [blocks.2.hook_resid_post] }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![Output::new("activations", Kind::Activations, "One vector a hook point for every kept position.")]
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        if config.hooks.is_empty() { Err(Problems::config("hooks", "no hook point is listed")) } else { Ok(()) }
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let (Some(model), Some(tokens)) = (inputs.model("model"), inputs.tokens("tokens")) else {
            return Ok(Vec::new());
        };
        let mut problems = Problems::none();
        problems.check(check_tokens(inputs, "model", "tokens"));
        let hooks = choose_hooks("hooks", &config.hooks, model).unwrap_or_else(|wrong| {
            problems.push(wrong);
            Vec::new()
        });
        if let Some((i, at)) = config.positions.out_of_reach(tokens.context) {
            let message = format!("no row has a position {at}: rows have up to {} tokens", tokens.context);
            problems.push(Problems::config(format!("positions.at[{i}]"), message));
        }
        let last = hooks.iter().filter_map(|hook| hook.name.parse().ok()).max();
        let scene = Scene { logits: true, context: Some(tokens.context), last, ..Scene::default() };
        problems.check(check(&config.interventions, inputs, scene));
        problems.finish()?;
        let facts = ActivationsFacts {
            hooks: hooks.into_iter().map(|hook| stored(hook, tokens.context)).collect(),
            dtype: config.dtype.into(),
            rows: None,
            model: Some(Box::new(model.clone())),
        };
        Ok(vec![("activations".to_owned(), Facts::Activations(facts))])
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        Resources::all_cpus()
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let model = cx.input("model")?;
        let tokens = Tokens::read(&cx.input("tokens")?)?;
        let reader = ModelReader::open(&model)?;
        let facts = model_facts(&LmConfig::of_artifact(&reader.meta)?, ModelTokenizer::Absent);
        let hooks = choose_hooks("hooks", &config.hooks, &facts)
            .map_err(|_| StageError::new("the model lacks a hook point"))?;
        let points = hooks.iter().map(|hook| hook.name.parse()).collect::<Result<Vec<HookPoint>, _>>()?;
        let hooks: Vec<_> = hooks.into_iter().map(|hook| stored(hook, tokens.meta.context)).collect();
        let capture = Capture { hooks: points, positions: config.positions.clone() };
        announce(cx, &hooks, capture.rows(&tokens));

        let artifact = match cx.checkpoints().latest()? {
            Some(checkpoint) => cx.output_resumed("activations", &checkpoint)?,
            None => cx.output("activations")?,
        };
        let writer = ActivationsWriter::new(artifact, &hooks, config.dtype.into())?;
        let writer = on_device!(compute_device(cx.device()), C, device => {
            let model = mediant_lm::load::<C>(&model, &device)?;
            let progress = |done, total| {
                cx.progress(done, total, "tokens");
                cx.check_cancelled()
            };
            let edits = resolve(cx, &config.interventions, &model, 0, None)?;
            capture.run(&model, &tokens, || edits.hooks(), writer, progress, saver(cx))
        })?;
        let rows = writer.rows();
        writer.finish(&ActivationsMeta {
            model: cx.input_digest("model")?,
            tokens: cx.input_digest("tokens")?,
            hooks,
            dtype: config.dtype.into(),
            positions: config.positions.to_string(),
            prepend_bos: tokens.meta.prepend_bos,
            context: tokens.meta.context,
            rows,
            processing: reader.meta.processing,
        })?;
        Ok(())
    }
}

/// A hook point as it is stored: attention maps have as many keys as a row of the corpus may have.
fn stored(mut hook: HookFact, context: usize) -> HookFact {
    if hook.name.parse().is_ok_and(HookPoint::per_key)
        && let Some(keys) = hook.shape.last_mut()
    {
        *keys = context;
    }
    hook
}

fn announce(cx: &RunContext<'_, Config>, hooks: &[HookFact], rows: u64) {
    let dtype = DType::from(cx.config().dtype);
    let width: usize = hooks.iter().map(HookFact::width).sum();
    let bytes = rows as f64 * (width * dtype.size()) as f64;
    let points = if let [hook] = hooks { hook.name.clone() } else { format!("{} hook points", hooks.len()) };
    cx.note(format!("{points}: {rows} rows of {width} numbers in {}, {:.3} GB", dtype.name(), bytes / 1e9));
}

/// Saves a checkpoint after a batch when more parts are complete than at the last one.
fn saver<'c>(cx: &RunContext<'c, Config>) -> impl FnMut(&ActivationsWriter) -> Result<(), StageError> + Send + use<'c> {
    let (checkpoints, every) = (cx.checkpoints(), cx.checkpoint_every());
    let (mut parts, mut saved) = (0, Instant::now());
    move |writer| {
        if writer.rows() / PART_ROWS > parts && saved.elapsed() > every {
            checkpoints.save(|folder| writer.checkpoint(folder).map_err(io::Error::other))?;
            (parts, saved) = (writer.rows() / PART_ROWS, Instant::now());
        }
        Ok(())
    }
}

const DETAILS: &str = with_interventions!(
    "\
Rows are the kept positions of all rows of the corpus, in order; the table `index` holds example, position and token of each, and one \
table a hook point holds the vectors, named by it. Shapes at one position: `[d_model]` for the residual stream and what is added to it, \
`[heads, d_head]` for `attn.hook_q`, `hook_k`, `hook_v`, `hook_z` (and `hook_rot_q`, `hook_rot_k`), `[d_mlp]` for `mlp.hook_pre`, \
`hook_pre_linear`, `hook_post`, `[1]` for `hook_scale`, and `[heads, context]` for `attn.hook_attn_scores` and `hook_pattern`, whose \
position is the query's (−∞ and 0 beyond the keys that there are).

The model runs only as far as the last hook point needs. Memory is that of two batches, whatever the length of the corpus; writing \
goes on beside the computation. An interrupted run goes on at the last complete part of 65,536 rows.

In globs `*` stands for anything but a dot, `**` for anything: `blocks.*.hook_resid_post`, `blocks.[02].attn.hook_z`.

What is cached is what the interventions leave; an intervention behind the last cached hook point is refused. Their `seed` is 0 if left out."
);

//! `feature_table`: what each latent responds to and promotes.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float32Array, Float64Array, Int32Array, ListArray, RecordBatch, StringArray, UInt32Array, UInt64Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use mediant_artifact::{Facts, Kind, ModelReader, TableFacts, TableMeta, Tokens};
use mediant_dict::Sae;
use mediant_engine::{
    Docs, InputFacts, Output, Port, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_lm::Model;
use mediant_lm::text::Tokenizer;
use mediant_methods::features::{Context, Contexts, Features, features, logit_weights};
use mediant_tensor::{Compute, on_device};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::compute_device;
use crate::model_input::check_tokens;
use crate::sae_input::{Dictionary, check_dictionary, foreign, read_dictionary, written};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct FeatureTable;

/// Options of `feature_table`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Top activating contexts of each latent, each of another sequence.
    #[serde(default = "ten")]
    contexts: usize,
    /// Tokens of a context before the one at which the latent is largest.
    #[serde(default = "ten")]
    before: usize,
    /// Tokens of a context after it.
    #[serde(default = "five")]
    after: usize,
    /// Tokens that each latent promotes most, and as many that it suppresses most; 0 for hooks outside the residual stream.
    #[serde(default = "ten")]
    logits: usize,
}

fn ten() -> usize {
    10
}

fn five() -> usize {
    5
}

/// Latents written at a time.
const LATENTS: usize = 256;

/// Latents, places and positions are counted in 32 bits, and contexts are held in memory.
const MOST: usize = 10_000;

const PORTS: &[Port] = &[
    Port::one("model", &[Kind::Model], "The model."),
    Port::one("sae", &[Kind::Dictionary], "The autoencoder or transcoder whose latents are described."),
    Port::one("tokens", &[Kind::Tokens], "Where contexts come from."),
];

const FEATURES: [&str; 7] = ["latent", "active", "density", "mean", "max", "decoder_norm", "encoder_decoder_cosine"];
const CONTEXTS: [&str; 11] =
    ["latent", "place", "value", "example", "position", "token", "before", "text", "after", "start", "activations"];
const LOGITS: [&str; 6] = ["latent", "side", "place", "token", "text", "weight"];

impl Stage for FeatureTable {
    type Config = Config;
    const NAME: &'static str = "feature_table";
    const VERSION: u32 = 1;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Top activating contexts, logit weights and density of every latent of an autoencoder",
            details: DETAILS,
            example: "features:\n  uses: feature_table\n  inputs: { model: model, sae: sae, tokens: tokens.test }\n  with: { contexts: 5 }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![
            Output::new("features", Kind::Table, "A row a latent: how often and how much it is active."),
            Output::new("contexts", Kind::Table, "The contexts in which each latent is largest, with its values."),
            Output::new("logits", Kind::Table, "The tokens that each latent promotes and suppresses most."),
        ]
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        let mut problems = Problems::none();
        let counts = [("contexts", config.contexts), ("before", config.before), ("after", config.after)];
        for (field, count) in counts {
            if count > MOST {
                problems.push(Problems::config(field, format!("must be at most {MOST}")));
            }
        }
        problems.finish()
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let mut problems = Problems::none();
        problems.check(check_tokens(inputs, "model", "tokens"));
        if let (Some(model), Some(sae)) = (inputs.model("model"), inputs.dictionary("sae")) {
            problems.check(check_dictionary("sae", sae, model));
            if config.logits > model.vocab_size {
                problems.push(Problems::config("logits", format!("the model has only {} tokens", model.vocab_size)));
            }
            let (name, _) = written(sae);
            match model.hook(name) {
                Some(hook) if config.logits > 0 && hook.shape != [model.d_model] => {
                    let (d_model, shape) = (model.d_model, &hook.shape);
                    let message = format!("the unembedding reads vectors of {d_model}, `{name}` has shape {shape:?}");
                    problems.push(Problems::config("logits", message).help("`logits: 0` leaves logit weights out"));
                }
                _ => {}
            }
        }
        problems.finish()?;
        let table = |columns: &[&str]| {
            Facts::Table(TableFacts { columns: Some(columns.iter().map(|name| (*name).to_owned()).collect()) })
        };
        Ok(vec![
            ("features".to_owned(), table(&FEATURES)),
            ("contexts".to_owned(), table(&CONTEXTS)),
            ("logits".to_owned(), table(&LOGITS)),
        ])
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        Resources::all_cpus()
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let &Config { contexts: count, before, after, .. } = cx.config();
        let Dictionary { sae, meta, hook, out } = read_dictionary(&cx.input("sae")?)?;
        if let Some(note) = foreign(&meta, cx.input_digest("model")?) {
            cx.note(note);
        }
        let tokens = Tokens::read(&cx.input("tokens")?)?;
        let model = cx.input("model")?;
        let tokenizer = Tokenizer::from_files(&ModelReader::open(&model)?.files)?;
        on_device!(compute_device(cx.device()), C, device => {
            let model = mediant_lm::load::<C>(&model, &device)?;
            let found = features(&model, &sae, hook, &tokens, Contexts { count, before, after }, |done, total| {
                cx.progress(done, total, "tokens");
                cx.check_cancelled()
            })?;
            write_features(cx, (&sae, hook != out), &found)?;
            write_contexts(cx, &found, &tokens, tokenizer.as_ref())?;
            write_logits(cx, &model, &sae, tokenizer.as_ref())
        })
    }
}

fn schema(names: &[&str], types: Vec<DataType>, nullable: &[&str]) -> SchemaRef {
    let fields = names.iter().zip(types).map(|(name, of)| Field::new(*name, of, nullable.contains(name)));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn meta(title: &str, description: &str) -> TableMeta {
    TableMeta { title: title.to_owned(), description: description.to_owned() }
}

fn write_features(
    cx: &RunContext<'_, Config>,
    (sae, transcodes): (&Sae, bool),
    found: &Features,
) -> Result<(), StageError> {
    use DataType::{Float32, Float64, UInt32, UInt64};
    let types = vec![UInt32, UInt64, Float64, Float64, Float32, Float32, Float32];
    let schema = schema(&FEATURES, types, &["mean", "max", "encoder_decoder_cosine"]);
    let artifact = cx.output("features")?;
    let mut table = artifact.table("rows", schema.clone())?;
    let weights = sae.weights();
    let norms = weights.decoder_norms();
    for first in (0..weights.d_sae).step_by(LATENTS) {
        let range = first..weights.d_sae.min(first + LATENTS);
        let latents = &found.latents[range.clone()];
        let cosines = range.clone().map(|latent| {
            let at = latent * weights.d_in..(latent + 1) * weights.d_in;
            // Vectors of two hook points have no angle.
            if transcodes { None } else { cosine(&weights.encoder()[at.clone()], &weights.w_dec[at]) }
        });
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from_iter_values(range.clone().map(|latent| latent as u32))),
            Arc::new(UInt64Array::from_iter_values(latents.iter().map(|latent| latent.active))),
            Arc::new(Float64Array::from_iter_values(
                latents.iter().map(|latent| latent.active as f64 / found.positions as f64),
            )),
            Arc::new(
                latents
                    .iter()
                    .map(|latent| (latent.active > 0).then(|| latent.sum / latent.active as f64))
                    .collect::<Float64Array>(),
            ),
            Arc::new(latents.iter().map(|latent| (latent.active > 0).then_some(latent.max)).collect::<Float32Array>()),
            Arc::new(Float32Array::from_iter_values(norms[range.clone()].iter().copied())),
            Arc::new(cosines.collect::<Float32Array>()),
        ];
        table.write(&RecordBatch::try_new(schema.clone(), columns)?)?;
    }
    table.close()?;
    artifact.finish(&meta("Latents", "How often and how much each latent of an autoencoder is active"))?;
    Ok(())
}

/// None where one of the two is 0.
fn cosine(a: &[f32], b: &[f32]) -> Option<f32> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    (lengths > 0.0).then(|| (dot(a, b) / lengths) as f32)
}

fn write_contexts(
    cx: &RunContext<'_, Config>,
    found: &Features,
    tokens: &Tokens,
    tokenizer: Option<&Tokenizer>,
) -> Result<(), StageError> {
    use DataType::{Float32, Int32, UInt32, Utf8};
    let item = Arc::new(Field::new_list_field(Float32, false));
    let types =
        vec![UInt32, UInt32, Float32, UInt32, UInt32, Int32, Utf8, Utf8, Utf8, UInt32, DataType::List(item.clone())];
    let schema = schema(&CONTEXTS, types, &["before", "text", "after"]);
    let artifact = cx.output("contexts")?;
    let mut table = artifact.table("rows", schema.clone())?;
    let decode = |ids: &[i32]| -> Result<Option<String>, StageError> {
        let ids: Vec<u32> = ids.iter().map(|id| *id as u32).collect();
        Ok(tokenizer.map(|tokenizer| tokenizer.decode(&ids)).transpose()?)
    };
    for first in (0..found.latents.len()).step_by(LATENTS) {
        let latents = first..found.latents.len().min(first + LATENTS);
        let rows = latents.flat_map(|latent| {
            found.latents[latent].top.iter().zip(1u32..).map(move |(context, place)| (latent as u32, place, context))
        });
        let rows: Vec<(u32, u32, &Context)> = rows.collect();
        let mut texts: [Vec<Option<String>>; 3] = [vec![], vec![], vec![]];
        for (.., context) in &rows {
            let ids = tokens.sequence(context.example as usize);
            let (first, at) = (context.first as usize, context.position as usize);
            texts[0].push(decode(&ids[first..at])?);
            texts[1].push(decode(&ids[at..=at])?);
            texts[2].push(decode(&ids[at + 1..first + context.values.len()])?);
        }
        let [before, text, after] = texts.map(|texts| -> ArrayRef { Arc::new(StringArray::from(texts)) });
        let count = |of: fn(&Context) -> u32| -> ArrayRef {
            Arc::new(UInt32Array::from_iter_values(rows.iter().map(|(.., context)| of(context))))
        };
        let ids = rows.iter().map(|(.., at)| tokens.sequence(at.example as usize)[at.position as usize]);
        let values: Vec<f32> = rows.iter().flat_map(|(.., context)| context.values.iter().copied()).collect();
        let offsets = OffsetBuffer::from_lengths(rows.iter().map(|(.., context)| context.values.len()));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from_iter_values(rows.iter().map(|(latent, ..)| *latent))),
            Arc::new(UInt32Array::from_iter_values(rows.iter().map(|(_, place, _)| *place))),
            Arc::new(Float32Array::from_iter_values(rows.iter().map(|(.., context)| context.value))),
            count(|context| context.example),
            count(|context| context.position),
            Arc::new(Int32Array::from_iter_values(ids)),
            before,
            text,
            after,
            count(|context| context.first),
            Arc::new(ListArray::try_new(item.clone(), offsets, Arc::new(Float32Array::from(values)), None)?),
        ];
        table.write(&RecordBatch::try_new(schema.clone(), columns)?)?;
    }
    table.close()?;
    artifact.finish(&meta(
        "Top activating contexts",
        "Where each latent is largest, and its value at every token around",
    ))?;
    Ok(())
}

fn write_logits<C: Compute>(
    cx: &RunContext<'_, Config>,
    model: &Model<C>,
    sae: &Sae,
    tokenizer: Option<&Tokenizer>,
) -> Result<(), StageError> {
    use DataType::{Float32, UInt32, Utf8};
    let schema = schema(&LOGITS, vec![UInt32, Utf8, UInt32, UInt32, Utf8, Float32], &["text"]);
    let artifact = cx.output("logits")?;
    let mut table = artifact.table("rows", schema.clone())?;
    let (count, d_sae) = (cx.config().logits, sae.weights().d_sae);
    for first in (0..d_sae).step_by(LATENTS).filter(|_| count > 0) {
        let latents = first..d_sae.min(first + LATENTS);
        let weights = logit_weights(model, sae, latents.clone(), count)?;
        let rows = latents.zip(&weights).flat_map(|(latent, weights)| {
            let sides = [("promoted", &weights.promoted), ("suppressed", &weights.suppressed)];
            sides.into_iter().flat_map(move |(side, tokens)| {
                tokens
                    .iter()
                    .zip(1u32..)
                    .map(move |((token, weight), place)| (latent as u32, side, place, *token, *weight))
            })
        });
        let rows: Vec<(u32, &str, u32, u32, f32)> = rows.collect();
        let texts = rows.iter().map(|row| Ok(tokenizer.map(|tokenizer| tokenizer.decode(&[row.3])).transpose()?));
        let texts = texts.collect::<Result<Vec<Option<String>>, StageError>>()?;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.0))),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1))),
            Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.2))),
            Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.3))),
            Arc::new(StringArray::from(texts)),
            Arc::new(Float32Array::from_iter_values(rows.iter().map(|row| row.4))),
        ];
        table.write(&RecordBatch::try_new(schema.clone(), columns)?)?;
        cx.check_cancelled()?;
    }
    table.close()?;
    artifact.finish(&meta("Logit weights", "The tokens whose logits each latent raises and lowers most"))?;
    Ok(())
}

const DETAILS: &str = "\
Over all positions whose mask is set, with f the code that the autoencoder gives at inference:

- `features`, a row a latent: `active`, the positions at which it is active, and `density`, their share; `mean` and `max` of its activation \
  where it is active (null if it never is); `decoder_norm` = ‖W_dec‖ of its row; `encoder_decoder_cosine` (null of a \
  transcoder, which reads and writes different vectors);
- `contexts`: the `contexts` positions at which it is largest, the largest first (`place` 1), of each sequence one at most. `text` is \
  the token there, `before` and `after` are the texts of the tokens around it; `activations` has its activation at every token of the context, \
  which begins at position `start` (0 where the mask is not set);
- `logits`: the tokens that have the largest (`side` promoted) and the least (suppressed) weights in its row of W_dec W_U, the direct path to \
  the logits, with the last norm's scale left out. Where W_dec is not of unit length weights are in proportion to `decoder_norm`.

Texts are null where the model has no tokenizer. Tokens are read batch by batch; what is held grows with latents and contexts, not with \
tokens. The latents that promote a word, with what they respond to:

```sql
SELECT c.latent, c.value, c.before, c.text FROM \"features.contexts\" c
JOIN \"features.logits\" l ON l.latent = c.latent
WHERE l.text = ' he' AND l.side = 'promoted' AND l.place <= 3 AND c.place = 1
```";

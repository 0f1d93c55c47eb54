//! `evaluate_synth_sae`: how much of the truth did an autoencoder find?

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, UInt32Array, UInt64Array};
use arrow::datatypes::{Field, Schema};
use mediant_artifact::{DictionaryFacts, Facts, Kind, TableFacts, TableMeta, write_metrics, write_table};
use mediant_dict::synth::{ARCHITECTURE, HOOK, SynthEvaluation, artifact, evaluate};
use mediant_engine::{
    Docs, InputFacts, Output, Port, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct EvaluateSynthSae;

/// Options of `evaluate_synth_sae`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Vectors to measure on; none of them is among those for training.
    #[serde(default = "rows")]
    rows: u64,
}

fn rows() -> u64 {
    500_000
}

const PORTS: &[Port] = &[
    Port::one("truth", &[Kind::Dictionary], "The truth, of `synth_sae_bench`."),
    Port::one("sae", &[Kind::Dictionary], "The autoencoder, trained on its vectors."),
];

const LATENTS: [&str; 11] = [
    "latent",
    "best_feature",
    "best_cosine",
    "paired_feature",
    "paired_cosine",
    "active",
    "firing",
    "both",
    "precision",
    "recall",
    "f1",
];

impl Stage for EvaluateSynthSae {
    type Config = Config;
    const NAME: &'static str = "evaluate_synth_sae";
    const VERSION: u32 = 1;

    fn docs(&self) -> Docs {
        Docs {
            summary: "How well an autoencoder found the features of a synthetic benchmark",
            details: DETAILS,
            example: "eval:\n  uses: evaluate_synth_sae\n  inputs: { truth: bench.truth, sae: sae }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![
            Output::new(
                "metrics",
                Kind::Metrics,
                "`mcc`, `f1`, `precision`, `recall`, `uniqueness`, `ev_mc` and others.",
            ),
            Output::new(
                "latents",
                Kind::Table,
                "A row a latent: the features it matches, and how well it detects one.",
            ),
        ]
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        if config.rows == 0 { Err(Problems::config("rows", "must be at least 1")) } else { Ok(()) }
    }

    fn infer(&self, _: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let mut problems = Problems::none();
        let truth = inputs.dictionary("truth");
        problems.check(truth.map_or(Ok(()), |truth| check_truth("truth", truth)));
        if let (Some(truth), Some(sae)) = (truth, inputs.dictionary("sae")) {
            if sae.architecture == ARCHITECTURE {
                let itself = Problems::input("sae", "this is the truth itself: it has no encoder");
                problems.push(itself.help("connect an output of `train_sae`"));
            } else if sae.hook != HOOK {
                let message =
                    format!("it was trained on `{}` of a model, not on the vectors of this benchmark", sae.hook);
                problems.push(Problems::input("sae", message));
            } else if sae.d_in != truth.d_in {
                let message =
                    format!("it reads vectors of {}, the benchmark makes vectors of {}", sae.d_in, truth.d_in);
                problems.push(Problems::input("sae", message));
            }
        }
        problems.finish()?;
        let columns = LATENTS.iter().map(|column| (*column).to_owned()).collect();
        Ok(vec![
            ("metrics".to_owned(), Facts::Metrics),
            ("latents".to_owned(), Facts::Table(TableFacts { columns: Some(columns) })),
        ])
    }

    fn resources(&self, _: &Config, inputs: &InputFacts) -> Resources {
        let size = |port| inputs.dictionary(port).map_or(0, |of| of.d_sae as u64);
        let width = inputs.dictionary("truth").map_or(0, |truth| truth.d_in as u64);
        let (features, latents) = (size("truth"), size("sae"));
        // The cosines, once more if they are to be transposed; both dictionaries, and with unit vectors; a piece of vectors.
        let cosines = features * latents * if latents > features { 2 } else { 1 };
        let numbers = cosines + 2 * (features + 2 * latents) * width + (1 << 25) + 3 * 4096 * width;
        Resources { memory: 4 * numbers, gpus: 0, ..Resources::all_cpus() }
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let generator = artifact::read(&cx.input("truth")?)?;
        let (sae, meta) = mediant_dict::artifact::read(&cx.input("sae")?)?;
        let own = meta.model == Some(cx.input_digest("truth")?);
        if !own {
            cx.note("the autoencoder was trained on the vectors of another truth than the one it is evaluated on");
        }
        let found = evaluate(&generator, &sae, cx.config().rows, |done, total| {
            cx.progress(done, total, "vectors");
            cx.check_cancelled()
        })?;
        let mut metrics = found.metrics();
        for row in &mut metrics {
            row.split = Some("evaluation".to_owned());
            if !own {
                row.tags.insert("truth".to_owned(), "not the one trained on".to_owned());
            }
        }
        write_metrics(cx.output("metrics")?, &metrics)?;
        let latents = latents(&found)?;
        let meta = TableMeta {
            title: "Latents".to_owned(),
            description: "The features that each latent matches, and how well it detects the best of them.".to_owned(),
        };
        write_table(cx.output("latents")?, latents.schema(), [Ok(latents)], &meta)?;
        Ok(())
    }
}

/// Whether a dictionary at a port is the truth of a benchmark.
pub(crate) fn check_truth(port: &str, truth: &DictionaryFacts) -> Result<(), Problems> {
    if truth.architecture == ARCHITECTURE {
        return Ok(());
    }
    let message =
        format!("this is a trained dictionary ({}), not the truth of a synthetic benchmark", truth.architecture);
    Err(Problems::input(port, message).help("connect `truth` of a `synth_sae_bench`"))
}

fn latents(found: &SynthEvaluation) -> Result<RecordBatch, StageError> {
    let (matching, counts) = (&found.matching, &found.counts);
    let best = matching.best.iter();
    let paired = matching.paired.iter();
    let count = |of: fn(&mediant_dict::synth::Counts) -> u64| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(counts.iter().map(of)))
    };
    let number = |of: &dyn Fn(&mediant_dict::synth::Counts) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(counts.iter().map(of)))
    };
    let columns: [ArrayRef; 11] = [
        Arc::new(UInt32Array::from_iter_values(0..counts.len() as u32)),
        Arc::new(UInt32Array::from_iter_values(best.clone().map(|(feature, _)| *feature))),
        Arc::new(Float64Array::from_iter_values(best.map(|(_, cosine)| f64::from(*cosine)))),
        Arc::new(paired.clone().map(|pair| pair.map(|(feature, _)| feature)).collect::<UInt32Array>()),
        Arc::new(paired.map(|pair| pair.map(|(_, cosine)| f64::from(cosine))).collect::<Float64Array>()),
        count(|counts| counts.active),
        count(|counts| counts.firing),
        count(|counts| counts.both),
        number(&|counts| counts.precision()),
        number(&|counts| counts.recall()),
        number(&|counts| counts.f1()),
    ];
    let nullable = |name: &str| name.starts_with("paired");
    let fields = LATENTS.iter().zip(&columns);
    let fields: Vec<Field> =
        fields.map(|(name, column)| Field::new(*name, column.data_type().clone(), nullable(name))).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.to_vec())?)
}

const DETAILS: &str = "\
With latents' decoder vectors d_i and features g_j, as SAELens 6.54 measures it (`eval_sae_on_synthetic_data`):

- `mcc`, the mean correlation coefficient: latents and features are paired one to one so that the sum of |cos(d_i, g_j)| is as large as can \
  be (exactly, by shortest augmenting paths); the mean of |cos| over the pairs.
- `uniqueness`: every latent has a best feature, that of its largest |cos|; the number of different best features, divided by the number of \
  latents.
- `precision`, `recall`, `f1`, `accuracy`: a latent is taken as a detector of its best feature: it says yes where it is active, and is right \
  where the feature fires (v above 0, after parents and siblings). Means over latents; a latent that is never active counts with 0, as does one \
  whose feature never fires.
- `ev_mc` = 1 − E‖x − x̂‖² / (E‖x‖² − ‖E x‖²), `mse`, `cossim`, and `shrinkage` = E ‖x̂‖/‖x‖, as in `evaluate_sae`; \
  `l0`, active latents of a vector; `true_l0`, firing features of a vector; `dead_fraction`, latents that are never active.

Vectors are drawn from the truth, `rows` of them, the first of its evaluation set. `n` is the number of pairs, of latents or of vectors.

`latents` holds for each latent its best and its paired feature with the cosines, and of how many vectors it is `active`, its best feature is \
`firing`, and `both`.";

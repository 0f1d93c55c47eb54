//! `sae_stability`: do trainings from other seeds find the same latents?

use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema};
use mediant_artifact::{DictionaryFacts, Facts, Kind, TableFacts, TableMeta, write_metrics};
use mediant_engine::{
    Docs, InputFacts, Output, Port, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_methods::stability::{Compared, compare_dictionaries, stability};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sae_input::written;

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct SaeStability;

/// Options of `sae_stability`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Of the bootstrap.
    #[serde(default)]
    seed: u64,
}

const PORTS: &[Port] = &[Port::many(
    "saes",
    &[Kind::Dictionary],
    "Two or more autoencoders of one hook point, or transcoders of one pair, such as those of several seeds.",
)];

const MATCHES: [&str; 5] = ["a", "b", "latent_a", "latent_b", "cosine"];

impl Stage for SaeStability {
    type Config = Config;
    const NAME: &'static str = "sae_stability";
    const VERSION: u32 = 1;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Whether autoencoders of several seeds found the same latents",
            details: DETAILS,
            example: "stability:\n  uses: sae_stability\n  inputs: { saes: { from: sae, over: [seed] } }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![
            Output::new("metrics", Kind::Metrics, "`stability`, and `matched_cosine` and others of every two."),
            Output::new("matches", Kind::Table, "Which latent of one is which of another: a row a matched pair."),
        ]
    }

    fn infer(&self, _: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let mut problems = Problems::none();
        let saes = inputs.many("saes");
        if saes.len() < 2 {
            let one = Problems::input("saes", "one autoencoder has nothing to be like");
            problems.push(one.help("give the stage that trains it a matrix of seeds, and collect them: `saes: { from: sae, over: [seed] }`"));
        }
        let facts: Vec<_> = saes.iter().filter_map(|member| member.facts.dictionary()).collect();
        let hooks = |sae: &DictionaryFacts| (sae.hook.clone(), sae.d_in, sae.hook_out.clone());
        if let Some(other) = facts.iter().find(|sae| hooks(sae) != hooks(facts[0])) {
            let message = format!("they are of {} and of {}", described(facts[0]), described(other));
            problems.push(Problems::input("saes", message).help("collect dictionaries of one hook point"));
        }
        problems.finish()?;
        let columns = MATCHES.map(str::to_owned).to_vec();
        Ok(vec![
            ("metrics".to_owned(), Facts::Metrics),
            ("matches".to_owned(), Facts::Table(TableFacts { columns: Some(columns) })),
        ])
    }

    fn resources(&self, _: &Config, inputs: &InputFacts) -> Resources {
        let facts = inputs.many("saes").iter().filter_map(|member| member.facts.dictionary());
        let (widest, parameters) = facts
            .fold((0, 0), |(widest, all), sae| (sae.d_sae.max(widest), all + (sae.d_in + written(sae).1) * sae.d_sae));
        Resources { memory: 4 * (widest * widest + 2 * parameters) as u64, gpus: 0, ..Resources::all_cpus() }
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let (mut names, mut saes) = (Vec::new(), Vec::new());
        for member in cx.members("saes")? {
            let labels = member.labels.iter().map(|(axis, label)| format!("{axis}={label}"));
            let name = member.name.into_iter().chain(labels).collect::<Vec<_>>().join(",");
            // A list without names: by place.
            names.push(if name.is_empty() { saes.len().to_string() } else { name });
            saes.push(mediant_dict::artifact::read(&member.artifact)?.0);
        }
        let pairs = (saes.len() * (saes.len() - 1) / 2) as u64;
        let artifact = cx.output("matches")?;
        let mut table = artifact.table("rows", schema())?;
        let (mut metrics, mut done) = (Vec::new(), 0);
        compare_dictionaries(&saes, |compared| {
            metrics.extend(compared.metrics(&names, cx.config().seed));
            table.write(&rows(&compared, &names)?)?;
            done += 1;
            cx.progress(done, pairs, "pairs");
            cx.check_cancelled()
        })?;
        table.close()?;
        let description = "Latents of two autoencoders whose decoder directions are matched one to one".to_owned();
        artifact.finish(&TableMeta { title: "Matched latents".to_owned(), description })?;
        let mut all = stability(&metrics);
        all.append(&mut metrics);
        write_metrics(cx.output("metrics")?, &all)?;
        Ok(())
    }
}

/// What it reads and, if that is something else, writes.
fn described(sae: &DictionaryFacts) -> String {
    let read = format!("vectors of {} at `{}`", sae.d_in, sae.hook);
    match &sae.hook_out {
        None => read,
        Some(out) => format!("{read} to vectors of {} at `{}`", out.width(), out.name),
    }
}

fn schema() -> Arc<Schema> {
    let types = [DataType::Utf8, DataType::Utf8, DataType::UInt32, DataType::UInt32, DataType::Float32];
    let fields = MATCHES.into_iter().zip(types).map(|(name, of)| Field::new(name, of, false));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn rows(compared: &Compared, names: &[String]) -> Result<RecordBatch, StageError> {
    let matched = &compared.alike.matched;
    let name = |of: usize| -> ArrayRef { Arc::new(StringArray::from_iter_values(matched.iter().map(|_| &names[of]))) };
    let columns: Vec<ArrayRef> = vec![
        name(compared.a),
        name(compared.b),
        Arc::new(UInt32Array::from_iter_values(matched.iter().map(|one| one.a as u32))),
        Arc::new(UInt32Array::from_iter_values(matched.iter().map(|one| one.b as u32))),
        Arc::new(Float32Array::from_iter_values(matched.iter().map(|one| one.cosine))),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

const DETAILS: &str = "\
Decoder directions of every two autoencoders are matched one to one so that the sum of their cosines is the largest (the Hungarian method, \
by shortest augmenting paths; where one has more latents, its surplus stays alone). Tags `a` and `b` name the two.

- `matched_cosine`: mean cosine of matched directions, with sign, since latents are positive; `stability` is its mean over all pairs;
- `matched_above_0.7`: share of matched directions whose cosine is above 0.7 (Paulo & Belrose 2025, arXiv:2501.16615: two large trainings \
  that differed in nothing but their seed shared 30 percent); `stability_above_0.7` its mean over all pairs;
- `mean_max_cosine`: mean over the latents of `a` of the largest cosine with any latent of `b` (MMCS, Sharkey et al. 2022); many may have the \
  same nearest, so of equally many latents it is never smaller than `matched_cosine`. Random directions are not at 0 in either, the less so the \
  fewer dimensions there are.

Intervals are 95 percent bootstrap intervals over matched pairs, the match fixed. Latents that are never active count like all others. \
`matches` says which latent is which; time grows with the third power of the number of latents at worst, memory with the second.";

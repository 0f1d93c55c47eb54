//! A card of what is to be told of a study, filled as far as its run tells it.
//!
//! The fields follow MI-CLAIM-GEN, a checklist for studies with generative models, in six parts and a seventh on ethics. Their wording
//! is our own. What a run cannot know is not left out: it says "not supplied".

use std::collections::{BTreeMap, BTreeSet};

use mediant_artifact::{Artifact, DictionaryMeta, Kind, ModelMeta, PromptsMeta, ScoresMeta, TokensMeta, read_metrics};
use serde_json::{Map, Value};

use super::markdown::plain;
use super::run::{InstanceRun, ResultFile, Run};
use crate::error::Result;
use crate::number::{bytes, count, float, plural};
use crate::show::tree::leaves;

/// What stands where a run says nothing.
const MISSING: &str = "not supplied";
/// Entries of a field; of more their number is said.
const MOST: usize = 12;

/// A card: parts with fields.
#[derive(Clone, Debug)]
pub struct Card {
    title: String,
    parts: Vec<(&'static str, Vec<Field>)>,
}

/// A field's name and what the run says of it.
type Field = (&'static str, Option<String>);

impl Card {
    /// Fills a card from a run.
    ///
    /// # Errors
    /// If an artifact is damaged.
    pub fn of(run: &Run) -> Result<Self> {
        let seen = Seen::of(run)?;
        let parts = vec![
            (
                "1. Study design",
                vec![("Research question", None), ("Intended use", None), ("Methods", list(uses(run)))],
            ),
            (
                "2. Data and base model",
                vec![
                    (
                        "Sources and versions",
                        list(run.sources.iter().map(|(name, digest)| format!("{name} ({})", short(digest)))),
                    ),
                    ("Selection and exclusion", list(made(run, &[Kind::Tokens, Kind::Prompts]))),
                    ("Number of items", list(seen.items.clone())),
                    ("Partition", list(seen.splits.clone())),
                    ("Check for leakage", None),
                    ("Base model", list(seen.models.clone())),
                    ("Data that the base model was trained on", None),
                    ("Licences", None),
                ],
            ),
            (
                "3. Baselines, selection, optimisation",
                vec![
                    ("Training and its options", list(made(run, &[Kind::Dictionary, Kind::Model]))),
                    ("Prompts and decoding", list(seen.prompts.clone())),
                    ("Seeds", list(seeds(run))),
                    ("What is compared", list(axes(run, |axis| axis != "seed"))),
                    ("Baselines", None),
                ],
            ),
            (
                "4. Evaluation",
                vec![
                    ("Metrics", list(seen.metrics.iter().map(|(name, n)| format!("{name} (n {n})")))),
                    ("Intervals", seen.intervals()),
                    ("Statistical test", None),
                    ("Spread over repeats", list(axes(run, |axis| axis == "seed"))),
                    ("Evaluation by people", None),
                    ("Open-ended output", None),
                    ("Robustness", None),
                    ("Subgroups", list(seen.subgroups())),
                ],
            ),
            (
                "5. Interpretability and its validation",
                vec![
                    ("Methods of interpretation", list(seen.scores.clone())),
                    ("Dictionaries", list(seen.dictionaries.clone())),
                    ("Validation", None),
                    ("Limitations and failures", list(failures(run))),
                ],
            ),
            (
                "6. Reproducibility",
                vec![
                    ("Pipeline", list(run.about.iter().map(|(name, value)| format!("{name}: {value}")))),
                    ("Changes to it", list(run.overrides.iter().map(|(path, value)| format!("{path}={value}")))),
                    (
                        "Keys of the results",
                        list(
                            run.instances
                                .iter()
                                .map(|instance| format!("{} {}", instance.label, short(&instance.recipe))),
                        ),
                    ),
                    (
                        "Software",
                        list(
                            costs(run)
                                .map(|cost| &cost.mediant)
                                .filter(|v| !v.is_empty())
                                .map(|v| format!("Mediant {v}")),
                        ),
                    ),
                    (
                        "Hardware",
                        list(costs(run).map(|cost| {
                            let parts = [cost.device.clone(), cost.machine.clone(), plural(cost.threads, "thread")];
                            parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
                        })),
                    ),
                    ("Cost", cost(run)),
                    ("Availability of code, data, weights", None),
                    ("History of changes", None),
                ],
            ),
            ("7. Ethics", vec![("Privacy", None), ("Ethics approval", None), ("Human oversight", None)]),
        ];
        Ok(Self { title: run.pipeline.clone(), parts })
    }

    /// As Markdown.
    pub fn to_markdown(&self) -> String {
        let mut out = format!("# Card of {}\n", plain(&self.title));
        for (part, fields) in &self.parts {
            out.push_str(&format!("\n## {part}\n\n"));
            for (name, value) in fields {
                out.push_str(&format!(
                    "- **{name}**: {}\n",
                    value.as_deref().map_or_else(|| MISSING.to_owned(), plain)
                ));
            }
        }
        out
    }

    /// As an object of parts, each an object of fields.
    pub fn to_json(&self) -> Value {
        let field = |(name, value): &Field| ((*name).to_owned(), Value::from(value.as_deref().unwrap_or(MISSING)));
        let part = |(name, fields): &(&str, Vec<_>)| {
            ((*name).to_owned(), Value::Object(fields.iter().map(field).collect::<Map<_, _>>()))
        };
        let mut out = Map::from_iter([("title".to_owned(), Value::from(self.title.as_str()))]);
        out.extend(self.parts.iter().map(part));
        Value::Object(out)
    }
}

/// What the artifacts of a run say of themselves.
#[derive(Default)]
struct Seen {
    items: Vec<String>,
    splits: Vec<String>,
    models: Vec<String>,
    prompts: Vec<String>,
    scores: Vec<String>,
    dictionaries: Vec<String>,
    /// Metrics with the least and the most items that they are of.
    metrics: BTreeMap<String, String>,
    interval_kinds: BTreeSet<String>,
    with_interval: usize,
    all_metrics: usize,
    tags: BTreeSet<String>,
}

impl Seen {
    fn of(run: &Run) -> Result<Self> {
        let mut seen = Self::default();
        let mut counts: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for instance in &run.instances {
            for result in &instance.results {
                seen.look(instance, result, &mut counts)?;
            }
        }
        let range = |(low, high): (u64, u64)| {
            if low == high { count(low) } else { format!("{} to {}", count(low), count(high)) }
        };
        seen.metrics = counts.into_iter().map(|(name, ends)| (name, range(ends))).collect();
        Ok(seen)
    }

    fn look(
        &mut self,
        instance: &InstanceRun,
        result: &ResultFile,
        counts: &mut BTreeMap<String, (u64, u64)>,
    ) -> Result<()> {
        let artifact: &Artifact = &result.artifact;
        let label =
            if result.default { instance.label.clone() } else { format!("{}.{}", instance.label, result.output) };
        match artifact.kind() {
            Kind::Tokens => {
                let meta: TokensMeta = artifact.meta()?;
                let (documents, tokens) = (plural(meta.documents, "document"), plural(meta.tokens, "token"));
                self.items.push(format!("{label}: {documents}, {tokens}"));
                self.splits.push(format!("{label}: {}, {documents}", meta.split));
            }
            Kind::Prompts => {
                let meta: PromptsMeta = artifact.meta()?;
                let rows = plural(meta.prompts, "prompt");
                self.items.push(format!("{label}: {rows}"));
                self.prompts.push(format!("{label}: {rows}, counterfactuals {}", meta.counterfactuals.join(", ")));
            }
            Kind::Model => {
                let meta: ModelMeta = artifact.meta()?;
                self.models.push(format!("{label}: {}, {} parameters", meta.architecture, count(meta.parameters)));
            }
            Kind::Dictionary => {
                let meta: DictionaryMeta = artifact.meta()?;
                self.dictionaries.push(format!(
                    "{label}: {}, {} latents at {}",
                    meta.architecture,
                    count(meta.d_sae as u64),
                    meta.hook
                ));
            }
            Kind::Scores => {
                let meta: ScoresMeta = artifact.meta()?;
                let other = meta.counterfactual.map(|name| format!(" against {name}")).unwrap_or_default();
                let formula = meta.contrast.formula();
                self.scores.push(format!("{label}: {} of {}{other}, score {formula}", meta.method, meta.metric));
            }
            Kind::Metrics => {
                for row in read_metrics(artifact)? {
                    self.all_metrics += 1;
                    self.with_interval += usize::from(row.low.is_some() && row.high.is_some());
                    self.interval_kinds.extend(row.tags.get("interval").cloned());
                    self.tags.extend(row.tags.into_keys());
                    let ends = counts.entry(row.name).or_insert((row.n, row.n));
                    *ends = (ends.0.min(row.n), ends.1.max(row.n));
                }
            }
            Kind::Tokenizer
            | Kind::Labels
            | Kind::Activations
            | Kind::Directions
            | Kind::Effects
            | Kind::Files
            | Kind::Table => {}
        }
        Ok(())
    }

    fn intervals(&self) -> Option<String> {
        let kinds: Vec<&str> = self.interval_kinds.iter().map(String::as_str).collect();
        let kinds = if kinds.is_empty() { String::new() } else { format!(": {}", kinds.join(", ")) };
        (self.with_interval > 0).then(|| {
            format!("{} of {} metrics{kinds}", count(self.with_interval as u64), count(self.all_metrics as u64))
        })
    }

    /// Tags that name parts of the data.
    fn subgroups(&self) -> Vec<String> {
        let parts = ["group", "template", "task", "condition", "scenario"];
        parts.into_iter().filter(|part| self.tags.contains(*part)).map(|part| format!("by {part}")).collect()
    }
}

/// What the stages do, each thing once.
fn uses(run: &Run) -> BTreeSet<String> {
    run.graph.nodes().iter().map(|node| node.uses.clone()).collect()
}

/// The options of stages that make artifacts of these kinds from others: those of the first instance of each.
fn made(run: &Run, kinds: &[Kind]) -> Vec<String> {
    let mut lines = Vec::new();
    let fed: BTreeSet<usize> = run.graph.edges().iter().map(|edge| edge.to).collect();
    for (number, node) in run.graph.nodes().iter().enumerate().filter(|(number, _)| fed.contains(number)) {
        let makes = |result: &ResultFile| kinds.contains(&result.artifact.kind());
        let first = run.of(number).iter().find(|instance| instance.results.iter().any(makes));
        let Some(first) = first else { continue };
        let mut options = Vec::new();
        leaves("", &first.options, &mut options);
        let options = options.iter().filter(|(_, cell)| !cell.shown().is_empty());
        let options: Vec<String> = options.map(|(path, cell)| format!("{path}={}", cell.shown())).collect();
        lines.push(format!("{}: {}", node.name, options.join(", ")));
    }
    lines
}

/// Labels of axes, by axis.
fn axes(run: &Run, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (axis, label) in run.instances.iter().flat_map(|instance| &instance.axes).filter(|(axis, _)| wanted(axis)) {
        let labels = found.entry(axis).or_default();
        if !labels.contains(&label.as_str()) {
            labels.push(label);
        }
    }
    found.into_iter().map(|(axis, labels)| format!("{axis}: {}", labels.join(", "))).collect()
}

/// Seeds of all options of that name.
fn seeds(run: &Run) -> Vec<String> {
    let mut seeds: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for instance in &run.instances {
        if let Some(seed) = instance.options.get("seed") {
            seeds.entry(&run.graph.nodes()[instance.node].name).or_default().insert(seed.to_string());
        }
    }
    seeds
        .into_iter()
        .map(|(stage, seeds)| format!("{stage}: {}", seeds.into_iter().collect::<Vec<_>>().join(", ")))
        .collect()
}

fn failures(run: &Run) -> Vec<String> {
    let failed = run.instances.iter().filter(|instance| !instance.why.is_empty());
    failed.map(|instance| format!("{}: {}", instance.label, instance.why)).collect()
}

fn costs(run: &Run) -> impl Iterator<Item = &super::run::Cost> {
    run.instances.iter().filter_map(|instance| instance.cost.as_ref())
}

fn cost(run: &Run) -> Option<String> {
    let seconds: f64 = run.instances.iter().filter_map(InstanceRun::own_seconds).sum();
    let memory = costs(run).map(|cost| cost.peak_memory).max()?;
    Some(format!("{} s in all stages, {} of memory at most", float((seconds * 1000.0).round() / 1000.0), bytes(memory)))
}

/// Different entries, the first of them; none if there are none.
fn list(entries: impl IntoIterator<Item = String>) -> Option<String> {
    let mut known = BTreeSet::new();
    let entries: Vec<String> = entries.into_iter().filter(|entry| known.insert(entry.clone())).collect();
    let rest = entries.len().saturating_sub(MOST);
    let mut text = entries[..entries.len() - rest].join("; ");
    if rest > 0 {
        text.push_str(&format!("; and {rest} more"));
    }
    (!text.is_empty()).then_some(text)
}

fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}

//! What a report says, from the pipeline's picture to the list of files.

use indexmap::IndexMap;
use mediant_artifact::{EffectsMeta, Kind, ScoresMeta};
use serde_json::Value;

use super::content::{self, Member};
use super::document::{Block, Data, Figure, Section, Sheet};
use super::plot::{AxisName, Mark, Row, intervals};
use super::run::{InstanceRun, ResultFile, Run};
use super::standing_cost;
use crate::dag::State;
use crate::error::Result;
use crate::number::{bytes, count, float, plural};
use crate::show::{main_table, tree::leaves};
use crate::table::{Cell, TextTable};

/// Instances in the table of stages, results in the list of files, stages in pictures, values of an option.
const MOST_INSTANCES: usize = 500;
const MOST_BARS: usize = 30;
const MOST_BOXES: usize = 200;
const MOST_VALUES: usize = 8;

pub(super) fn of(run: &Run) -> Result<Vec<Section>> {
    let mut sections = vec![pipeline(run), stages(run)];
    sections.extend(results(run)?);
    sections.extend(standing_cost::section(run, MOST_INSTANCES)?);
    sections.extend(passes(run)?);
    sections.extend(headline(run));
    sections.push(options(run));
    sections.push(files(run)?);
    Ok(sections)
}

fn pipeline(run: &Run) -> Section {
    let mut section = Section::new("Pipeline");
    let about = run.about.iter().map(|(name, value)| (name.clone(), Cell::text(value)));
    let overrides = run
        .overrides
        .iter()
        .map(|(path, value)| ("changed by --set".to_owned(), Cell::text(format!("{path}={value}"))));
    let seconds: f64 = run.instances.iter().filter_map(InstanceRun::own_seconds).sum();
    let time =
        ("time of all stages".to_owned(), Cell::text(format!("{} s", float((seconds * 1000.0).round() / 1000.0))));
    let memory = run.instances.iter().filter_map(|instance| instance.cost.as_ref()).map(|cost| cost.peak_memory).max();
    let memory = ("largest memory of a stage".to_owned(), Cell::or_empty(memory, Cell::Bytes));
    let facts = about.chain(overrides).chain([time, memory]).filter(|(_, cell)| *cell != Cell::Empty);
    section.blocks.push(Block::Facts(facts.collect()));
    let stages = run.graph.nodes().len();
    section.blocks.push(if stages <= MOST_BOXES {
        Block::Graph(run.graph.clone())
    } else {
        Block::Text(format!("{} stages are too many for a picture.", count(stages as u64)))
    });
    section
}

fn stages(run: &Run) -> Section {
    let mut section = Section::new("Stages");
    let mut table =
        TextTable::new(["stage", "uses", "state", "seconds", "memory", "shared by", "device", "threads", "why"]);
    let mut costs: IndexMap<&str, (f64, u64)> = IndexMap::new();
    for instance in &run.instances {
        let node = &run.graph.nodes()[instance.node];
        let cost = instance.cost.as_ref();
        let state = instance.state.map_or("not here", State::word);
        table.push([
            Cell::text(&instance.label),
            Cell::text(&node.uses),
            Cell::text(state),
            Cell::or_empty(cost, |cost| Cell::Float((cost.seconds * 1000.0).round() / 1000.0)),
            Cell::or_empty(cost, |cost| Cell::Bytes(cost.peak_memory)),
            Cell::or_empty(cost.filter(|cost| cost.together > 1), |cost| Cell::Count(cost.together)),
            Cell::or_empty(cost, |cost| Cell::text(&cost.device)),
            Cell::or_empty(cost, |cost| Cell::Count(cost.threads)),
            if instance.why.is_empty() { Cell::Empty } else { Cell::text(&instance.why) },
        ]);
        if let (Some(cost), Some(own)) = (cost, instance.own_seconds()) {
            let sums = costs.entry(&node.name).or_default();
            *sums = (sums.0 + own, sums.1.max(cost.peak_memory));
        }
    }
    let table = table.without_empty_columns(&["stage", "uses", "state"]);
    let together = run.instances.iter().any(|instance| instance.cost.as_ref().is_some_and(|cost| cost.together > 1));
    if together {
        let text = "Instances that ran as one have the time and memory of all of them; the column “shared by” says how many they were.";
        section.blocks.push(Block::Text(text.to_owned()));
    }
    let figures: Vec<Figure> = bars(&costs).into_iter().flatten().collect();
    if !figures.is_empty() {
        section.blocks.push(Block::Figures(figures));
    }
    let shown = table.clone().limited(MOST_INSTANCES);
    let sheet = Block::Sheet(Sheet { title: "Stages".to_owned(), shown, data: Data::own(table) });
    let folded = run.instances.len() > 40;
    let summary = format!("Table of {}", plural(run.instances.len() as u64, "instance"));
    section.blocks.push(if folded { Block::Folded(summary, vec![sheet]) } else { sheet });
    section
}

/// Time and memory of the stages that took most.
fn bars(costs: &IndexMap<&str, (f64, u64)>) -> [Option<Figure>; 2] {
    const MIB: f64 = 1_048_576.0;
    let draw = |title: &str,
                column: &str,
                axis: &AxisName,
                value: &dyn Fn(&(f64, u64)) -> f64,
                shown: &dyn Fn(&(f64, u64)) -> String| {
        let mut rows: Vec<Row> = costs
            .iter()
            .map(|(name, cost)| Row {
                name: (*name).to_owned(),
                value: value(cost),
                interval: None,
                shown: shown(cost),
            })
            .collect();
        rows.sort_by(|a, b| b.value.total_cmp(&a.value));
        rows.truncate(MOST_BARS);
        let mut data = TextTable::new(["stage", column]);
        for row in &rows {
            data.push([Cell::text(&row.name), Cell::Float(row.value)]);
        }
        Some(Figure { picture: intervals(title, "stage", axis, Mark::Bar, &rows)?, data: Data::own(data) })
    };
    let seconds = |cost: &(f64, u64)| float((cost.0 * 1000.0).round() / 1000.0);
    #[expect(clippy::cast_precision_loss, reason = "drawn, not counted with")]
    let mebibytes = |cost: &(f64, u64)| cost.1 as f64 / MIB;
    [
        draw("Time by stage", "seconds", &AxisName::new("time, all instances", "s"), &|cost| cost.0, &seconds),
        draw("Memory by stage", "MiB", &AxisName::new("largest resident memory", "MiB"), &mebibytes, &|cost| {
            bytes(cost.1)
        }),
    ]
}

/// A section for every stage whose results can be looked at, one below it for every output.
fn results(run: &Run) -> Result<Option<Section>> {
    let mut section = Section::new("Results");
    for (number, node) in run.graph.nodes().iter().enumerate() {
        let mut outputs: IndexMap<&str, Vec<(&InstanceRun, &ResultFile)>> = IndexMap::new();
        for instance in run.of(number) {
            for result in &instance.results {
                let output = result.output.split('[').next().unwrap_or_default();
                outputs.entry(output).or_default().push((instance, result));
            }
        }
        let mut parts = Vec::new();
        for (output, found) in &outputs {
            let members: Vec<Member<'_>> = found
                .iter()
                .map(|(instance, result)| Member {
                    axes: instance.axes.iter().chain(&result.key).cloned().collect(),
                    artifact: &result.artifact,
                })
                .collect();
            let Some(kind) = members.first().map(|member| member.artifact.kind()) else { continue };
            let blocks = content::blocks(kind, &members)?;
            if !blocks.is_empty() {
                let kind = if kind.name() == *output { String::new() } else { format!(" ({kind})") };
                parts.push(Section { heading: format!("{}.{output}{kind}", node.name), blocks, sections: Vec::new() });
            }
        }
        if !parts.is_empty() {
            let mut stage = Section::new(node.name.clone());
            let instances = run.of(number).len() as u64;
            let several = if instances > 1 { format!(", {}", plural(instances, "instance")) } else { String::new() };
            stage.blocks.push(Block::Text(format!("Made by {}{several}.", node.uses)));
            stage.sections = parts;
            section.sections.push(stage);
        }
    }
    Ok((!section.sections.is_empty()).then_some(section))
}

/// What methods took: passes through the model from what they say, time and memory from their records.
fn passes(run: &Run) -> Result<Option<Section>> {
    let mut table =
        TextTable::new(["result", "method", "metric", "mediators", "examples", "passes", "seconds", "memory"]);
    for instance in &run.instances {
        let effects = instance.results.iter().find(|result| result.artifact.kind() == Kind::Effects);
        let scores = instance.results.iter().find(|result| result.artifact.kind() == Kind::Scores);
        let [method, metric, mediators, examples, passes] = match (effects, scores) {
            (Some(effects), _) => {
                let meta: EffectsMeta = effects.artifact.meta()?;
                let counts = [meta.mediators, meta.examples].map(Cell::Count);
                let [mediators, examples] = counts;
                [Cell::text(meta.method), Cell::text(meta.metric), mediators, examples, Cell::Float(meta.passes)]
            }
            (None, Some(scores)) => {
                let meta: ScoresMeta = scores.artifact.meta()?;
                let passes = Cell::Float(meta.passes);
                [Cell::text(meta.method), Cell::text(meta.metric), Cell::Count(meta.scores), Cell::Empty, passes]
            }
            (None, None) => continue,
        };
        let cost = instance.cost.as_ref();
        let seconds = Cell::or_empty(instance.own_seconds(), |s| Cell::Float((s * 1000.0).round() / 1000.0));
        let memory = Cell::or_empty(cost, |cost| Cell::Bytes(cost.peak_memory));
        table.push([Cell::text(&instance.label), method, metric, mediators, examples, passes, seconds, memory]);
    }
    if table.is_empty() {
        return Ok(None);
    }
    let mut section = Section::new("Cost of methods");
    let text = "Passes are equivalents of forward passes over the examples.";
    section.blocks.push(Block::Text(text.to_owned()));
    let shown = table.clone().limited(MOST_INSTANCES);
    section.blocks.push(Block::Sheet(Sheet { title: "Cost of methods".to_owned(), shown, data: Data::own(table) }));
    Ok(Some(section))
}

/// Numbers of a lock file whose results are elsewhere.
fn headline(run: &Run) -> Option<Section> {
    let mut table = TextTable::new(["stage", "metric", "value"]);
    for instance in &run.instances {
        for (name, value) in &instance.headline {
            table.push([Cell::text(&instance.label), Cell::text(name), Cell::Float(*value)]);
        }
    }
    if table.is_empty() {
        return None;
    }
    let mut section = Section::new("Headline metrics of the lock file");
    section.blocks.push(Block::Text("Their results are not in this store.".to_owned()));
    let shown = table.clone().limited(MOST_INSTANCES);
    section.blocks.push(Block::Sheet(Sheet { title: "Headline metrics".to_owned(), shown, data: Data::own(table) }));
    Some(section)
}

/// The options of every stage; where instances differ, all values.
fn options(run: &Run) -> Section {
    let mut section = Section::new("Options and sources");
    for (number, node) in run.graph.nodes().iter().enumerate() {
        let mut values: IndexMap<String, Vec<String>> = IndexMap::new();
        for instance in run.of(number).iter().filter(|instance| instance.options != Value::Null) {
            let mut options = Vec::new();
            leaves("", &instance.options, &mut options);
            // Sources are below, and have no value here.
            for (path, cell) in options.into_iter().filter(|(_, cell)| *cell != Cell::Empty) {
                let (known, value) = (values.entry(path).or_default(), cell.shown());
                if !known.contains(&value) {
                    known.push(value);
                }
            }
        }
        if values.is_empty() {
            continue;
        }
        let mut table = TextTable::new(["option", "value"]);
        for (path, values) in values {
            let rest = values.len().saturating_sub(MOST_VALUES);
            let mut text = values[..values.len() - rest].join(", ");
            if rest > 0 {
                text.push_str(&format!(" and {rest} more"));
            }
            table.push([Cell::text(path), Cell::text(text)]);
        }
        let title = format!("Options of {}", node.name);
        let sheet = Sheet { title: title.clone(), shown: table.clone(), data: Data::own(table) };
        section.blocks.push(Block::Folded(title, vec![Block::Sheet(sheet)]));
    }
    if !run.sources.is_empty() {
        let mut table = TextTable::new(["source", "digest or commit"]);
        for (source, digest) in &run.sources {
            table.push([Cell::text(source), Cell::Digest(digest.clone())]);
        }
        let sheet = Sheet { title: "Outside files".to_owned(), shown: table.clone(), data: Data::own(table) };
        section.blocks.push(Block::Sheet(sheet));
    }
    section
}

/// Every artifact with its folder.
fn files(run: &Run) -> Result<Section> {
    let mut table = TextTable::new(["result", "kind", "rows", "size", "recipe", "folder"]);
    for instance in &run.instances {
        for ResultFile { output, default, artifact, .. } in &instance.results {
            let label = if *default { instance.label.clone() } else { format!("{}.{output}", instance.label) };
            let folder = artifact.dir().strip_prefix(&run.store).unwrap_or(artifact.dir());
            table.push([
                Cell::text(label),
                Cell::text(artifact.kind().name()),
                Cell::or_empty(artifact.rows(main_table(artifact.kind())).ok(), Cell::Count),
                Cell::Bytes(artifact.manifest().stored().map(|(_, bytes, _)| bytes).sum()),
                Cell::Digest(instance.recipe.clone()),
                Cell::text(folder.display().to_string()),
            ]);
        }
    }
    let mut section = Section::new("Files");
    section.blocks.push(Block::Text("Folders are in the store; the tables in them are Parquet.".to_owned()));
    let rows = table.len() as u64;
    let shown = table.clone().limited(MOST_INSTANCES);
    let sheet = Block::Sheet(Sheet { title: "Artifacts".to_owned(), shown, data: Data::own(table) });
    section.blocks.push(Block::Folded(format!("Table of {}", plural(rows, "artifact")), vec![sheet]));
    Ok(section)
}

//! `mediant dag`: the pipeline as a picture.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use mediant_engine::{Plan, Status};
use mediant_report::{Edge, Graph, Node, State};

use crate::cli::PipelineArgs;
use crate::exit::{CommandResult, Failure};
use crate::progress::terminal;

/// Draws the pipeline: on the terminal with the state of every stage, as Mermaid text, or as SVG.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  mediant dag pipelines/quickstart.yaml\n  mediant dag pipelines/quickstart.yaml --format svg --output docs/quickstart.svg"
)]
pub(crate) struct Dag {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// How to draw
    #[arg(long, value_enum, default_value = "terminal")]
    format: Format,
    /// Show the state of every stage; the terminal always does
    #[arg(long)]
    state: bool,
    /// Write to a file
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Nodes and edges as one JSON object
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Boxes and arrows; a list where that is too wide
    Terminal,
    /// An indented list
    List,
    /// Mermaid text, which GitHub draws
    Mermaid,
    /// One SVG file, for light and dark pages
    Svg,
}

impl Dag {
    pub(crate) fn run(self) -> CommandResult {
        super::run::init_log();
        let plan = self.pipeline.plan(&[])?;
        let with_state = self.state || self.json || matches!(self.format, Format::Terminal | Format::List);
        let graph = graph(&plan, &if with_state { states(&plan)? } else { BTreeMap::new() })?;
        let to = if self.output.is_some() { mediant_report::Terminal::PLAIN } else { terminal() };
        let text = match self.format {
            _ if self.json => format!("{}\n", serde_json::to_string(&graph)?),
            Format::Terminal => graph.to_terminal(to),
            Format::List => graph.to_list(to),
            Format::Mermaid => graph.to_mermaid(),
            Format::Svg => graph.to_svg(),
        };
        match &self.output {
            Some(path) => {
                std::fs::write(path, text).map_err(|error| Failure::Other(format!("{}: {error}", path.display())))?;
            }
            None => anstream::print!("{text}"),
        }
        Ok(())
    }
}

/// What is known of every stage: the most urgent state of its instances.
fn states(plan: &Plan) -> Result<BTreeMap<usize, State>, Failure> {
    let mut states: BTreeMap<usize, State> = BTreeMap::new();
    for (index, status) in super::plan::statuses(plan, BTreeSet::new())? {
        let state = states.entry(plan.instances[index].decl).or_insert(State::Cached);
        *state = match (status, *state) {
            (Status::Run(_), _) | (_, State::WillRun) => State::WillRun,
            (Status::Depends(_), _) | (_, State::Depends) => State::Depends,
            _ => State::Cached,
        };
    }
    Ok(states)
}

/// Stages, not instances: a matrix is one box.
pub(crate) fn graph(plan: &Plan, states: &BTreeMap<usize, State>) -> Result<Graph, Failure> {
    let mut nodes: Vec<Node> = plan
        .pipeline
        .stages
        .values()
        .enumerate()
        .map(|(decl, stage)| Node {
            name: stage.name.clone(),
            uses: stage.uses.value.clone(),
            instances: 0,
            state: states.get(&decl).copied(),
        })
        .collect();
    let mut edges = Vec::new();
    let mut seen = BTreeSet::new();
    for instance in &plan.instances {
        nodes[instance.decl].instances += 1;
        for port in &instance.inputs {
            for member in &port.members {
                let producer = &plan.instances[member.producer];
                let output = (member.output > 0).then(|| producer.outputs[member.output].name.clone());
                if seen.insert((producer.decl, instance.decl, port.name.clone(), output.clone())) {
                    edges.push(Edge { from: producer.decl, to: instance.decl, port: port.name.clone(), output });
                }
            }
        }
    }
    Ok(Graph::new(plan.pipeline.name.clone(), nodes, edges)?)
}

//! The pipeline as a picture: for the terminal, as Mermaid text, as SVG.
//!
//! All drawings run from top to bottom and share one layered layout: ranks by longest path, order by barycentres, places by
//! repeated projection onto the order (isotonic regression), after Sugiyama, Tagawa and Toda (1981).

mod layout;
mod list;
mod mermaid;
mod picture;
mod place;
mod route;
mod svg;
mod terminal;

use serde::Serialize;

use crate::error::{Error, Result};

/// Stages and the edges between them; acyclic by construction.
#[derive(Clone, Debug, Serialize)]
pub struct Graph {
    name: String,
    nodes: Vec<Node>,
    edges: Vec<Edge>,
}

/// A stage of the pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// The name it has in the pipeline file.
    pub name: String,
    /// What it runs.
    pub uses: String,
    /// How many instances its matrix and inputs give it.
    pub instances: usize,
    /// What is known of its instances together.
    pub state: Option<State>,
}

/// An input: the output of one stage goes into a port of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Edge {
    /// Index of the producing node.
    pub from: usize,
    /// Index of the consuming node.
    pub to: usize,
    /// The consumer's port.
    pub port: String,
    /// The producer's output, where it is not the default one.
    pub output: Option<String>,
}

/// The state of a stage: the most urgent of its instances'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its results are in the store.
    Cached,
    /// It would run.
    WillRun,
    /// Whether it runs depends on what runs before it.
    Depends,
    /// It is running.
    Running,
    /// It ran.
    Done,
    /// It failed.
    Failed,
    /// It was not tried, because something before it failed.
    Skipped,
}

impl State {
    /// In words.
    pub fn word(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::WillRun => "will run",
            Self::Depends => "depends",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }

    /// One character, one column wide.
    pub fn glyph(self) -> char {
        match self {
            Self::Cached | Self::Done => '✓',
            Self::WillRun => '●',
            Self::Depends => '○',
            Self::Running => '▸',
            Self::Failed => '✗',
            Self::Skipped => '–',
        }
    }

    /// The name of its style in SVG and Mermaid.
    fn class(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::WillRun => "willrun",
            Self::Depends => "depends",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

impl Graph {
    /// Builds a graph. Node names and ports may be anything; an edge that names no node, or a cycle, is an error.
    pub fn new(name: impl Into<String>, nodes: Vec<Node>, edges: Vec<Edge>) -> Result<Self> {
        if let Some(edge) = edges.iter().find(|e| e.from.max(e.to) >= nodes.len()) {
            return Err(Error::GraphEdge { from: edge.from, to: edge.to, nodes: nodes.len() });
        }
        let graph = Self { name: name.into(), nodes, edges };
        if graph.topological().len() < graph.nodes.len() {
            return Err(Error::GraphCycle);
        }
        Ok(graph)
    }

    /// The pipeline's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The nodes, in the order given.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The edges, in the order given.
    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    /// Nodes so that producers come first, otherwise in the order given; nodes on cycles are missing.
    fn topological(&self) -> Vec<usize> {
        let mut waiting = vec![0usize; self.nodes.len()];
        let mut consumers = vec![Vec::new(); self.nodes.len()];
        for edge in &self.edges {
            waiting[edge.to] += 1;
            consumers[edge.from].push(edge.to);
        }
        let mut ready: std::collections::BTreeSet<usize> = (0..self.nodes.len()).filter(|&i| waiting[i] == 0).collect();
        let mut order = Vec::with_capacity(self.nodes.len());
        while let Some(node) = ready.pop_first() {
            order.push(node);
            for &consumer in &consumers[node] {
                waiting[consumer] -= 1;
                if waiting[consumer] == 0 {
                    ready.insert(consumer);
                }
            }
        }
        order
    }

    /// The edges that enter each node, in the order given.
    fn inputs(&self) -> Vec<Vec<&Edge>> {
        let mut inputs = vec![Vec::new(); self.nodes.len()];
        for edge in &self.edges {
            inputs[edge.to].push(edge);
        }
        inputs
    }
}

impl Node {
    /// `sae` or, with several instances, `sae ×9`.
    fn title(&self) -> String {
        if self.instances == 1 { self.name.clone() } else { format!("{} ×{}", self.name, self.instances) }
    }

    /// In one sentence, for who cannot see the picture.
    fn sentence(&self) -> String {
        let state = self.state.map(|s| format!(", {}", s.word())).unwrap_or_default();
        let instances = if self.instances == 1 { String::new() } else { format!(", {} instances", self.instances) };
        format!("{}: {}{instances}{state}", self.name, self.uses)
    }
}

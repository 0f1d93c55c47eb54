//! The pipeline as an indented list, for those too large or too wide for boxes.

use super::{Edge, Graph};
use crate::text::{Paint, Terminal, one_line};

/// Deeper stages are no longer indented further; their depth is written out.
const DEEPEST_INDENT: usize = 16;

impl Graph {
    /// Every stage once, below the producer that comes last before it; its other inputs stand beside it.
    pub fn to_list(&self, terminal: Terminal) -> String {
        let order = self.topological();
        let mut position = vec![0; self.nodes.len()];
        order.iter().enumerate().for_each(|(i, &node)| position[node] = i);
        let inputs = self.inputs();
        let last_producer = |edges: &Vec<&Edge>| edges.iter().map(|e| e.from).max_by_key(|&from| position[from]);
        let parent: Vec<Option<usize>> = inputs.iter().map(last_producer).collect();
        let mut children = vec![Vec::new(); self.nodes.len()];
        let mut roots = Vec::new();
        for &node in &order {
            parent[node].map_or_else(|| &mut roots, |p| &mut children[p]).push(node);
        }
        let mut out = String::new();
        // Depth first with a stack of our own: a chain may be thousands of stages deep.
        let mut stack: Vec<(usize, Vec<bool>)> = roots.iter().rev().map(|&root| (root, Vec::new())).collect();
        while let Some((node, last)) = stack.pop() {
            let line = format!("{}{}", rails(&last), self.entry(node, parent[node], &inputs[node], terminal));
            out.push_str(&line);
            out.push('\n');
            for (i, &child) in children[node].iter().enumerate().rev() {
                let mut path = last.clone();
                path.push(i + 1 == children[node].len());
                stack.push((child, path));
            }
        }
        out
    }

    fn entry(&self, node: usize, parent: Option<usize>, inputs: &[&Edge], terminal: Terminal) -> String {
        let stage = &self.nodes[node];
        let mut text = terminal.paint(Paint::Bold, &one_line(&stage.title()));
        if stage.uses != stage.name {
            text.push_str(&format!(" · {}", one_line(&stage.uses)));
        }
        if let Some(state) = stage.state {
            text.push_str(&format!("  {}", state.glyph()));
        }
        let producer = |e: &Edge| {
            let name = &self.nodes[e.from].name;
            e.output.as_ref().map_or_else(|| name.clone(), |output| format!("{name}.{output}"))
        };
        let mut others: Vec<String> = Vec::new();
        for edge in inputs.iter().filter(|e| Some(e.from) != parent || e.output.is_some()) {
            let other = one_line(&producer(edge));
            if !others.contains(&other) {
                others.push(other);
            }
        }
        if !others.is_empty() {
            text.push_str(&terminal.paint(Paint::Dim, &format!("  ← {}", others.join(", "))));
        }
        text
    }
}

/// The lines to the left of an entry; `last` says of it and each ancestor below the root whether it is the last child.
fn rails(last: &[bool]) -> String {
    let Some((own, ancestors)) = last.split_last() else {
        return String::new();
    };
    let mut out: String = ancestors.iter().take(DEEPEST_INDENT).map(|&last| if last { "   " } else { "│  " }).collect();
    if ancestors.len() > DEEPEST_INDENT {
        out.push_str(&format!("({}) ", last.len()));
    }
    out.push_str(if *own { "└─ " } else { "├─ " });
    out
}

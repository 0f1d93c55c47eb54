//! The pipeline as Mermaid text, which GitHub and many editors draw.

use super::{Graph, State};
use crate::text::one_line;

impl Graph {
    /// A `flowchart TD` with the ports on the edges.
    pub fn to_mermaid(&self) -> String {
        let mut out = String::from("flowchart TD\n");
        for (i, node) in self.nodes.iter().enumerate() {
            let class = node.state.map(|s| format!(":::{}", s.class())).unwrap_or_default();
            out.push_str(&format!(
                "    s{i}[\"{}<br/><small>{}</small>\"]{class}\n",
                quote(&node.title()),
                quote(&node.uses)
            ));
        }
        for edge in &self.edges {
            let port =
                edge.output.as_ref().map_or_else(|| edge.port.clone(), |output| format!("{output} → {}", edge.port));
            out.push_str(&format!("    s{} -->|\"{}\"| s{}\n", edge.from, quote(&port), edge.to));
        }
        // Mid-tone strokes read on a light and on a dark page alike; fills stay the theme's own.
        const STYLES: [(State, &str); 7] = [
            (State::Cached, "stroke:#2da44e,stroke-width:2px"),
            (State::WillRun, "stroke:#bf8700,stroke-width:2px"),
            (State::Depends, "stroke:#bf8700,stroke-dasharray:4 3"),
            (State::Running, "stroke:#218bff,stroke-width:3px"),
            (State::Done, "stroke:#2da44e,stroke-width:2px"),
            (State::Failed, "stroke:#cf222e,stroke-width:3px"),
            (State::Skipped, "stroke:#8c959f,stroke-dasharray:2 3"),
        ];
        for (state, style) in STYLES {
            if self.nodes.iter().any(|n| n.state == Some(state)) {
                out.push_str(&format!("    classDef {} {style}\n", state.class()));
            }
        }
        out
    }
}

/// Inside double quotes Mermaid reads `#…;` entities and HTML.
fn quote(text: &str) -> String {
    let mut out = String::new();
    for c in one_line(text).chars() {
        match c {
            '"' | '#' | '<' | '>' | '&' | ';' | '`' => out.push_str(&format!("#{};", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

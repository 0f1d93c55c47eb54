//! Stages on the terminal.

use super::{Field, InputsDoc, StageDoc};
use crate::table::{Cell, TextTable};
use crate::text::{Paint, Terminal, wrap};

/// All stages, one a line.
pub fn stage_list(stages: &[StageDoc]) -> TextTable {
    let mut table = TextTable::new(["stage", "what it does"]);
    for stage in stages {
        table.push([Cell::text(&stage.name), Cell::text(&stage.summary)]);
    }
    table
}

/// Everything about one stage.
pub fn stage_text(stage: &StageDoc, terminal: Terminal) -> String {
    let mut out = format!("{}: {}\n", terminal.paint(Paint::Bold, &stage.name), stage.summary);
    let heading = |text: &str| format!("\n{}\n", terminal.paint(Paint::Bold, text));
    let entry = |out: &mut String, name: &str, what: &str, doc: &str| {
        out.push_str(&format!("  {}  {}\n", terminal.paint(Paint::Green, name), terminal.paint(Paint::Dim, what)));
        out.push_str(&wrap(doc, terminal.width, 6));
    };
    if !stage.details.trim().is_empty() {
        out.push_str(&format!("\n{}", wrap(stage.details.trim(), terminal.width, 0)));
    }
    match &stage.inputs {
        InputsDoc::Any => out.push_str(&format!("{}  any names, of any kind\n", heading("Inputs"))),
        InputsDoc::Fixed(ports) if ports.is_empty() => {}
        InputsDoc::Fixed(ports) => {
            out.push_str(&heading("Inputs"));
            for port in ports {
                entry(&mut out, &port.name, &format!("{} ({})", port.kinds.join(" or "), port.arity.word()), &port.doc);
            }
        }
    }
    let fields = stage.fields();
    if !fields.is_empty() {
        out.push_str(&heading("Options"));
        for field in &fields {
            entry(&mut out, &field.path, &what(field), &field.doc);
        }
    }
    if !stage.outputs.is_empty() {
        out.push_str(&heading("Outputs"));
        for (i, output) in stage.outputs.iter().enumerate() {
            let notes = [(i == 0).then_some("default"), output.keyed.then_some("one a key")];
            let notes: Vec<&str> = notes.into_iter().flatten().collect();
            let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
            entry(&mut out, &output.name, &format!("{}{notes}", output.kind), &output.doc);
        }
    }
    if !stage.example.trim().is_empty() {
        out.push_str(&heading("Example"));
        for line in stage.example.trim_end().lines() {
            out.push_str(format!("  {line}").trim_end());
            out.push('\n');
        }
    }
    out
}

/// Type, and what happens without it.
fn what(field: &Field) -> String {
    match (&field.default, field.required) {
        (Some(default), _) => format!("{}, default {default}", field.kind),
        (None, true) => format!("{}, required", field.kind),
        (None, false) => format!("{}, optional", field.kind),
    }
}

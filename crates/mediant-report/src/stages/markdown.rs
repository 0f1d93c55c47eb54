//! Stages as pages of the documentation.

use super::{Field, InputsDoc, StageDoc};
use crate::table::{Cell, TextTable};

/// The page of one stage, `docs/stages/NAME.md`.
pub fn stage_page(stage: &StageDoc) -> String {
    let mut out = format!("# `{}`\n\n{}.\n", stage.name, stage.summary.trim_end_matches('.'));
    let section = |out: &mut String, heading: &str, body: &str| {
        if !body.trim().is_empty() {
            out.push_str(&format!("\n## {heading}\n\n{}\n", body.trim_end()));
        }
    };
    if !stage.details.trim().is_empty() {
        out.push_str(&format!("\n{}\n", stage.details.trim()));
    }
    section(&mut out, "Example", &fenced(&stage.example));
    section(&mut out, "Inputs", &inputs(&stage.inputs));
    let options: Vec<String> = stage.fields().iter().map(option).collect();
    section(&mut out, "Options", &options.join("\n"));
    let mut outputs = TextTable::new(["output", "kind", "what it holds"]);
    for (i, output) in stage.outputs.iter().enumerate() {
        let default = if i == 0 { " (default)" } else { "" };
        let keyed = if output.keyed { "[key]" } else { "" };
        outputs.push([
            Cell::text(format!("{}{keyed}{default}", output.name)),
            Cell::text(&output.kind),
            Cell::text(&output.doc),
        ]);
    }
    section(&mut out, "Outputs", &if outputs.is_empty() { String::new() } else { outputs.to_markdown() });
    out.push_str(&format!("\nVersion {} of the stage, part of every key.\n", stage.version));
    out
}

/// The page that lists all stages, `docs/stages/README.md`.
pub fn stage_index(stages: &[StageDoc]) -> String {
    let mut out = String::from(
        "# Stages\n\nWhat a pipeline can name after `uses:`. These pages are made by `mediant stages --markdown docs/stages`.\n\n",
    );
    for stage in stages {
        out.push_str(&format!("- [`{0}`]({0}.md): {1}\n", stage.name, stage.summary));
    }
    out
}

fn fenced(yaml: &str) -> String {
    if yaml.trim().is_empty() { String::new() } else { format!("```yaml\n{}\n```", yaml.trim_end()) }
}

fn inputs(inputs: &InputsDoc) -> String {
    match inputs {
        InputsDoc::Any => "Any names, of any kind.".to_string(),
        InputsDoc::Fixed(ports) if ports.is_empty() => String::new(),
        InputsDoc::Fixed(ports) => {
            let mut table = TextTable::new(["input", "kind", "how many", "what it is for"]);
            for port in ports {
                let cells = [&port.name, &port.kinds.join(" or "), &port.arity.word().to_string(), &port.doc];
                table.push(cells.map(|text| Cell::text(text.as_str())));
            }
            table.to_markdown()
        }
    }
}

/// A list entry: tables cannot hold the paragraphs that options need.
fn option(field: &Field) -> String {
    let when = match (&field.default, field.required) {
        (Some(default), _) => format!("default `{default}`"),
        (None, true) => "required".to_string(),
        (None, false) => "optional".to_string(),
    };
    let doc = field.doc.trim();
    let doc = if doc.is_empty() { String::new() } else { format!("  \n  {}", doc.replace('\n', "\n  ")) };
    format!("- **`{}`** ({}, {when}){doc}", field.path, field.kind)
}

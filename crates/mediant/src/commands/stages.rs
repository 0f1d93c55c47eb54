//! `mediant stages`: what pipelines can use.

use std::path::{Path, PathBuf};

use clap::Args;
use mediant_engine::{AnyStage, Arity, Ports};
use mediant_report::{InputsDoc, OutputDoc, PortDoc, StageDoc};
use mediant_spec::suggest;

use crate::exit::{CommandResult, Failure};
use crate::progress::terminal;

/// Lists the stages, or describes one: inputs, options with their defaults, outputs, formulas, an example.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  mediant stages\n  mediant stages train_sae\n  mediant stages --markdown docs/stages"
)]
pub(crate) struct Stages {
    /// The stage to describe
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// One JSON object a stage, a line each
    #[arg(long)]
    json: bool,
    /// Write a page for each stage, and an index, to this folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["json", "name"])]
    markdown: Option<PathBuf>,
}

impl Stages {
    pub(crate) fn run(self) -> CommandResult {
        let stages = docs();
        if let Some(folder) = &self.markdown {
            std::fs::create_dir_all(folder)?;
            std::fs::write(folder.join("README.md"), mediant_report::stage_index(&stages))?;
            for stage in &stages {
                std::fs::write(folder.join(format!("{}.md", stage.name)), mediant_report::stage_page(stage))?;
            }
            return Ok(());
        }
        let Some(name) = &self.name else {
            if self.json {
                stages.iter().for_each(|stage| anstream::println!("{}", stage.to_json()));
            } else {
                anstream::print!("{}", mediant_report::stage_list(&stages).to_terminal(terminal()));
            }
            return Ok(());
        };
        let Some(stage) = stages.iter().find(|stage| stage.name == *name) else {
            let help = suggest(name, stages.iter().map(|stage| stage.name.as_str()).collect::<Vec<_>>(), "stages");
            return Err(Failure::Input(format!("error: there is no stage `{name}`\nhelp: {help}\n")));
        };
        if self.json {
            anstream::println!("{}", stage.to_json());
        } else {
            anstream::print!("{}", mediant_report::stage_text(stage, terminal()));
        }
        Ok(())
    }
}

/// The catalogue in words.
pub(crate) fn docs() -> Vec<StageDoc> {
    mediant_stages::catalogue().iter().map(doc).collect()
}

fn doc(stage: &dyn AnyStage) -> StageDoc {
    let docs = stage.docs();
    let port = |port: &mediant_engine::Port| PortDoc {
        name: port.name.to_owned(),
        kinds: port.kinds.iter().map(|kind| kind.name().to_owned()).collect(),
        arity: match port.arity {
            Arity::One => mediant_report::Arity::One,
            Arity::Optional => mediant_report::Arity::Optional,
            Arity::Many => mediant_report::Arity::Many,
            Arity::Any => mediant_report::Arity::Any,
        },
        doc: port.doc.to_owned(),
    };
    StageDoc {
        name: stage.name().to_owned(),
        version: stage.version(),
        summary: docs.summary.to_owned(),
        details: docs.details.to_owned(),
        example: docs.example.to_owned(),
        inputs: match stage.ports() {
            Ports::Fixed(ports) => InputsDoc::Fixed(ports.iter().map(port).collect()),
            Ports::Open => InputsDoc::Any,
        },
        outputs: outputs(stage, docs.example),
        config: stage.schema(),
    }
}

/// The outputs with the options of the example, since they may depend on options.
fn outputs(stage: &dyn AnyStage, example: &str) -> Vec<OutputDoc> {
    let indented: String = example.lines().map(|line| format!("  {line}\n")).collect();
    let text = format!("mediant: 1\nstages:\n{indented}");
    let Ok(pipeline) = mediant_spec::parse(Path::new("example.yaml"), &text, &[]) else { return Vec::new() };
    let Some(Ok(bound)) = pipeline.stages.values().next().map(|declared| stage.bind(&declared.with)) else {
        return Vec::new();
    };
    let output = |output: mediant_engine::Output| OutputDoc {
        name: output.name,
        kind: output.kind.name().to_owned(),
        keyed: !output.keys.is_empty(),
        doc: output.doc.to_owned(),
    };
    bound.outputs().into_iter().map(output).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    #[test]
    fn every_stage_has_an_example_from_which_its_outputs_follow() {
        for stage in super::docs() {
            assert!(!stage.summary.is_empty() && !stage.summary.ends_with('.'), "{}: summary", stage.name);
            assert!(!stage.outputs.is_empty(), "{}: the example's options are not options of the stage", stage.name);
            for field in stage.fields() {
                assert!(!field.doc.trim().is_empty(), "{}: option `{}` is not described", stage.name, field.path);
            }
        }
    }
}

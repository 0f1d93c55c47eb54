//! A small catalogue of stages, and pipelines read against it.

use std::fmt::Write as _;
use std::path::Path;

use mediant_spec::{Expansion, Node, Pipeline, PortSignature, Signatures, Value, expand, parse};

/// The stages of the design's example and a few more.
pub(super) struct Catalogue;

fn port(name: &'static str, many: bool, optional: bool) -> PortSignature {
    PortSignature { name, many, optional }
}

impl Signatures for Catalogue {
    fn ports(&self, uses: &str) -> Option<Vec<PortSignature>> {
        Some(match uses {
            "load_model" => vec![],
            "tokenize" => vec![port("model", false, true)],
            "cache_activations" => vec![port("model", false, false), port("tokens", false, false)],
            "train_sae" => vec![port("activations", false, false)],
            "evaluate_sae" => {
                vec![port("model", false, false), port("sae", false, false), port("tokens", false, false)]
            }
            "compare" => vec![port("metrics", true, false), port("baseline", false, true)],
            "compare_models" => vec![port("models", true, false)],
            "command" => vec![],
            _ => return None,
        })
    }

    fn stage_names(&self) -> Vec<&str> {
        vec![
            "load_model",
            "tokenize",
            "cache_activations",
            "train_sae",
            "evaluate_sae",
            "compare",
            "compare_models",
            "command",
        ]
    }

    fn has_seed(&self, uses: &str) -> bool {
        uses == "train_sae"
    }

    fn any_port(&self, uses: &str) -> bool {
        uses == "command"
    }
}

pub(super) fn read(text: &str) -> Pipeline {
    parse(Path::new("lab/p.yaml"), text, &[]).unwrap_or_else(|failure| panic!("{failure}"))
}

pub(super) fn expanded(text: &str) -> Expansion {
    let pipeline = read(text);
    expand(&pipeline, &Catalogue)
        .unwrap_or_else(|wrong| panic!("{}", wrong.diagnostics.render(&pipeline.sources, false)))
}

/// The rendered errors of a wrong pipeline.
pub(super) fn wrong(text: &str) -> String {
    wrong_with(text, &[])
}

pub(super) fn wrong_with(text: &str, overrides: &[&str]) -> String {
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    match parse(Path::new("lab/p.yaml"), text, &overrides) {
        Err(failure) => failure.to_string(),
        Ok(pipeline) => match expand(&pipeline, &Catalogue) {
            Err(wrong) => wrong.diagnostics.render(&pipeline.sources, false),
            Ok(expansion) => panic!("this pipeline is right:\n{}", show(&expansion)),
        },
    }
}

/// One line an instance: its label, its options, and what each port gets.
pub(super) fn show(expansion: &Expansion) -> String {
    let mut out = String::new();
    for instance in &expansion.instances {
        write!(out, "{} {}", instance.label, flow(&instance.with)).unwrap();
        for input in &instance.inputs {
            let member = |member: &mediant_spec::Member| {
                let mut text = String::new();
                if let Some(name) = &member.name {
                    write!(text, "{name}=").unwrap();
                }
                text += &expansion.instances[member.producer].label;
                if let Some(output) = &member.output {
                    write!(text, ".{output}").unwrap();
                }
                if let Some(key) = &member.key {
                    write!(text, "[{key}]").unwrap();
                }
                for (axis, label) in &member.labels {
                    write!(text, " @{axis}={label}").unwrap();
                }
                text
            };
            let members: Vec<String> = input.members.iter().map(member).collect();
            write!(out, "\n    {} <- {}", input.port, members.join("; ")).unwrap();
        }
        out.push('\n');
    }
    out
}

/// A node as flow YAML.
pub(super) fn flow(node: &Node) -> String {
    match &node.value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(number) => number.to_string(),
        Value::UInt(number) => number.to_string(),
        Value::Float(number) if number.is_nan() => ".nan".to_owned(),
        Value::Float(number) if number.is_infinite() => if *number > 0.0 { ".inf" } else { "-.inf" }.to_owned(),
        Value::Float(number) => format!("{number:?}"),
        Value::Str(text) => quoted(text),
        Value::Seq(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Map(entries) => {
            let entry = |entry: &mediant_spec::Entry| format!("{}: {}", quoted(&entry.key), flow(&entry.value));
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() || c == '\u{feff}' || ('\u{2028}'..='\u{2029}').contains(&c) => {
                write!(out, "\\U{:08x}", u32::from(c)).unwrap();
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The design's example: a sweep of SAEs.
pub(super) const SWEEP: &str = r#"mediant: 1
name: sae-sweep
seed: 7
params:
  model: ../datasets/models/tiny-gpt2
  layer: 2
stages:
  model:
    uses: load_model
    with: { source: "${params.model}" }
  tokens:
    uses: tokenize
    inputs: { model: model }
    with: { source: ../datasets/text/grammar.txt, context: 128 }
  acts:
    uses: cache_activations
    inputs: { model: model, tokens: tokens.train }
    with: { hooks: ["blocks.${params.layer}.hook_resid_post"] }
  sae:
    uses: train_sae
    matrix:
      include:
        - { name: topk16,  sae: { architecture: topk, k: 16 } }
        - { name: afa,     sae: { architecture: top_afa, afa_coeff: 0.03125 } }
      seed: [0, 1]
      exclude:
        - { name: afa, seed: 1 }
    inputs: { activations: acts }
    with: { d_sae: 2048, sae: "${matrix.sae}", seed: "${matrix.seed}" }
  eval:
    uses: evaluate_sae
    inputs: { model: model, sae: sae, tokens: tokens.test }
  compare:
    uses: compare
    inputs: { metrics: { from: eval, over: [seed] } }
"#;

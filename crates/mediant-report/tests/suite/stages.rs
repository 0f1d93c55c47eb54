//! The catalogue as text, pages and schema.

use insta::assert_snapshot;
use mediant_report::{
    Arity, InputsDoc, OutputDoc, PortDoc, StageDoc, Terminal, pipeline_schema, stage_index, stage_list, stage_page,
    stage_text,
};
use serde_json::{Value, json};

/// As schemars writes it for a config with nested structs, enums, options, lists and maps.
fn config() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "TrainSae",
        "type": "object",
        "additionalProperties": false,
        "required": ["sae", "d_sae"],
        "properties": {
            "sae": { "$ref": "#/$defs/SaeConfig", "description": "What kind of autoencoder." },
            "d_sae": { "description": "Number of latents.", "type": "integer", "format": "uint64", "minimum": 1 },
            "lr": { "description": "Learning rate,\nconstant after warm-up.", "type": "number", "format": "double", "default": 3e-4 },
            "seed": { "description": "Seed of every random draw.", "type": "integer", "format": "uint64", "minimum": 0, "default": 0 },
            "name": { "description": "Free text.", "type": ["string", "null"], "default": null },
            "hooks": { "description": "Hook points; globs too.", "type": "array", "items": { "type": "string" } },
            "schedule": { "anyOf": [{ "$ref": "#/$defs/Schedule" }, { "type": "null" }], "description": "How the rate moves." },
            "files": { "type": "array", "items": { "$ref": "#/$defs/File" }, "description": "Files to read." },
            "weights": { "type": "object", "additionalProperties": { "type": "number" }, "description": "Weight of each name." },
        },
        "$defs": {
            "SaeConfig": {
                "type": "object",
                "additionalProperties": false,
                "required": ["architecture"],
                "properties": {
                    "architecture": {
                        "description": "Activation rule.",
                        "oneOf": [
                            { "type": "string", "const": "relu", "description": "L1 penalty." },
                            { "type": "string", "const": "topk", "description": "The k largest." },
                        ],
                    },
                    "k": { "type": ["integer", "null"], "format": "uint64", "minimum": 1, "description": "Latents active at a time." },
                },
            },
            "Schedule": { "type": "string", "enum": ["constant", "linear"] },
            "File": { "type": "object", "required": ["path"], "properties": { "path": { "type": "string", "description": "Where it is." } } },
        },
    })
}

fn stages() -> Vec<StageDoc> {
    let port = |name: &str, kinds: &[&str], arity, doc: &str| PortDoc {
        name: name.to_string(),
        kinds: kinds.iter().map(|kind| (*kind).to_string()).collect(),
        arity,
        doc: doc.to_string(),
    };
    let output = |name: &str, kind: &str, keyed, doc: &str| OutputDoc {
        name: name.to_string(),
        kind: kind.to_string(),
        keyed,
        doc: doc.to_string(),
    };
    vec![
        StageDoc {
            name: "train_sae".to_string(),
            version: 3,
            summary: "Trains a sparse autoencoder on cached activations".to_string(),
            details: "Minimises\n\n    L = ‖x − x̂‖² + λ ‖f‖₁\n\nafter Bricken et al. (2023). Words go on until the line of a terminal is full and then some more.".to_string(),
            example: "sae:\n  uses: train_sae\n  inputs: { activations: acts }\n  with: { d_sae: 64, sae: { architecture: topk, k: 4 } }\n".to_string(),
            inputs: InputsDoc::Fixed(vec![
                port("activations", &["activations"], Arity::One, "What to train on."),
                port("start", &["dictionary", "model"], Arity::Optional, "Where to start from."),
            ]),
            outputs: vec![
                output("dictionary", "dictionary", false, "The trained autoencoder."),
                output("checkpoints", "dictionary", true, "The autoencoder along the way."),
            ],
            config: config(),
        },
        StageDoc {
            name: "compare".to_string(),
            version: 1,
            summary: "Puts metrics of many instances into one table".to_string(),
            details: String::new(),
            example: String::new(),
            inputs: InputsDoc::Fixed(vec![port("metrics", &["metrics"], Arity::Many, "What to compare.")]),
            outputs: vec![output("table", "table", false, "One row a metric.")],
            config: json!({ "type": "object", "additionalProperties": false }),
        },
        StageDoc {
            name: "command".to_string(),
            version: 1,
            summary: "Runs a program".to_string(),
            details: String::new(),
            example: String::new(),
            inputs: InputsDoc::Any,
            outputs: Vec::new(),
            config: json!({ "type": "object", "required": ["argv"], "properties": { "argv": { "type": "array", "items": { "type": "string" } } } }),
        },
    ]
}

#[test]
fn text() {
    let terminal = Terminal { width: Some(72), color: false };
    assert_snapshot!("stages_list", stage_list(&stages()).to_terminal(terminal));
    assert_snapshot!("stages_text", stage_text(&stages()[0], terminal));
    assert_snapshot!("stages_text_any", stage_text(&stages()[2], terminal));
}

#[test]
fn pages() {
    assert_snapshot!("stages_page", stage_page(&stages()[0]));
    assert_snapshot!("stages_index", stage_index(&stages()));
}

#[expect(clippy::needless_pass_by_value, reason = "callers build it in place")]
fn pipeline(stage: Value) -> Value {
    json!({ "mediant": 1, "stages": { "x": stage } })
}

#[test]
fn schema() {
    let schema = pipeline_schema(&stages());
    assert_snapshot!("stages_schema", serde_json::to_string_pretty(&schema).unwrap());
    let validator = jsonschema::draft7::new(&schema).unwrap();
    let sae = |with: Value| pipeline(json!({ "uses": "train_sae", "inputs": { "activations": "acts" }, "with": with }));
    let right = [
        sae(json!({ "d_sae": 64, "sae": { "architecture": "topk", "k": 4 } })),
        sae(
            json!({ "d_sae": "${params.d}", "sae": "${matrix.sae}", "lr": "${params.lr}", "hooks": ["${params.h}"], "schedule": "${params.s}" }),
        ),
        sae(
            json!({ "d_sae": 64, "sae": { "architecture": "${params.a}" }, "files": [{ "path": "x" }, "${params.file}"], "weights": { "a": 1 } }),
        ),
        sae(json!({ "d_sae": 64, "sae": { "architecture": "relu" }, "schedule": "linear", "name": null })),
        sae(json!("${params.options}")),
        pipeline(json!({ "uses": "compare", "inputs": { "metrics": { "from": "eval", "over": ["seed"] } } })),
        pipeline(json!({ "uses": "compare", "inputs": { "metrics": { "a": "x", "b": { "from": "y" } } } })),
        pipeline(
            json!({ "uses": "compare", "inputs": { "metrics": ["x", "y"] }, "matrix": { "seed": [0, 1], "include": [{ "name": "a" }] } }),
        ),
        pipeline(
            json!({ "uses": "command", "inputs": { "anything": "x" }, "with": { "argv": ["ls"] }, "resources": { "cpus": 2, "memory": "4GiB" }, "timeout": "30m" }),
        ),
    ];
    for instance in &right {
        assert!(
            validator.is_valid(instance),
            "{instance}: {:?}",
            validator.validate(instance).err().map(|e| e.to_string())
        );
    }
    let wrong = [
        json!({ "stages": {} }),
        json!({ "mediant": 2, "stages": { "x": { "uses": "compare", "inputs": { "metrics": "x" } } } }),
        json!({ "mediant": 1, "stages": { "x": { "uses": "compare", "inputs": { "metrics": "x" } } }, "stage": {} }),
        pipeline(json!({ "uses": "no_such_stage" })),
        pipeline(json!({ "uses": "train_sae", "inputs": { "activations": "acts" } })),
        pipeline(json!({ "uses": "compare", "with": {} })),
        sae(json!({ "d_sae": "64", "sae": { "architecture": "topk" } })),
        sae(json!({ "d_sae": 0, "sae": { "architecture": "topk" } })),
        sae(json!({ "d_sae": 64, "sae": { "architecture": "top" } })),
        sae(json!({ "d_sae": 64, "sae": { "architecture": "topk", "kk": 3 } })),
        sae(json!({ "d_sae": 64, "sae": { "architecture": "topk" }, "learning_rate": 1 })),
        pipeline(
            json!({ "uses": "train_sae", "inputs": { "activations": ["a", "b"] }, "with": { "d_sae": 1, "sae": "${params.s}" } }),
        ),
        pipeline(json!({ "uses": "compare", "inputs": { "metrics": "x" }, "matrix": { "seed": 3 } })),
    ];
    for instance in &wrong {
        assert!(!validator.is_valid(instance), "{instance}");
    }
}

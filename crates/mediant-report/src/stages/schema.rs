//! The JSON schema of pipeline files, from which editors complete and check.
//!
//! It says as much as a schema can; what depends on other parts of the file (whether an input exists, axes, unused parameters)
//! is found by `mediant plan`.

use serde_json::{Map, Value, json};

use super::{InputsDoc, StageDoc};

/// What a substitution looks like; it may stand for a value of any type under `with:`.
const SUBSTITUTION: &str = r"^\$\{[^{}]+\}$";
const STAGE_ID: &str = "^[a-z][a-z0-9_-]{0,63}$";
const VARIABLE: &str = "^[A-Za-z0-9_-]+$";

/// The schema, draft 7: the one that YAML language servers read best.
pub fn pipeline_schema(stages: &[StageDoc]) -> Value {
    let mut definitions = shared();
    let mut cases = Vec::new();
    for stage in stages {
        let with = config(stage, &mut definitions);
        let mut then =
            json!({ "properties": { "with": substitutable(with), "inputs": substitutable(inputs(&stage.inputs)) } });
        let mut required = Vec::new();
        // What is required inside an option is so where that option is given.
        if stage.fields().iter().any(|field| field.required && !field.path.contains(['.', '['])) {
            required.push("with");
        }
        if let InputsDoc::Fixed(ports) = &stage.inputs
            && ports.iter().any(|port| !port.arity.may_be_empty())
        {
            required.push("inputs");
        }
        if !required.is_empty() {
            then["required"] = json!(required);
        }
        cases.push(json!({
            "if": { "properties": { "uses": { "const": stage.name } }, "required": ["uses"] },
            "then": then,
        }));
    }
    let names: Vec<&str> = stages.iter().map(|stage| stage.name.as_str()).collect();
    let summaries: Vec<&str> = stages.iter().map(|stage| stage.summary.as_str()).collect();
    let stage = definitions["stage"].as_object_mut();
    if let Some(stage) = stage {
        stage["properties"]["uses"]["enum"] = json!(names);
        stage["properties"]["uses"]["markdownEnumDescriptions"] = json!(summaries);
        stage.insert("allOf".to_string(), Value::Array(cases));
    }
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Mediant pipeline",
        "type": "object",
        "additionalProperties": false,
        "required": ["mediant", "stages"],
        "properties": {
            "mediant": { "const": 1, "description": "Version of the pipeline language." },
            "name": {
                "type": "string",
                "pattern": "^[^.].{0,99}$",
                "description": "Name of the pipeline, that of the file if left out.",
            },
            "seed": { "type": "integer", "minimum": 0, "description": "Default of every stage that has a `seed`." },
            "params": {
                "type": "object",
                "description": "Values for `${params.NAME}`; `--set params.NAME=VALUE` overrides them.",
            },
            "stages": {
                "type": "object",
                "minProperties": 1,
                "propertyNames": { "pattern": STAGE_ID },
                "additionalProperties": { "$ref": "#/definitions/stage" },
                "description": "The stages by id.",
            },
        },
        "definitions": Value::Object(definitions),
    })
}

fn shared() -> Map<String, Value> {
    let definitions = json!({
        "substitution": { "type": "string", "pattern": SUBSTITUTION },
        "reference": {
            "type": "string",
            "description": "A stage or `stage.output`; `sae[name=topk16]` selects, `model.checkpoints[step=100]` names a key.",
        },
        "collected": {
            "anyOf": [
                { "$ref": "#/definitions/reference" },
                {
                    "type": "object",
                    "additionalProperties": false,
                    "required": ["from"],
                    "properties": {
                        "from": { "$ref": "#/definitions/reference" },
                        "over": {
                            "type": "array",
                            "items": { "type": "string" },
                            "description": "The axes to collect; all if left out.",
                        },
                    },
                },
            ],
        },
        "many": {
            "anyOf": [
                { "$ref": "#/definitions/collected" },
                { "type": "array", "minItems": 1, "items": { "$ref": "#/definitions/collected" } },
                {
                    "type": "object",
                    "minProperties": 1,
                    "propertyNames": { "pattern": VARIABLE, "not": { "enum": ["from", "over"] } },
                    "additionalProperties": { "$ref": "#/definitions/collected" },
                    "description": "Named members.",
                },
            ],
        },
        "matrix": {
            "type": "object",
            "minProperties": 1,
            "description": "Axes; the stage runs once at each point. `${matrix.NAME}` reads a value.",
            "properties": {
                "include": {
                    "type": "array",
                    "minItems": 1,
                    "items": { "type": "object", "minProperties": 1 },
                    "description": "Points of one axis called `name`; `name` labels a point.",
                },
                "exclude": {
                    "type": "array",
                    "minItems": 1,
                    "items": { "type": "object", "minProperties": 1 },
                    "description": "Points to leave out.",
                },
            },
            "propertyNames": { "pattern": VARIABLE },
            "additionalProperties": substitutable(json!({ "type": "array", "minItems": 1 })),
        },
        "resources": {
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "cpus": substitutable(json!({ "type": "integer", "minimum": 1, "description": "Threads." })),
                "memory": { "type": "string", "description": "Memory, such as `512MiB` or `4GiB`." },
                "gpus": substitutable(json!({ "type": "integer", "minimum": 0, "description": "Accelerators." })),
            },
            "description": "What the stage needs, in place of what it declares itself.",
        },
        "stage": {
            "type": "object",
            "required": ["uses"],
            "additionalProperties": false,
            "properties": {
                "uses": { "type": "string", "description": "What to run; `mediant stages` lists all." },
                "with": { "description": "Options." },
                "inputs": { "description": "What is connected to each port." },
                "matrix": substitutable(json!({ "$ref": "#/definitions/matrix" })),
                "resources": substitutable(json!({ "$ref": "#/definitions/resources" })),
                "retries": substitutable(json!({
                    "type": "integer",
                    "minimum": 0,
                    "description": "How often a transient failure is tried again.",
                })),
                "timeout": { "type": "string", "description": "When to stop it: `90s`, `30m`, `1h30m`." },
            },
        },
    });
    if let Value::Object(definitions) = definitions { definitions } else { Map::new() }
}

fn inputs(inputs: &InputsDoc) -> Value {
    let InputsDoc::Fixed(ports) = inputs else {
        return json!({ "type": "object", "additionalProperties": { "$ref": "#/definitions/many" } });
    };
    let port =
        |name: &str, doc: String| json!({ "allOf": [{ "$ref": format!("#/definitions/{name}") }], "description": doc });
    let properties: Map<String, Value> = ports
        .iter()
        .map(|p| {
            let doc = format!("{} ({}): {}", p.kinds.join(" or "), p.arity.word(), p.doc);
            (p.name.clone(), port(if p.arity.takes_many() { "many" } else { "reference" }, doc))
        })
        .collect();
    let required: Vec<&str> = ports.iter().filter(|p| !p.arity.may_be_empty()).map(|p| p.name.as_str()).collect();
    let mut schema = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// The schema of a stage's options, its definitions added to the shared ones under the stage's name.
fn config(stage: &StageDoc, definitions: &mut Map<String, Value>) -> Value {
    let mut schema = stage.config.clone();
    if let Some(schema) = schema.as_object_mut() {
        for key in ["$schema", "title"] {
            schema.remove(key);
        }
        if let Some(Value::Object(own)) = schema.remove("$defs") {
            for (name, mut definition) in own {
                adapt(&mut definition, &stage.name);
                definitions.insert(format!("{}.{name}", stage.name), definition);
            }
        }
    }
    adapt(&mut schema, &stage.name);
    schema
}

/// Lets a substitution stand for every value inside a schema, and turns references into those of draft 7, where nothing may
/// stand beside a `$ref`.
fn adapt(schema: &mut Value, stage: &str) {
    let Some(fields) = schema.as_object_mut() else {
        return;
    };
    for (key, value) in fields.iter_mut() {
        match (key.as_str(), value) {
            ("properties", Value::Object(properties)) => {
                for property in properties.values_mut() {
                    adapt(property, stage);
                    *property = substitutable(property.take());
                }
            }
            ("items" | "additionalProperties", inner @ Value::Object(_)) => {
                adapt(inner, stage);
                *inner = substitutable(inner.take());
            }
            ("anyOf" | "oneOf" | "allOf", Value::Array(alternatives)) => {
                alternatives.iter_mut().for_each(|one| adapt(one, stage));
            }
            _ => {}
        }
    }
    if let Some(Value::String(target)) = fields.remove("$ref") {
        let name = target.rsplit('/').next().unwrap_or_default();
        fields.insert("allOf".to_string(), json!([{ "$ref": format!("#/definitions/{stage}.{name}") }]));
    }
}

/// The schema or a substitution. Description and default stay outside, where editors look for them.
fn substitutable(mut schema: Value) -> Value {
    let plain_text = schema["type"] == "string" && schema.get("enum").is_none() && schema.get("pattern").is_none();
    if plain_text || schema.as_object().is_none_or(|fields| fields.keys().all(|key| key == "description")) {
        return schema;
    }
    let mut outer = Map::new();
    if let Some(fields) = schema.as_object_mut() {
        for key in ["description", "default"] {
            outer.extend(fields.remove(key).map(|value| (key.to_string(), value)));
        }
    }
    outer.insert("anyOf".to_string(), json!([schema, { "$ref": "#/definitions/substitution" }]));
    Value::Object(outer)
}

//! The options of a stage, read off the JSON schema of its config.

use serde::Serialize;
use serde_json::{Map, Value};

/// An option, or a field inside one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Field {
    /// Where it stands under `with:`: `sae.k`, `files[].path`.
    pub path: String,
    /// What may stand there, in words: `whole number ≥ 1`, `list of text`, `relu or topk`.
    pub kind: String,
    /// Whether it has to be given.
    pub required: bool,
    /// Its value when it is left out, if it has one.
    pub default: Option<Value>,
    /// Markdown.
    pub doc: String,
}

/// Types inside types end somewhere; a schema that refers to itself is cut here.
const DEEPEST: usize = 8;

/// The options of a config schema in the order of declaration, each followed by those inside it.
pub(super) fn fields(schema: &Value) -> Vec<Field> {
    let mut out = Vec::new();
    Walk { definitions: schema.get("$defs") }.object("", schema, 0, &mut out);
    out
}

struct Walk<'a> {
    definitions: Option<&'a Value>,
}

impl Walk<'_> {
    fn object(&self, path: &str, schema: &Value, depth: usize, out: &mut Vec<Field>) {
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let whole = self.resolve(property);
            let mut doc = text(&whole, "description");
            let variants = self.variants(&whole);
            for Variant { form, doc: more, .. } in &variants {
                doc.push_str(&format!("\n- `{form}`: {more}"));
            }
            let default = whole.get("default").filter(|value| !value.is_null()).cloned();
            out.push(Field {
                path: path.clone(),
                kind: self.kind(&whole, 0),
                required: required.contains(&name.as_str()),
                default,
                doc,
            });
            if depth < DEEPEST {
                let (inner, suffix) = self.inner(&whole);
                self.object(&format!("{path}{suffix}"), &inner, depth + 1, out);
                for Variant { name, inside, .. } in &variants {
                    self.object(&format!("{path}.{name}"), inside, depth + 1, out);
                }
            }
        }
    }

    /// Follows `$ref`, `allOf` of one, and `anyOf` of something and null; what stands beside them wins over what they lead to.
    fn resolve(&self, schema: &Value) -> Value {
        let mut whole: Map<String, Value> = schema.as_object().cloned().unwrap_or_default();
        for _ in 0..DEEPEST {
            let next = if let Some(name) = whole.remove("$ref") {
                let name = name.as_str().and_then(|name| name.rsplit('/').next()).unwrap_or_default().to_string();
                self.definitions.and_then(|all| all.get(&name)).cloned()
            } else if whole.get("allOf").and_then(Value::as_array).is_some_and(|all| all.len() == 1) {
                whole.remove("allOf").map(|mut all| all[0].take())
            } else if let Some(one) = whole.get("anyOf").and_then(Value::as_array).and_then(|any| or_null(any)).cloned()
            {
                whole.remove("anyOf");
                Some(one)
            } else {
                None
            };
            let Some(Value::Object(next)) = next else {
                break;
            };
            for (key, value) in next {
                whole.entry(key).or_insert(value);
            }
        }
        Value::Object(whole)
    }

    /// The described ones of an enumeration: values, and mappings of one key.
    fn variants(&self, schema: &Value) -> Vec<Variant> {
        let alternatives = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array());
        let described = alternatives.into_iter().flatten().filter_map(|one| {
            let doc = text(one, "description");
            if let Some(name) = one.get("const").and_then(Value::as_str) {
                return Some(Variant { name: name.to_owned(), form: name.to_owned(), doc, inside: Value::Null });
            }
            let mut keys = one.get("properties")?.as_object()?.iter();
            let ((name, value), None) = (keys.next()?, keys.next()) else { return None };
            let inside = self.resolve(value);
            let names: Vec<&String> =
                inside["properties"].as_object().into_iter().flatten().map(|(key, _)| key).collect();
            let value = match &names[..] {
                [] => self.kind(&inside, 0),
                names => format!("{{ {} }}", names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")),
            };
            Some(Variant { name: name.clone(), form: format!("{{ {name}: {value} }}"), doc, inside })
        });
        described.filter(|variant| !variant.doc.is_empty()).collect()
    }

    /// The schema of the fields inside an option, and what to add to the path to get there.
    fn inner(&self, schema: &Value) -> (Value, &'static str) {
        if let Some(items) = schema.get("items") {
            return (self.resolve(items), "[]");
        }
        match schema.get("additionalProperties") {
            Some(values @ Value::Object(_)) => (self.resolve(values), ".NAME"),
            _ => (schema.clone(), ""),
        }
    }

    /// A type in words.
    fn kind(&self, schema: &Value, depth: usize) -> String {
        let constant = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
        if depth > DEEPEST {
            return "any value".to_string();
        }
        if let Some(values) = schema["enum"].as_array() {
            return either(values.iter().filter(|value| !value.is_null()).map(constant).collect());
        }
        if let Some(value) = schema.get("const") {
            return constant(value);
        }
        if let Some(any) = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array()) {
            let kinds = any.iter().map(|one| self.resolve(one)).filter(|one| one["type"] != "null");
            return either(kinds.map(|one| self.kind(&one, depth + 1)).collect());
        }
        let names: Vec<&str> = match &schema["type"] {
            Value::String(name) => vec![name],
            Value::Array(names) => names.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect(),
            _ => return "any value".to_string(),
        };
        either(names.into_iter().map(|name| self.plain(name, schema, depth)).collect())
    }

    fn plain(&self, name: &str, schema: &Value, depth: usize) -> String {
        let inner = |schema: &Value| self.kind(&self.resolve(schema), depth + 1);
        match name {
            "integer" => format!("whole number{}", range(schema)),
            "number" => format!("number{}", range(schema)),
            "string" => "text".to_string(),
            "boolean" => "true or false".to_string(),
            "array" => match schema.get("items") {
                Some(items) => format!("list of {}", plural(&inner(items))),
                None => "list".to_string(),
            },
            "object" => match schema.get("additionalProperties") {
                Some(values @ Value::Object(_)) => format!("mapping of names to {}", plural(&inner(values))),
                _ => "mapping".to_string(),
            },
            other => other.to_string(),
        }
    }
}

/// One of an enumeration.
struct Variant {
    /// Its value, or the key of the mapping.
    name: String,
    /// How it is written.
    form: String,
    doc: String,
    /// The schema of what stands under the key.
    inside: Value,
}

/// The other one of two alternatives of which one is null.
fn or_null(any: &[Value]) -> Option<&Value> {
    match any {
        [one, null] | [null, one] if null["type"] == "null" => Some(one),
        _ => None,
    }
}

/// The kind of many: `whole numbers ≥ 1`.
fn plural(kind: &str) -> String {
    let nouns = ["whole number", "number", "mapping", "list"];
    match nouns.iter().find_map(|noun| Some((noun, kind.strip_prefix(noun)?))) {
        Some((noun, rest)) => format!("{noun}s{rest}"),
        None => kind.to_string(),
    }
}

fn range(schema: &Value) -> String {
    let bound = |key: &str, sign: &str| schema.get(key).map(|value| format!(" {sign} {}", trimmed(value)));
    let bounds = [
        bound("minimum", "≥"),
        bound("exclusiveMinimum", ">"),
        bound("maximum", "≤").filter(|_| schema["format"].is_null()),
        bound("exclusiveMaximum", "<"),
    ];
    bounds.into_iter().flatten().collect::<Vec<_>>().join(",")
}

/// `1` for `1.0`.
fn trimmed(value: &Value) -> String {
    value
        .as_f64()
        .filter(|x| x.fract() == 0.0 && x.abs() < 1e15)
        .map_or_else(|| value.to_string(), |x| format!("{x:.0}"))
}

fn text(schema: &Value, key: &str) -> String {
    schema[key].as_str().unwrap_or_default().to_string()
}

fn either(alternatives: Vec<String>) -> String {
    let mut seen = Vec::with_capacity(alternatives.len());
    for one in alternatives {
        if !seen.contains(&one) {
            seen.push(one);
        }
    }
    // Values first: mappings are described one by one.
    let (mappings, mut alternatives): (Vec<String>, _) = seen.into_iter().partition(|one| one == "mapping");
    alternatives.extend(mappings);
    match alternatives.pop() {
        None => "any value".to_string(),
        Some(last) if alternatives.is_empty() => last,
        Some(last) => format!("{} or {last}", alternatives.join(", ")),
    }
}

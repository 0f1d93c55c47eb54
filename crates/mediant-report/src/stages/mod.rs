//! The catalogue of stages as people read it: on the terminal, as Markdown pages, and as the JSON schema of pipelines.

mod fields;
mod markdown;
mod schema;
mod terminal;

use serde::Serialize;
use serde_json::Value;

pub use fields::Field;
pub use markdown::{stage_index, stage_page};
pub use schema::pipeline_schema;
pub use terminal::{stage_list, stage_text};

/// A stage of the catalogue.
#[derive(Clone, Debug, Serialize)]
pub struct StageDoc {
    /// The name after `uses:`.
    pub name: String,
    /// The version that enters keys.
    pub version: u32,
    /// One line without a full stop.
    pub summary: String,
    /// Markdown: formulas, conventions, sources.
    pub details: String,
    /// A YAML fragment, the stage as it would stand under `stages:`.
    pub example: String,
    /// What it takes.
    pub inputs: InputsDoc,
    /// What it makes with the options of the example; the first is the default output.
    pub outputs: Vec<OutputDoc>,
    /// JSON schema of the options under `with:`, draft 2020-12.
    pub config: Value,
}

/// The inputs of a stage.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InputsDoc {
    /// These and no others.
    Fixed(Vec<PortDoc>),
    /// Any names, of any kind.
    Any,
}

/// An input.
#[derive(Clone, Debug, Serialize)]
pub struct PortDoc {
    /// The key under `inputs:`.
    pub name: String,
    /// Names of the artifact kinds it takes.
    pub kinds: Vec<String>,
    /// How many artifacts it takes.
    pub arity: Arity,
    /// What it is for.
    pub doc: String,
}

/// How many artifacts a port takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Arity {
    /// Exactly one.
    One,
    /// One or none.
    Optional,
    /// One or more.
    Many,
    /// Any number, none included.
    Any,
}

impl Arity {
    /// Whether nothing need be connected.
    pub fn may_be_empty(self) -> bool {
        matches!(self, Self::Optional | Self::Any)
    }

    /// Whether it takes several artifacts.
    pub fn takes_many(self) -> bool {
        matches!(self, Self::Many | Self::Any)
    }

    fn word(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Optional => "one, optional",
            Self::Many => "many",
            Self::Any => "any number",
        }
    }
}

/// An output.
#[derive(Clone, Debug, Serialize)]
pub struct OutputDoc {
    /// The name after the dot in `stage.name`.
    pub name: String,
    /// Name of the artifact kind.
    pub kind: String,
    /// Whether there is one artifact a key, `stage.name[key]`.
    pub keyed: bool,
    /// What it holds.
    pub doc: String,
}

impl StageDoc {
    /// The options under `with:`, those inside others by path.
    pub fn fields(&self) -> Vec<Field> {
        fields::fields(&self.config)
    }

    /// For machines: everything, with the options as a list beside their schema.
    pub fn to_json(&self) -> Value {
        // Serialising plain structs with string keys cannot fail.
        let mut value = serde_json::to_value(self).unwrap_or_default();
        value["options"] = serde_json::to_value(self.fields()).unwrap_or_default();
        value
    }
}

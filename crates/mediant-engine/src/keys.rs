//! Recipe and content keys (design: "Keys, cache and early cutoff").
//!
//! Both are BLAKE3 over one typed, length-prefixed, versioned encoding. A **recipe key** names the producers of the
//! inputs by their recipe keys, so it is known at plan time and the same on every machine. A **content key** names the
//! inputs by their logical digests, so it is known once they exist.

use mediant_artifact::Digest;
use serde_json::{Value, json};

use crate::canon::{Canon, encode_len, encode_str};

/// Raised when the encoding below changes; every key changes with it.
const ENCODING: u32 = 1;

/// Where an input comes from, as far as a key is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// An output of the action with this recipe key.
    Recipe {
        /// Recipe key of the producer.
        recipe: Digest,
        /// Name of the output.
        output: String,
        /// Key of a keyed output, else empty.
        key: String,
    },
    /// Whatever made it: an artifact with this logical digest.
    Content(Digest),
}

/// One artifact at a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberKey {
    /// Where it comes from.
    pub origin: Origin,
    /// The axes that the port collected, with this member's labels.
    pub labels: Vec<(String, String)>,
    /// The member's name, where the pipeline names the members.
    pub name: Option<String>,
}

/// An outside source: what it holds instead of where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceKey {
    /// The place in the config that named it.
    pub field: String,
    /// The extension of its file name, since stages choose formats by it.
    pub extension: String,
    /// Digest of the content.
    pub digest: Digest,
}

/// Everything that decides the result of an action.
#[derive(Debug, Clone, PartialEq)]
pub struct Preimage<'a> {
    /// Name of the stage.
    pub stage: &'a str,
    /// Version of the stage.
    pub version: u32,
    /// The typed config, without the paths of sources.
    pub config: &'a Canon,
    /// Members by port, in the stage's order of ports; a port with nothing connected is left out, so that an optional
    /// port added later keeps old keys.
    pub inputs: Vec<(&'a str, Vec<MemberKey>)>,
    /// Outside sources, in the stage's order.
    pub sources: Vec<&'a SourceKey>,
}

impl Preimage<'_> {
    /// The key: BLAKE3, with a domain of its own for each of the two kinds of key.
    pub fn key(&self, domain: Domain) -> Digest {
        let mut hasher = blake3::Hasher::new_derive_key(domain.context());
        hasher.update(&ENCODING.to_le_bytes());
        encode_str(&mut hasher, self.stage);
        hasher.update(&self.version.to_le_bytes());
        self.config.encode(&mut hasher);
        encode_len(&mut hasher, self.inputs.len());
        for (port, members) in &self.inputs {
            encode_str(&mut hasher, port);
            encode_len(&mut hasher, members.len());
            for member in members {
                member.encode(&mut hasher);
            }
        }
        encode_len(&mut hasher, self.sources.len());
        for source in &self.sources {
            encode_str(&mut hasher, &source.field);
            encode_str(&mut hasher, &source.extension);
            hasher.update(source.digest.as_bytes());
        }
        Digest::from(*hasher.finalize().as_bytes())
    }

    /// What is stored beside the result, so that two can be compared field by field.
    pub fn to_json(&self) -> Value {
        let inputs = self
            .inputs
            .iter()
            .map(|(port, members)| ((*port).to_owned(), members.iter().map(MemberKey::to_json).collect()))
            .collect();
        let sources = self
            .sources
            .iter()
            .map(|source| (source.field.clone(), json!({ "extension": source.extension, "digest": source.digest })))
            .collect();
        json!({
            "encoding": ENCODING,
            "stage": self.stage,
            "version": self.version,
            "config": self.config.to_json(),
            "inputs": Value::Object(inputs),
            "sources": Value::Object(sources),
        })
    }
}

/// Which of the two keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// Inputs by their producers' recipes.
    Recipe,
    /// Inputs by their logical digests.
    Content,
}

impl Domain {
    fn context(self) -> &'static str {
        match self {
            Self::Recipe => "mediant 2026 action recipe key",
            Self::Content => "mediant 2026 action content key",
        }
    }
}

impl MemberKey {
    fn encode(&self, hasher: &mut blake3::Hasher) {
        match &self.origin {
            Origin::Recipe { recipe, output, key } => {
                hasher.update(&[0]);
                hasher.update(recipe.as_bytes());
                encode_str(hasher, output);
                encode_str(hasher, key);
            }
            Origin::Content(digest) => {
                hasher.update(&[1]);
                hasher.update(digest.as_bytes());
            }
        }
        encode_len(hasher, self.labels.len());
        for (axis, label) in &self.labels {
            encode_str(hasher, axis);
            encode_str(hasher, label);
        }
        match &self.name {
            None => {
                hasher.update(&[0]);
            }
            Some(name) => {
                hasher.update(&[1]);
                encode_str(hasher, name);
            }
        }
    }

    fn to_json(&self) -> Value {
        let mut entry = match &self.origin {
            Origin::Recipe { recipe, output, key } if key.is_empty() => json!({ "recipe": recipe, "output": output }),
            Origin::Recipe { recipe, output, key } => json!({ "recipe": recipe, "output": output, "key": key }),
            Origin::Content(digest) => json!({ "digest": digest }),
        };
        if !self.labels.is_empty() {
            entry["labels"] = self
                .labels
                .iter()
                .map(|(axis, label)| (axis.clone(), Value::from(label.as_str())))
                .collect::<serde_json::Map<_, _>>()
                .into();
        }
        if let Some(name) = &self.name {
            entry["name"] = Value::from(name.as_str());
        }
        entry
    }
}

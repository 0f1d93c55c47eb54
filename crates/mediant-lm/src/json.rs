//! JSON that comes with a model, believed no further than need be: a key that stands twice is an error, where the JSON
//! library would take the last, and so is more of anything than a model needs.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::{Error, Result};

/// What a kind of text may hold. Values take many times as much memory as a short text such as `[0,0,0]`, so that these
/// are what bounds it.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes.
    pub(crate) bytes: u64,
    /// Mappings and lists inside each other.
    pub(crate) depth: usize,
    /// Items of a list.
    pub(crate) items: usize,
}

impl Limits {
    /// Of a `config.json`: lists with an entry a layer at most.
    pub(crate) const CONFIG: Self = Self { bytes: 1 << 20, depth: 16, items: 4096 };
    /// Of an index, which names every tensor of a large model.
    pub(crate) const INDEX: Self = Self { bytes: 64 << 20, depth: 4, items: 64 };
    /// Of the header of a safetensors file: names to descriptions to shapes.
    pub(crate) const HEADER: Self = Self { bytes: 100 << 20, depth: 3, items: 64 };
}

/// Reads a file.
pub(crate) fn read<T: DeserializeOwned>(path: &Path, limits: Limits) -> Result<T> {
    let mut text = Vec::new();
    let mut file = File::open(path).map_err(Error::io(path))?.take(limits.bytes + 1);
    file.read_to_end(&mut text).map_err(Error::io(path))?;
    parse(&text, limits).map_err(Error::json(path))
}

/// Parses a text.
pub(crate) fn parse<T: DeserializeOwned>(text: &[u8], limits: Limits) -> serde_json::Result<T> {
    check(text, limits)?;
    serde_json::from_slice(text)
}

/// Checks the limits, and that no mapping has a key twice; nothing but the keys of open mappings is in memory.
pub(crate) fn check(text: &[u8], limits: Limits) -> serde_json::Result<()> {
    if text.len() as u64 > limits.bytes {
        return Err(serde_json::Error::custom(format!("more than {} bytes, too many for what it is", limits.bytes)));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    limits.deserialize(&mut deserializer)?;
    deserializer.end()
}

impl<'de> DeserializeSeed<'de> for Limits {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Visits a value with these limits and keeps nothing of it.
impl<'de> Visitor<'de> for Limits {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        let mut count = 0;
        while list.next_element_seed(inner)?.is_some() {
            count += 1;
            if count > self.items {
                return Err(A::Error::custom(format!("a list of more than {} items", self.items)));
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        let mut keys = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if keys.contains(&key) {
                return Err(A::Error::custom(format!("the key `{}` stands twice", key.escape_debug())));
            }
            keys.insert(key);
            map.next_value_seed(inner)?;
        }
        Ok(())
    }
}

impl Limits {
    /// For the values in a mapping or list.
    fn inner<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| E::custom("nested too deeply"))?;
        Ok(Self { depth, ..self })
    }
}

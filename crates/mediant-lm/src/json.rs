//! JSON that comes with a model, read so that nothing in it is passed over: a key that stands twice is an error, where the
//! JSON library would take the last.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::{Error, Result};

/// Reads a file of at most `limit` bytes.
pub(crate) fn read<T: DeserializeOwned>(path: &Path, limit: u64) -> Result<T> {
    let mut text = Vec::new();
    let mut file = File::open(path).map_err(Error::io(path))?.take(limit + 1);
    file.read_to_end(&mut text).map_err(Error::io(path))?;
    if text.len() as u64 > limit {
        return Err(Error::safetensors(path, format!("has more than {limit} bytes, too many for a file of its name")));
    }
    parse(&text).map_err(Error::json(path))
}

/// Parses a text whose mappings have no key twice.
pub(crate) fn parse<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<T> {
    check_keys(text)?;
    serde_json::from_slice(text)
}

/// Looks for a key that stands twice in a mapping; nothing but the keys of open mappings is in memory.
pub(crate) fn check_keys(text: &[u8]) -> serde_json::Result<()> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    Distinct.deserialize(&mut deserializer)?;
    deserializer.end()
}

/// Any value whose mappings have no key twice.
#[derive(Clone, Copy)]
struct Distinct;

impl<'de> DeserializeSeed<'de> for Distinct {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Distinct {
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
        while list.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut keys = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if keys.contains(&key) {
                return Err(A::Error::custom(format!("the key `{}` stands twice", key.escape_debug())));
            }
            keys.insert(key);
            map.next_value_seed(self)?;
        }
        Ok(())
    }
}

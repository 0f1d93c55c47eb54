//! JSON of other tools, believed no further than need be: bounded in size, and a key that stands twice is an error.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::input::Input;
use crate::{Error, Result};

/// Largest config or header: a dictionary has a dozen tensors.
pub(super) const LARGEST: u64 = 1 << 20;

/// A JSON object in a file, with errors that name the field.
pub(super) struct Config {
    path: PathBuf,
    pub(super) fields: Map<String, Value>,
}

impl Config {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let input = Input::open(path)?;
        if input.len() > LARGEST {
            return Err(input.error(format!("has {} bytes, too many for what it is", input.len())));
        }
        match parse(&input.bytes(0, input.len())?) {
            Ok(Value::Object(fields)) => Ok(Self { path: path.to_owned(), fields }),
            Ok(_) => Err(input.error("is not a JSON object")),
            Err(why) => Err(input.error(why)),
        }
    }

    pub(super) fn error(&self, why: impl Into<String>) -> Error {
        Error::format(&self.path, why)
    }

    pub(super) fn get(&self, field: &str) -> Option<&Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    /// An object inside this one.
    pub(super) fn section(&self, field: &str) -> Result<Self> {
        match self.fields.get(field) {
            Some(Value::Object(fields)) => Ok(Self { path: self.path.clone(), fields: fields.clone() }),
            _ => Err(self.error(format!("`{field}` is missing or not an object"))),
        }
    }

    /// A whole number that must be there.
    pub(super) fn count(&self, field: &str) -> Result<usize> {
        let value = self.get(field).and_then(Value::as_u64).and_then(|value| usize::try_from(value).ok());
        value.ok_or_else(|| self.error(format!("`{field}` is missing or not a whole number")))
    }

    /// True or false.
    pub(super) fn flag(&self, field: &str, default: bool) -> Result<bool> {
        match self.get(field) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.error(format!("`{field}` is not true or false"))),
        }
    }

    /// A text.
    pub(super) fn text(&self, field: &str) -> Result<Option<&str>> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.error(format!("`{field}` is not a text"))),
        }
    }
}

/// Parses a text in which no mapping has a key twice, where the JSON library would take the last.
pub(super) fn parse(text: &[u8]) -> Result<Value, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = Strict.deserialize(&mut deserializer).map_err(|error| error.to_string())?;
    deserializer.end().map_err(|error| error.to_string())?;
    Ok(value)
}

#[derive(Clone, Copy)]
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(Self)? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if values.contains_key(&key) {
                return Err(A::Error::custom(format!("the key `{}` stands twice", key.escape_debug())));
            }
            values.insert(key, map.next_value_seed(Self)?);
        }
        Ok(values.into())
    }
}

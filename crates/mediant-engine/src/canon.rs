//! The canonical form of a typed config: what a key is computed over.
//!
//! A config is serialised into [`Canon`], whose encoding is typed and length-prefixed, so that no two different values
//! share bytes: `["ab", "c"]` and `["a", "bc"]`, `1` and `"1"`, null and an absent entry all differ. Entries of
//! mappings are sorted, so that their order in the file does not matter. All NaNs are one value; −0.0 and 0.0 are two,
//! since a stage may tell them apart; strings are compared by code points (no Unicode normalisation).

use serde::ser::{self, Serialize};

/// A value of a config, free of presentation.
#[derive(Debug, Clone, PartialEq)]
pub enum Canon {
    /// Absent option, unit.
    Null,
    /// Truth value.
    Bool(bool),
    /// Any integer type.
    Int(i128),
    /// Any float type; NaN is always the same NaN.
    Float(f64),
    /// Text, and the name of an enum's unit variant.
    Str(String),
    /// List.
    Seq(Vec<Canon>),
    /// Struct or mapping, sorted by name.
    Map(Vec<(String, Canon)>),
}

const TAG_NULL: u8 = 0;
const TAG_BOOL: u8 = 1;
const TAG_INT: u8 = 2;
const TAG_FLOAT: u8 = 3;
const TAG_STR: u8 = 4;
const TAG_SEQ: u8 = 5;
const TAG_MAP: u8 = 6;

impl Canon {
    /// The canonical form of a serialisable value.
    pub fn of(value: &impl Serialize) -> Result<Self, CanonError> {
        value.serialize(Writer)
    }

    /// Feeds the encoding to a hasher.
    pub fn encode(&self, hasher: &mut blake3::Hasher) {
        match self {
            Self::Null => {
                hasher.update(&[TAG_NULL]);
            }
            Self::Bool(value) => {
                hasher.update(&[TAG_BOOL, u8::from(*value)]);
            }
            Self::Int(value) => {
                hasher.update(&[TAG_INT]);
                hasher.update(&value.to_le_bytes());
            }
            Self::Float(value) => {
                hasher.update(&[TAG_FLOAT]);
                hasher.update(&value.to_bits().to_le_bytes());
            }
            Self::Str(text) => {
                hasher.update(&[TAG_STR]);
                encode_str(hasher, text);
            }
            Self::Seq(items) => {
                hasher.update(&[TAG_SEQ]);
                encode_len(hasher, items.len());
                for item in items {
                    item.encode(hasher);
                }
            }
            Self::Map(entries) => {
                hasher.update(&[TAG_MAP]);
                encode_len(hasher, entries.len());
                for (name, value) in entries {
                    encode_str(hasher, name);
                    value.encode(hasher);
                }
            }
        }
    }

    /// The value as JSON, for the stored pre-image that people and `explain` read. Floats that JSON cannot hold are text.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value;
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(value) => i64::try_from(*value)
                .map(Value::from)
                .or_else(|_| u64::try_from(*value).map(Value::from))
                .unwrap_or_else(|_| Value::String(value.to_string())),
            Self::Float(value) => {
                serde_json::Number::from_f64(*value).map_or_else(|| Value::String(value.to_string()), Value::Number)
            }
            Self::Str(text) => Value::String(text.clone()),
            Self::Seq(items) => items.iter().map(Self::to_json).collect(),
            Self::Map(entries) => {
                Value::Object(entries.iter().map(|(name, value)| (name.clone(), value.to_json())).collect())
            }
        }
    }

    /// Puts `value` at a path such as `source` or `files[0]`; does nothing when there is no such place.
    pub(crate) fn replace(&mut self, path: &str, value: Canon) {
        let mut here = self;
        for step in path.split(['.', '[']).map(|step| step.trim_end_matches(']')) {
            let next = match here {
                Self::Map(entries) => entries.iter_mut().find(|(name, _)| name == step).map(|(_, value)| value),
                Self::Seq(items) => step.parse::<usize>().ok().and_then(|index| items.get_mut(index)),
                _ => None,
            };
            match next {
                Some(next) => here = next,
                None => return,
            }
        }
        *here = value;
    }
}

pub(crate) fn encode_len(hasher: &mut blake3::Hasher, len: usize) {
    hasher.update(&(len as u64).to_le_bytes());
}

pub(crate) fn encode_str(hasher: &mut blake3::Hasher, text: &str) {
    encode_len(hasher, text.len());
    hasher.update(text.as_bytes());
}

/// A config type has a part with no canonical form; a defect of the stage, not of the pipeline.
#[derive(Debug, thiserror::Error)]
#[error("config has no canonical form: {0}")]
pub struct CanonError(String);

impl ser::Error for CanonError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

struct Writer;

type Out = Result<Canon, CanonError>;

fn float(value: f64) -> Canon {
    Canon::Float(if value.is_nan() { f64::NAN } else { value })
}

fn variant(name: &str, value: Canon) -> Canon {
    Canon::Map(vec![(name.to_owned(), value)])
}

macro_rules! ints {
    ($($method:ident: $type:ty),*) => {$(
        fn $method(self, value: $type) -> Out {
            Ok(Canon::Int(i128::from(value)))
        }
    )*};
}

impl ser::Serializer for Writer {
    type Ok = Canon;
    type Error = CanonError;
    type SerializeSeq = SeqWriter;
    type SerializeTuple = SeqWriter;
    type SerializeTupleStruct = SeqWriter;
    type SerializeTupleVariant = SeqWriter;
    type SerializeMap = MapWriter;
    type SerializeStruct = MapWriter;
    type SerializeStructVariant = MapWriter;

    ints!(serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64);

    fn serialize_bool(self, value: bool) -> Out {
        Ok(Canon::Bool(value))
    }
    fn serialize_f32(self, value: f32) -> Out {
        Ok(float(f64::from(value)))
    }
    fn serialize_f64(self, value: f64) -> Out {
        Ok(float(value))
    }
    fn serialize_char(self, value: char) -> Out {
        Ok(Canon::Str(value.to_string()))
    }
    fn serialize_str(self, value: &str) -> Out {
        Ok(Canon::Str(value.to_owned()))
    }
    fn serialize_bytes(self, value: &[u8]) -> Out {
        Ok(Canon::Seq(value.iter().map(|byte| Canon::Int(i128::from(*byte))).collect()))
    }
    fn serialize_none(self) -> Out {
        Ok(Canon::Null)
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Out {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Out {
        Ok(Canon::Null)
    }
    fn serialize_unit_struct(self, _: &'static str) -> Out {
        Ok(Canon::Null)
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, name: &'static str) -> Out {
        Ok(Canon::Str(name.to_owned()))
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Out {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Out {
        Ok(variant(name, value.serialize(self)?))
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<SeqWriter, CanonError> {
        Ok(SeqWriter::default())
    }
    fn serialize_tuple(self, _: usize) -> Result<SeqWriter, CanonError> {
        Ok(SeqWriter::default())
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<SeqWriter, CanonError> {
        Ok(SeqWriter::default())
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<SeqWriter, CanonError> {
        Ok(SeqWriter { variant: Some(name), items: Vec::new() })
    }
    fn serialize_map(self, _: Option<usize>) -> Result<MapWriter, CanonError> {
        Ok(MapWriter::default())
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<MapWriter, CanonError> {
        Ok(MapWriter::default())
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<MapWriter, CanonError> {
        Ok(MapWriter { variant: Some(name), ..MapWriter::default() })
    }
}

#[derive(Default)]
struct SeqWriter {
    variant: Option<&'static str>,
    items: Vec<Canon>,
}

impl SeqWriter {
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CanonError> {
        self.items.push(value.serialize(Writer)?);
        Ok(())
    }

    fn done(mut self) -> Out {
        // A plan keeps the configs of all its instances.
        self.items.shrink_to_fit();
        let seq = Canon::Seq(self.items);
        Ok(match self.variant {
            Some(name) => variant(name, seq),
            None => seq,
        })
    }
}

macro_rules! seq_writer {
    ($($trait:ident, $method:ident;)*) => {$(
        impl ser::$trait for SeqWriter {
            type Ok = Canon;
            type Error = CanonError;
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CanonError> {
                self.push(value)
            }
            fn end(self) -> Out {
                self.done()
            }
        }
    )*};
}
seq_writer! {
    SerializeSeq, serialize_element;
    SerializeTuple, serialize_element;
    SerializeTupleStruct, serialize_field;
    SerializeTupleVariant, serialize_field;
}

#[derive(Default)]
struct MapWriter {
    variant: Option<&'static str>,
    key: Option<String>,
    entries: Vec<(String, Canon)>,
}

impl MapWriter {
    fn done(mut self) -> Out {
        self.entries.sort_by(|a, b| a.0.cmp(&b.0));
        self.entries.shrink_to_fit();
        let map = Canon::Map(self.entries);
        Ok(match self.variant {
            Some(name) => variant(name, map),
            None => map,
        })
    }
}

impl ser::SerializeMap for MapWriter {
    type Ok = Canon;
    type Error = CanonError;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), CanonError> {
        self.key = Some(match key.serialize(Writer)? {
            Canon::Str(text) => text,
            Canon::Int(value) => value.to_string(),
            other => return Err(CanonError(format!("a mapping's key is {other:?}"))),
        });
        Ok(())
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CanonError> {
        let key = self.key.take().ok_or_else(|| CanonError("a value without a key".into()))?;
        self.entries.push((key, value.serialize(Writer)?));
        Ok(())
    }
    fn end(self) -> Out {
        self.done()
    }
}

macro_rules! struct_writer {
    ($($trait:ident),*) => {$(
        impl ser::$trait for MapWriter {
            type Ok = Canon;
            type Error = CanonError;
            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), CanonError> {
                self.entries.push((name.to_owned(), value.serialize(Writer)?));
                Ok(())
            }
            fn end(self) -> Out {
                self.done()
            }
        }
    )*};
}
struct_writer!(SerializeStruct, SerializeStructVariant);

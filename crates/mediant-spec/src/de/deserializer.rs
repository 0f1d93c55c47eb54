//! serde's Deserializer over a node.

use std::cell::RefCell;

use serde::Deserializer;
use serde::de::{DeserializeOwned, Visitor};

use super::access::{Enum, Fields, Items};
use super::error::Error;
use crate::diagnostic::Diagnostic;
use crate::node::{Entry, Node, Value};
use crate::suggest::suggest;

#[derive(Clone, Copy)]
pub(super) struct NodeDeserializer<'n, 'c> {
    pub(super) node: &'n Node,
    pub(super) context: &'c Context<'n, 'c>,
}

/// What one attempt knows and finds.
pub(super) struct Context<'n, 'c> {
    /// Values that are known to be wrong and left out.
    pub(super) skip: &'c [&'n Node],
    unknown: RefCell<Vec<Diagnostic>>,
}

impl Context<'_, '_> {
    pub(super) fn skips(&self, node: &Node) -> bool {
        self.skip.iter().any(|skipped| std::ptr::eq(*skipped, node))
    }
}

impl<'n, 'c> NodeDeserializer<'n, 'c> {
    /// The value or the first error, and the unknown keys found on the way.
    pub(super) fn run<T: DeserializeOwned>(
        node: &'n Node,
        skip: &[&'n Node],
    ) -> (Result<T, Error<'n>>, Vec<Diagnostic>) {
        let context = Context { skip, unknown: RefCell::default() };
        let result = T::deserialize(NodeDeserializer { node, context: &context });
        (result, context.unknown.into_inner())
    }

    fn expected<T>(self, what: &str) -> Result<T, Error<'n>> {
        let help = match (&self.node.value, what) {
            (Value::Str(text), "`true` or `false`")
                if matches!(&*text.to_lowercase(), "yes" | "no" | "on" | "off" | "y" | "n") =>
            {
                Some(format!("`{text}` is text in YAML 1.2"))
            }
            (Value::Bool(_) | Value::Int(_) | Value::UInt(_) | Value::Float(_), "text") => {
                Some("quote it to make it text".to_owned())
            }
            (Value::Str(text), _) if text.parse::<f64>().is_ok() => {
                Some("remove the quotes to make it a number".to_owned())
            }
            (Value::Float(number), _)
                if number.fract() == 0.0 && number.abs() < 1e15 && what.starts_with("an integer") =>
            {
                Some(format!("write `{number}`, without a point or an exponent"))
            }
            _ => None,
        };
        Err(Error::new("type", format!("expected {what}, found {}", self.node.value.shown()), help).at(self.node))
    }

    fn integer(self, min: i128, max: i128) -> Result<i128, Error<'n>> {
        let number = match self.node.value {
            Value::Int(number) => number.into(),
            Value::UInt(number) => number.into(),
            _ => return self.expected("an integer"),
        };
        if (min..=max).contains(&number) {
            return Ok(number);
        }
        Err(Error::new("number-range", format!("expected an integer from {min} to {max}, found {number}"), None)
            .at(self.node))
    }

    fn float(self, largest: f64) -> Result<f64, Error<'n>> {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a float option written as an integer: the nearest float is meant"
        )]
        let number = match self.node.value {
            Value::Float(number) => number,
            Value::Int(number) => number as f64,
            Value::UInt(number) => number as f64,
            _ => return self.expected("a number"),
        };
        if number.is_finite() && number.abs() > largest {
            return Err(Error::new(
                "number-range",
                format!("{number:e} is too large: the largest is {largest:e}"),
                None,
            )
            .at(self.node));
        }
        Ok(number)
    }

    pub(super) fn items(self) -> Result<&'n [Node], Error<'n>> {
        match &self.node.value {
            Value::Seq(items) => Ok(items),
            _ => self.expected("a list"),
        }
    }

    pub(super) fn entries(self) -> Result<&'n [Entry], Error<'n>> {
        self.node.entries().map_or_else(|| self.expected("a mapping"), Ok)
    }

    fn report_unknown(self, entries: &[Entry], fields: &[&str]) {
        for entry in entries.iter().filter(|entry| !fields.contains(&entry.key.as_str())) {
            self.context.unknown.borrow_mut().push(
                Diagnostic::new("unknown-key", format!("there is no `{}` here", entry.key))
                    .at(entry.key_span, "unknown key")
                    .via(entry.value.via)
                    .help(suggest(&entry.key, fields.iter().copied(), "keys")),
            );
        }
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty as $wide:ty),+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            let number = self.integer(<$type>::MIN.into(), <$type>::MAX.into())?;
            match <$wide>::try_from(number) {
                Ok(number) => visitor.$visit(number),
                Err(_) => self.expected("an integer"),
            }
        }
    )+};
}

impl<'de, 'n> Deserializer<'de> for NodeDeserializer<'n, '_> {
    type Error = Error<'n>;

    integers!(
        deserialize_i8 visit_i64 i8 as i64, deserialize_i16 visit_i64 i16 as i64,
        deserialize_i32 visit_i64 i32 as i64, deserialize_i64 visit_i64 i64 as i64,
        deserialize_u8 visit_u64 u8 as u64, deserialize_u16 visit_u64 u16 as u64,
        deserialize_u32 visit_u64 u32 as u64, deserialize_u64 visit_u64 u64 as u64
    );

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Int(number) => visitor.visit_i64(*number),
            Value::UInt(number) => visitor.visit_u64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Str(text) => visitor.visit_str(text),
            Value::Seq(_) => self.deserialize_seq(visitor),
            Value::Map(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.node.value {
            Value::Bool(value) => visitor.visit_bool(value),
            _ => self.expected("`true` or `false`"),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_f64(self.float(f32::MAX.into())?)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_f64(self.float(f64::MAX)?)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        let text = self.node.as_str().unwrap_or_default();
        match (text.chars().next(), text.chars().nth(1)) {
            (Some(letter), None) => visitor.visit_char(letter),
            _ => self.expected("one character"),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match &self.node.value {
            Value::Str(text) => visitor.visit_str(text),
            _ => self.expected("text"),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.node.value {
            Value::Null => visitor.visit_unit(),
            _ => self.expected("nothing"),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        let items = Items::new(self.items()?, self.context);
        visitor.visit_seq(items).map_err(|error| error.at(self.node))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Self::Error> {
        let count = self.items()?.len();
        if count != length {
            let message = format!("expected a list of {length}, found a list of {count}");
            return Err(Error::new("type", message, None).at(self.node));
        }
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        let fields = Fields::new(self.entries()?, None, self.context);
        visitor.visit_map(fields).map_err(|error| error.at(self.node))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        let entries = self.entries()?;
        self.report_unknown(entries, fields);
        visitor.visit_map(Fields::new(entries, Some(fields), self.context)).map_err(|error| error.at(self.node))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        let choice = match &self.node.value {
            Value::Str(_) => Enum { outer: self, variant: self.node.as_str().unwrap_or_default(), content: None },
            Value::Map(entries) => match entries.as_slice() {
                [Entry { key, value, .. }] => Enum { outer: self, variant: key, content: Some(value) },
                _ => return self.expected(&format!("one of {}", choices(variants))),
            },
            _ => return self.expected(&format!("one of {}", choices(variants))),
        };
        visitor.visit_enum(choice).map_err(|error| error.at(self.node))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_unit()
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.deserialize_unit(visitor)
    }

    serde::forward_to_deserialize_any! { i128 u128 bytes byte_buf }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.deserialize_str(visitor)
    }
}

fn choices(variants: &[&str]) -> String {
    variants.iter().map(|variant| format!("`{variant}`")).collect::<Vec<_>>().join(", ")
}

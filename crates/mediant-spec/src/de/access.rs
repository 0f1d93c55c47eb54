//! Into lists, mappings and enums.

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::deserializer::{Context, NodeDeserializer};
use super::error::Error;
use crate::node::{Entry, Node};

pub(super) struct Items<'n, 'c> {
    rest: std::slice::Iter<'n, Node>,
    context: &'c Context<'n, 'c>,
}

impl<'n, 'c> Items<'n, 'c> {
    pub(super) fn new(items: &'n [Node], context: &'c Context<'n, 'c>) -> Self {
        Self { rest: items.iter(), context }
    }
}

impl<'de, 'n> SeqAccess<'de> for Items<'n, '_> {
    type Error = Error<'n>;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Self::Error> {
        let context = self.context;
        match self.rest.find(|item| !context.skips(item)) {
            Some(node) => {
                seed.deserialize(NodeDeserializer { node, context }).map(Some).map_err(|error| error.at(node))
            }
            None => Ok(None),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

/// The entries of a mapping; of a struct those that are fields.
pub(super) struct Fields<'n, 'c> {
    rest: std::slice::Iter<'n, Entry>,
    fields: Option<&'static [&'static str]>,
    context: &'c Context<'n, 'c>,
    value: Option<&'n Node>,
}

impl<'n, 'c> Fields<'n, 'c> {
    pub(super) fn new(
        entries: &'n [Entry],
        fields: Option<&'static [&'static str]>,
        context: &'c Context<'n, 'c>,
    ) -> Self {
        Self { rest: entries.iter(), fields, context, value: None }
    }
}

impl<'de, 'n> MapAccess<'de> for Fields<'n, '_> {
    type Error = Error<'n>;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Self::Error> {
        let (context, fields) = (self.context, self.fields);
        let known = |entry: &Entry| fields.is_none_or(|fields| fields.contains(&entry.key.as_str()));
        let Some(entry) = self.rest.find(|entry| known(entry) && !context.skips(&entry.value)) else {
            return Ok(None);
        };
        self.value = Some(&entry.value);
        seed.deserialize(KeyDeserializer(&entry.key))
            .map(Some)
            .map_err(|error| error.at_key(entry.key_span, &entry.value))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Self::Error> {
        let Some(node) = self.value.take() else {
            return Err(serde::de::Error::custom("a value was asked for before its key"));
        };
        seed.deserialize(NodeDeserializer { node, context: self.context }).map_err(|error| error.at(node))
    }
}

/// Keys are text; as keys of a typed map they may stand for numbers.
struct KeyDeserializer<'n>(&'n str);

macro_rules! number_keys {
    ($($method:ident $visit:ident $type:ty),+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            match self.0.parse::<$type>() {
                Ok(number) => visitor.$visit(number),
                Err(_) => Err(Error::new("type", format!("expected an integer as the key, found `{}`", self.0), None)),
            }
        }
    )+};
}

impl<'de, 'n> Deserializer<'de> for KeyDeserializer<'n> {
    type Error = Error<'n>;

    number_keys!(
        deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16, deserialize_i32 visit_i32 i32, deserialize_i64 visit_i64 i64,
        deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16, deserialize_u32 visit_u32 u32, deserialize_u64 visit_u64 u64
    );

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_str(self.0)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        let key: StrDeserializer<'_, Error<'n>> = self.0.into_deserializer();
        key.deserialize_enum(name, variants, visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i128 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}

/// `topk`, or `topk: { k: 16 }`.
pub(super) struct Enum<'n, 'c> {
    pub(super) outer: NodeDeserializer<'n, 'c>,
    pub(super) variant: &'n str,
    pub(super) content: Option<&'n Node>,
}

impl<'n, 'c> Enum<'n, 'c> {
    fn content(self) -> Result<NodeDeserializer<'n, 'c>, Error<'n>> {
        let context = self.outer.context;
        match self.content {
            Some(node) if !context.skips(node) => Ok(NodeDeserializer { node, context }),
            Some(_) => Err(Error::new("value", "its content is wrong".to_owned(), None).at(self.outer.node)),
            None => {
                let message = format!("`{}` needs more to be said", self.variant);
                let help = format!("write `{{ {}: … }}`", self.variant);
                Err(Error::new("type", message, Some(help)).at(self.outer.node))
            }
        }
    }
}

impl<'de, 'n, 'c> EnumAccess<'de> for Enum<'n, 'c> {
    type Error = Error<'n>;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Self::Error> {
        let name: StrDeserializer<'_, Error<'n>> = self.variant.into_deserializer();
        let value = seed.deserialize(name).map_err(|error| error.at(self.outer.node))?;
        Ok((value, self))
    }
}

impl<'de, 'n> VariantAccess<'de> for Enum<'n, '_> {
    type Error = Error<'n>;

    fn unit_variant(self) -> Result<(), Self::Error> {
        match self.content {
            None => Ok(()),
            Some(node) => {
                let message = format!("`{}` has no options", self.variant);
                Err(Error::new("type", message, Some(format!("write `{}` alone", self.variant))).at(node))
            }
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Self::Error> {
        seed.deserialize(self.content()?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Self::Error> {
        self.content()?.deserialize_tuple(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.content()?.deserialize_struct("", fields, visitor)
    }
}

//! A schema as one line of text: what people read in a manifest, what the logical digest covers, and what a file's
//! schema is compared with. Different schemas have different texts.

use std::collections::BTreeMap;
use std::fmt::Write;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};

use crate::error::{Error, Result};

/// Lists in lists in structs: deeper than any stage needs, far from the end of the stack.
const DEEPEST: usize = 16;

/// The columns as `name: type`, `not null` where that holds, and their metadata, joined by commas.
pub(crate) fn schema_text(fields: &Fields) -> Result<String> {
    fields_text(fields, 0)
}

fn fields_text(fields: &Fields, depth: usize) -> Result<String> {
    let texts = fields.iter().map(|field| Ok(format!("{}: {}", name_text(field.name()), slot_text(field, depth)?)));
    Ok(texts.collect::<Result<Vec<_>>>()?.join(", "))
}

/// A field without its name: those inside lists have none that means anything.
fn slot_text(field: &Field, depth: usize) -> Result<String> {
    let mut text = type_text(field.data_type(), depth)
        .map_err(|error| Error::Invalid(format!("column `{}`: {error}", field.name())))?;
    if !field.is_nullable() {
        text.push_str(" not null");
    }
    if !field.metadata().is_empty() {
        let sorted: BTreeMap<_, _> = field.metadata().iter().collect();
        let pairs: Vec<_> = sorted.iter().map(|(key, value)| format!("{key:?}: {value:?}")).collect();
        let _ = write!(text, " {{{}}}", pairs.join(", "));
    }
    Ok(text)
}

fn name_text(name: &str) -> String {
    let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-/[]=".contains(&byte));
    if plain { name.to_owned() } else { format!("{name:?}") }
}

fn type_text(data_type: &DataType, depth: usize) -> Result<String> {
    if depth > DEEPEST {
        return Err(Error::Invalid(format!("nested more than {DEEPEST} deep")));
    }
    let text = match data_type {
        DataType::Boolean => "bool",
        DataType::Int8 => "int8",
        DataType::Int16 => "int16",
        DataType::Int32 => "int32",
        DataType::Int64 => "int64",
        DataType::UInt8 => "uint8",
        DataType::UInt16 => "uint16",
        DataType::UInt32 => "uint32",
        DataType::UInt64 => "uint64",
        DataType::Float16 => "float16",
        DataType::Float32 => "float32",
        DataType::Float64 => "float64",
        DataType::Date32 => "date32",
        DataType::Date64 => "date64",
        DataType::Utf8 => "utf8",
        DataType::LargeUtf8 => "large_utf8",
        DataType::Binary => "binary",
        DataType::LargeBinary => "large_binary",
        DataType::FixedSizeBinary(width) => return Ok(format!("fixed_size_binary[{width}]")),
        DataType::Timestamp(unit, None) => return Ok(format!("timestamp[{}]", unit_text(*unit))),
        DataType::Timestamp(unit, Some(zone)) => return Ok(format!("timestamp[{}, {zone:?}]", unit_text(*unit))),
        DataType::Duration(unit) => return Ok(format!("duration[{}]", unit_text(*unit))),
        DataType::Decimal128(precision, scale) => return Ok(format!("decimal128[{precision}, {scale}]")),
        DataType::List(item) => return Ok(format!("list<{}>", slot_text(item, depth + 1)?)),
        DataType::LargeList(item) => return Ok(format!("large_list<{}>", slot_text(item, depth + 1)?)),
        DataType::FixedSizeList(item, size) => {
            return Ok(format!("fixed_size_list[{size}]<{}>", slot_text(item, depth + 1)?));
        }
        DataType::Struct(fields) => return Ok(format!("struct<{}>", fields_text(fields, depth + 1)?)),
        other => return Err(Error::Invalid(format!("artifacts do not hold the type {other}"))),
    };
    Ok(text.to_owned())
}

fn unit_text(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "us",
        TimeUnit::Nanosecond => "ns",
    }
}

//! Rotary positions in a `config.json`: at the top (transformers 4) or under `rope_parameters` (transformers 5).

use super::Fields;
use super::fields::{positive, shown};
use crate::{Error, PositionKind, Result};

/// Reads the rotary positions of heads of `d_head` numbers. `theta_field` is the name that transformers 4 has for the base,
/// which is 10,000 if absent; `part` its name for the part of a head that is rotated, with the value for an absent one.
pub(super) fn rotary(
    fields: &Fields<'_>,
    d_head: usize,
    theta_field: &str,
    part: Option<(&str, f64)>,
) -> Result<PositionKind> {
    if let Some(scaling) = fields.mapping("rope_scaling")? {
        let kind = scaling.get("rope_type").or_else(|| scaling.get("type"));
        if scaling.len() != 1 || kind.and_then(|kind| kind.as_str()) != Some("default") {
            let scaling = serde_json::Value::from(scaling.clone());
            let why = format!("is {}, but scaled rotary positions are not built yet", shown(&scaling));
            return Err(Error::config("rope_scaling", why));
        }
    }
    let mut theta = fields.optional_positive(theta_field)?.map(|theta| (theta_field.to_owned(), theta));
    let mut rotated = match part {
        Some((field, _)) => fields.optional_positive(field)?.map(|part| (field.to_owned(), part)),
        None => None,
    };
    if let Some(parameters) = fields.mapping("rope_parameters")? {
        for (name, value) in parameters {
            let field = format!("rope_parameters.{name}");
            match name.as_str() {
                "rope_theta" => same(&mut theta, field, value)?,
                "partial_rotary_factor" if part.is_some() => same(&mut rotated, field, value)?,
                "rope_type" if value == "default" => {}
                _ => {
                    let why = format!("is {}, but scaled rotary positions are not built yet", shown(value));
                    return Err(Error::config(field, why));
                }
            }
        }
    }
    let absent = part.map_or(1.0, |(_, absent)| absent);
    let dims = match rotated {
        Some((field, part)) if part > 1.0 => {
            return Err(Error::config(field, format!("is {part}, more than the whole head")));
        }
        rotated => (d_head as f64 * rotated.map_or(absent, |(_, part)| part)) as usize,
    };
    Ok(PositionKind::Rotary { theta: theta.map_or(10_000.0, |(_, theta)| theta), dims })
}

/// Takes a number that may have been given before, under another name; the two must agree.
fn same(known: &mut Option<(String, f64)>, field: String, value: &serde_json::Value) -> Result<()> {
    let number = positive(&field, value)?;
    match known {
        Some((other, first)) if *first != number => {
            Err(Error::config(other.as_str(), format!("is {first}, but {field} is {number}")))
        }
        _ => {
            *known = Some((field, number));
            Ok(())
        }
    }
}

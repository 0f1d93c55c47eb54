//! Directions that a program of the user's wrote.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, UInt32Type};
use mediant_artifact::{DirectionRow, DirectionsMeta, subspaces};
use mediant_engine::StageError;
use mediant_lm::Positions;

/// A place that is not given.
const NONE: u32 = u32::MAX;

/// What is said of them.
pub(crate) fn own_meta() -> DirectionsMeta {
    DirectionsMeta { method: "user".to_owned(), value: Some("value".to_owned()), ..DirectionsMeta::default() }
}

/// Rows of a table as directions: columns `hook` and `vector` are needed. Without `rank` all rows of a hook point and positions
/// are one subspace; without `index` they are in order.
pub(crate) fn own_directions(batches: &[RecordBatch]) -> Result<Vec<DirectionRow>, StageError> {
    let mut rows = Vec::new();
    let mut ranked = true;
    for batch in batches {
        let column = |name: &str, data_type: &DataType| -> Result<Option<ArrayRef>, StageError> {
            batch.column_by_name(name).map(|column| cast(column, data_type).map_err(StageError::from)).transpose()
        };
        let needed = |name: &str, data_type: &DataType| {
            column(name, data_type)?.ok_or_else(|| StageError::new(format!("there is no column `{name}`")))
        };
        let hooks = needed("hook", &DataType::Utf8)?;
        let list = DataType::List(Field::new_list_field(DataType::Float32, true).into());
        let vectors = needed("vector", &list)?;
        let positions = column("positions", &DataType::Utf8)?;
        let (ranks, places) = (column("rank", &DataType::UInt32)?, column("index", &DataType::UInt32)?);
        let values = column("value", &DataType::Float64)?;
        ranked &= ranks.is_some();
        for row in 0..batch.num_rows() {
            let given = |array: &Option<ArrayRef>| array.as_ref().filter(|array| !array.is_null(row)).cloned();
            let count = |array: &Option<ArrayRef>| given(array).map(|a| a.as_primitive::<UInt32Type>().value(row));
            if hooks.is_null(row) || vectors.is_null(row) {
                return Err(StageError::new(format!("row {row} has no hook or no vector")));
            }
            let vector = vectors.as_list::<i32>().value(row);
            let vector = vector.as_primitive::<Float32Type>();
            if vector.null_count() > 0 {
                return Err(StageError::new(format!("the vector of row {row} has nulls")));
            }
            let words = given(&positions).map(|array| array.as_string::<i32>().value(row).to_owned());
            rows.push(DirectionRow {
                hook: hooks.as_string::<i32>().value(row).to_owned(),
                positions: positions_json(words.as_deref().unwrap_or("all"))?,
                rank: count(&ranks).unwrap_or(0),
                index: count(&places).unwrap_or(NONE),
                value: given(&values).map(|array| array.as_primitive::<Float64Type>().value(row)),
                vector: vector.values().to_vec(),
            });
        }
    }
    if !ranked {
        rows.iter_mut().for_each(|row| row.rank = 0);
        let ranks: Vec<u32> = subspaces(&rows).flat_map(|rows| vec![rows.len() as u32; rows.len()]).collect();
        rows.iter_mut().zip(ranks).for_each(|(row, rank)| row.rank = rank);
    }
    let places: Vec<u32> = subspaces(&rows).flat_map(|rows| 0..rows.len() as u32).collect();
    for (row, place) in rows.iter_mut().zip(places) {
        row.index = if row.index == NONE { place } else { row.index };
    }
    Ok(rows)
}

/// `last`, or JSON such as `{"span": "s2"}`, as it is kept.
fn positions_json(words: &str) -> Result<String, StageError> {
    let positions: Result<Positions, _> = serde_json::from_str(words);
    let positions = positions.or_else(|_| serde_json::from_value(words.into()));
    let positions = positions.map_err(|_| {
        StageError::new(format!("`{words}` are no positions; there are `all`, `last`, {{\"span\": \"NAME\"}}, ..."))
    })?;
    Ok(serde_json::to_string(&positions)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::positions_json;

    #[test]
    fn positions_are_words_or_json() {
        assert_eq!(positions_json("last").unwrap(), "\"last\"");
        assert_eq!(positions_json("\"last\"").unwrap(), "\"last\"");
        assert_eq!(positions_json("{\"span\": \"s2\"}").unwrap(), "{\"span\":\"s2\"}");
        assert!(positions_json("lsat").is_err());
    }
}

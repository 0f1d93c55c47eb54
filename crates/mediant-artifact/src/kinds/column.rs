//! Columns of a batch by name and type.

use arrow::array::{Array, ListArray, RecordBatch};
use arrow::datatypes::{DataType, Field};

use crate::error::{Error, Result};

/// The column of this name and array type, without nulls unless `T` is asked for by [`nullable`].
pub(super) fn column<'a, T: Array + 'static>(batch: &'a RecordBatch, name: &str) -> Result<&'a T> {
    let array = nullable::<T>(batch, name)?;
    if array.null_count() == 0 { Ok(array) } else { Err(Error::Invalid(format!("column `{name}` has nulls"))) }
}

/// The column of this name and array type.
pub(super) fn nullable<'a, T: Array + 'static>(batch: &'a RecordBatch, name: &str) -> Result<&'a T> {
    batch
        .column_by_name(name)
        .and_then(|array| array.as_any().downcast_ref())
        .ok_or_else(|| Error::Invalid(format!("no column `{name}` of the type it should have")))
}

/// All items of a column of lists, one list after the other; neither lists nor items are null.
pub(super) fn items<'a, T: Array + 'static>(lists: &'a ListArray, name: &str) -> Result<&'a T> {
    match lists.values().as_any().downcast_ref::<T>() {
        Some(items) if items.null_count() == 0 => Ok(items),
        _ => Err(Error::Invalid(format!("column `{name}` does not hold the items it should"))),
    }
}

/// A required field.
pub(super) fn required(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, false)
}

/// A required list of required items.
pub(super) fn required_list(name: &str, item: DataType) -> Field {
    required(name, DataType::new_list(item, false))
}

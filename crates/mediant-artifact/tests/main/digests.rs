//! Logical digests change when, and only when, kind, meta, schema or a value does.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, FixedSizeBinaryArray, Float32Array, Float64Array, Int32Array, LargeStringArray,
    ListArray, RecordBatch, StringArray, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields, Schema};
use mediant_artifact::{Digest, Kind, table_digest};
use proptest::prelude::*;
use serde_json::json;

use crate::support::{rows, writer};

/// The type of a column, and whether it may hold nulls.
#[derive(Clone, Debug, PartialEq)]
struct Slot(Type, bool);

#[derive(Clone, Debug, PartialEq)]
enum Type {
    Bool,
    Int,
    Float,
    Text,
    LargeText,
    Bytes3,
    List(Box<Slot>),
    Struct(Vec<Slot>),
}

/// A value; floats by their bits, so that equality is what the digest should see.
#[derive(Clone, Debug, PartialEq)]
enum Cell {
    Null,
    Bool(bool),
    Int(i32),
    Float(u32),
    Text(String),
    Bytes3([u8; 3]),
    List(Vec<Self>),
    Struct(Vec<Self>),
}

impl Slot {
    fn field(&self, name: &str) -> Field {
        let data_type = match &self.0 {
            Type::Bool => DataType::Boolean,
            Type::Int => DataType::Int32,
            Type::Float => DataType::Float32,
            Type::Text => DataType::Utf8,
            Type::LargeText => DataType::LargeUtf8,
            Type::Bytes3 => DataType::FixedSizeBinary(3),
            Type::List(item) => DataType::List(Arc::new(item.field("item"))),
            Type::Struct(slots) => DataType::Struct(fields(slots)),
        };
        Field::new(name, data_type, self.1)
    }

    /// An array of these cells. What lies in the slots of nulls is whatever `garbage` says, as it is in real arrays.
    fn array(&self, cells: &[Cell], garbage: u8) -> ArrayRef {
        let nulls = self.1.then(|| NullBuffer::from_iter(cells.iter().map(|cell| *cell != Cell::Null)));
        match &self.0 {
            Type::Bool => {
                let value = |cell: &Cell| matches!(cell, Cell::Bool(true)) || (*cell == Cell::Null && garbage == 1);
                Arc::new(BooleanArray::new(cells.iter().map(value).collect(), nulls))
            }
            Type::Int => {
                let value = |cell: &Cell| if let Cell::Int(value) = cell { *value } else { garbage.into() };
                Arc::new(Int32Array::new(cells.iter().map(value).collect(), nulls))
            }
            Type::Float => {
                let value = |cell: &Cell| if let Cell::Float(bits) = cell { *bits } else { garbage.into() };
                Arc::new(Float32Array::new(cells.iter().map(value).map(f32::from_bits).collect(), nulls))
            }
            Type::Text => Arc::new(cells.iter().map(text).collect::<StringArray>()),
            Type::LargeText => Arc::new(cells.iter().map(text).collect::<LargeStringArray>()),
            Type::Bytes3 => {
                let value = |cell: &Cell| if let Cell::Bytes3(bytes) = cell { *bytes } else { [garbage; 3] };
                let bytes: Vec<u8> = cells.iter().flat_map(value).collect();
                Arc::new(FixedSizeBinaryArray::try_new(3, bytes.into(), nulls).unwrap())
            }
            Type::List(item) => {
                let items = |cell: &Cell| match cell {
                    Cell::List(items) => items.clone(),
                    _ => vec![item.garbage(garbage); garbage.into()],
                };
                let lists: Vec<_> = cells.iter().map(items).collect();
                let offsets = OffsetBuffer::from_lengths(lists.iter().map(Vec::len));
                let values = item.array(&lists.concat(), garbage);
                Arc::new(ListArray::new(Arc::new(item.field("item")), offsets, values, nulls))
            }
            Type::Struct(slots) => {
                let child = |(i, slot): (usize, &Slot)| {
                    let cell = |cell: &Cell| match cell {
                        Cell::Struct(cells) => cells[i].clone(),
                        _ => slot.garbage(garbage),
                    };
                    slot.array(&cells.iter().map(cell).collect::<Vec<_>>(), garbage)
                };
                let children = slots.iter().enumerate().map(child).collect();
                Arc::new(StructArray::new(fields(slots), children, nulls))
            }
        }
    }

    /// Some value of the type, to lie below a null.
    fn garbage(&self, garbage: u8) -> Cell {
        match &self.0 {
            Type::Bool => Cell::Bool(garbage == 1),
            Type::Int => Cell::Int(garbage.into()),
            Type::Float => Cell::Float(garbage.into()),
            Type::Text | Type::LargeText => Cell::Text("x".repeat(garbage.into())),
            Type::Bytes3 => Cell::Bytes3([garbage; 3]),
            Type::List(_) => Cell::List(vec![]),
            Type::Struct(slots) => Cell::Struct(slots.iter().map(|slot| slot.garbage(garbage)).collect()),
        }
    }

    /// Cells from a small set, so that equal ones are common.
    fn cells(&self) -> BoxedStrategy<Cell> {
        let value = match &self.0 {
            Type::Bool => any::<bool>().prop_map(Cell::Bool).boxed(),
            Type::Int => (-1..3).prop_map(Cell::Int).boxed(),
            Type::Float => {
                let bits = [0.0f32.to_bits(), (-0.0f32).to_bits(), f32::NAN.to_bits(), f32::NAN.to_bits() + 1];
                prop::sample::select(bits.to_vec()).prop_map(Cell::Float).boxed()
            }
            Type::Text | Type::LargeText => "[ab]{0,2}".prop_map(Cell::Text).boxed(),
            Type::Bytes3 => prop::array::uniform3(0u8..2).prop_map(Cell::Bytes3).boxed(),
            Type::List(item) => prop::collection::vec(item.cells(), 0..3).prop_map(Cell::List).boxed(),
            Type::Struct(slots) => slots.iter().map(Self::cells).collect::<Vec<_>>().prop_map(Cell::Struct).boxed(),
        };
        if self.1 { prop_oneof![3 => value, 1 => Just(Cell::Null)].boxed() } else { value }
    }
}

fn text(cell: &Cell) -> Option<&str> {
    if let Cell::Text(text) = cell { Some(text) } else { None }
}

fn fields(slots: &[Slot]) -> Fields {
    slots.iter().enumerate().map(|(i, slot)| slot.field(&format!("c{i}"))).collect()
}

fn slots() -> impl Strategy<Value = Slot> {
    let leaf = prop_oneof![
        Just(Type::Bool),
        Just(Type::Int),
        Just(Type::Float),
        Just(Type::Text),
        Just(Type::LargeText),
        Just(Type::Bytes3)
    ];
    let leaf = (leaf, any::<bool>()).prop_map(|(leaf, nullable)| Slot(leaf, nullable));
    leaf.prop_recursive(2, 6, 2, |inner| {
        let nested = prop_oneof![
            inner.clone().prop_map(|item| Type::List(Box::new(item))),
            prop::collection::vec(inner, 1..3).prop_map(Type::Struct)
        ];
        (nested, any::<bool>()).prop_map(|(nested, nullable)| Slot(nested, nullable))
    })
}

/// A table by columns, and a cell to put somewhere in it.
#[derive(Clone, Debug)]
struct Case {
    slots: Vec<Slot>,
    columns: Vec<Vec<Cell>>,
    column: usize,
    row: usize,
    cell: Cell,
}

fn cases() -> impl Strategy<Value = Case> {
    (prop::collection::vec(slots(), 1..4), 1..12usize).prop_flat_map(|(slots, rows)| {
        let columns: Vec<_> = slots.iter().map(|slot| prop::collection::vec(slot.cells(), rows)).collect();
        (0..slots.len(), 0..rows).prop_flat_map(move |(column, row)| {
            let slots = slots.clone();
            (columns.clone(), slots[column].cells()).prop_map(move |(columns, cell)| Case {
                slots: slots.clone(),
                columns,
                column,
                row,
                cell,
            })
        })
    })
}

fn batch(slots: &[Slot], columns: &[Vec<Cell>], garbage: u8) -> RecordBatch {
    let arrays = slots.iter().zip(columns).map(|(slot, cells)| slot.array(cells, garbage)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields(slots))), arrays).unwrap()
}

fn digest(batch: &RecordBatch) -> Digest {
    table_digest(batch.schema().fields(), [Ok(batch.clone())]).unwrap()
}

proptest! {
    #[test]
    fn a_digest_changes_iff_a_value_does(case in cases(), cut in 0..12usize) {
        let Case { slots, mut columns, column, row, cell } = case;
        let table = batch(&slots, &columns, 0);
        let before = digest(&table);
        prop_assert_eq!(digest(&batch(&slots, &columns, 1)), before, "what lies below nulls counts");

        let cut = cut.min(table.num_rows());
        let halves = [Ok(table.slice(0, cut)), Ok(table.slice(cut, table.num_rows() - cut))];
        prop_assert_eq!(table_digest(table.schema().fields(), halves).unwrap(), before, "batches count");

        let same = columns[column][row] == cell;
        columns[column][row] = cell;
        prop_assert_eq!(digest(&batch(&slots, &columns, 0)) == before, same);
    }

    #[test]
    fn a_digest_survives_parquet(case in cases()) {
        let table = batch(&case.slots, &case.columns, 1);
        let (dir, artifact) = writer(Kind::Table);
        let mut rows = artifact.table("rows", table.schema()).unwrap();
        rows.write(&table).unwrap();
        rows.close().unwrap();
        let manifest = artifact.finish(&()).unwrap();
        prop_assert_eq!(manifest.tables["rows"].logical, digest(&table));
        mediant_artifact::Artifact::open(dir.path()).unwrap().verify().unwrap();
    }

    #[test]
    fn schemas_differ_iff_their_digests_do(a in slots(), b in slots()) {
        let of = |slot: &Slot| digest(&RecordBatch::new_empty(Arc::new(Schema::new(vec![slot.field("x")]))));
        prop_assert_eq!(of(&a) == of(&b), a == b);
    }
}

fn one(array: impl Array + 'static, nullable: bool) -> Digest {
    let field = Field::new("x", array.data_type().clone(), nullable);
    digest(&RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::new(array)]).unwrap())
}

#[test]
fn values_are_framed() {
    let texts = |values: &[&str]| one(StringArray::from(values.to_vec()), false);
    assert_ne!(texts(&["ab", "c"]), texts(&["a", "bc"]));
    assert_ne!(texts(&["ab"]), texts(&["ab", ""]));
    let optional = |values: Vec<Option<&str>>| one(StringArray::from(values), true);
    assert_ne!(optional(vec![None]), optional(vec![Some("")]));
    assert_ne!(optional(vec![None, Some("a")]), optional(vec![Some("a"), None]));
    let lists = |values: Vec<Vec<i32>>| {
        let lists = values.into_iter().map(|list| Some(list.into_iter().map(Some)));
        one(ListArray::from_iter_primitive::<arrow::datatypes::Int32Type, _, _>(lists), false)
    };
    assert_ne!(lists(vec![vec![1], vec![2]]), lists(vec![vec![1, 2], vec![]]));
}

#[test]
fn floats_count_by_their_bits() {
    let number = |value: f64| one(Float64Array::from(vec![value]), false);
    let nan = |payload: u64| number(f64::from_bits(0x7ff8_0000_0000_0000 | payload));
    let all = [number(0.0), number(-0.0), nan(0), nan(1), number(f64::INFINITY), number(f64::MIN_POSITIVE / 2.0)];
    for (i, a) in all.iter().enumerate() {
        assert!(all[i + 1..].iter().all(|b| a != b));
    }
}

#[test]
fn names_types_and_metadata_of_columns_count() {
    let ints = || Arc::new(Int32Array::from(vec![1, 2]));
    let of = |fields: Vec<Field>| {
        let columns = fields.iter().map(|_| ints() as ArrayRef).collect();
        digest(&RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap())
    };
    let x = || Field::new("x", DataType::Int32, false);
    let plain = of(vec![x()]);
    assert_ne!(plain, of(vec![x().with_name("y")]));
    assert_ne!(plain, of(vec![x().with_nullable(true)]));
    assert_ne!(plain, of(vec![x().with_metadata([("unit".to_owned(), "nats".to_owned())])]));
    assert_ne!(of(vec![x(), x().with_name("y")]), of(vec![x().with_name("y"), x()]));
    // A name that reads like two columns.
    assert_ne!(of(vec![x(), x().with_name("y")]), of(vec![x().with_name("x: int32 not null, y")]));
}

#[test]
fn kind_and_meta_count_and_the_order_of_keys_does_not() {
    let of = |kind, meta: serde_json::Value| writer(kind).1.finish(&meta).unwrap().logical;
    let base = of(Kind::Table, json!({ "a": 1, "b": [1, 2] }));
    assert_eq!(base, of(Kind::Table, json!({ "b": [1, 2], "a": 1 })));
    let others = [
        of(Kind::Metrics, json!({ "a": 1, "b": [1, 2] })),
        of(Kind::Table, json!({ "a": 1.0, "b": [1, 2] })),
        of(Kind::Table, json!({ "a": "1", "b": [1, 2] })),
        of(Kind::Table, json!({ "a": 1, "b": [2, 1] })),
        of(Kind::Table, json!({ "a": 1, "b": [[1], 2] })),
        of(Kind::Table, json!({ "a": 1, "b": [1, 2], "c": null })),
        of(Kind::Table, json!({ "a": -1, "b": [1, 2] })),
    ];
    assert!(others.iter().all(|other| *other != base));
}

/// Keys rest on these digests: whoever changes what they cover invalidates every cache, which this test makes a decision.
#[test]
fn the_digest_of_known_rows_is_what_it_was() {
    assert_eq!(
        digest(&rows(0, 70_000)).to_string(),
        "5ffffb8e231753c1d3814f9f63fb9df6ca58242a1eedc3740bad33ffb9b62d46"
    );
}

//! `table`: rows written in the pipeline, and tables put together.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use indexmap::IndexMap;
use mediant_artifact::{Facts, Kind, TableFacts, TableMeta, write_table};
use mediant_engine::{Docs, InputFacts, Output, Port, Ports, Problems, RunContext, SourcePaths, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct Table;

/// Options of `table`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Rows: each a mapping of column to value. All values of a column are of one type; a column may be absent in some rows.
    #[serde(default)]
    rows: Vec<IndexMap<String, Cell>>,
    /// Only so many rows, the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    /// What the table is, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    title: String,
}

/// One value of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Cell {
    Null,
    Bool(bool),
    Integer(i64),
    Number(f64),
    Text(String),
}

const TABLES: &[Port] = &[Port::any(
    "tables",
    &[Kind::Table],
    "Tables whose rows come after those of `rows`, in this order. All must have the same columns.",
)];

impl Stage for Table {
    type Config = Config;
    const NAME: &'static str = "table";
    const VERSION: u32 = 1;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Rows written in the pipeline, and tables put one below the other",
            details: "Columns are in the order in which the rows first name them. A column holds booleans, integers, numbers or text; \
                      integers beside numbers become numbers; a value that is absent or null is null.",
            example: "prompts:\n  uses: table\n  with:\n    rows:\n      - { prompt: \"The capital of France is\", answer: \" Paris\" }\n      - { prompt: \"The capital of Italy is\", answer: \" Rome\" }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(TABLES)
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![Output::new("table", Kind::Table, "The rows.")]
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        columns(&config.rows).map(|_| ()).map_err(|(row, column, found)| {
            Problems::config(
                format!("rows[{row}].{column}"),
                format!("column `{column}` holds {found} here and another type above"),
            )
        })
    }

    fn infer(&self, config: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let own = columns(&config.rows).map_err(|_| Problems::config("rows", "columns of mixed types"))?;
        let own: Vec<String> = own.into_iter().map(|(name, _)| name).collect();
        let tables = inputs.many("tables");
        if own.is_empty() && tables.is_empty() {
            return Err(Problems::config("rows", "there are no rows, and no `tables` are connected"));
        }
        let mut names = (!own.is_empty()).then_some(own);
        for member in tables {
            let Some(columns) = member.facts.table().and_then(|table| table.columns.clone()) else { continue };
            match &names {
                None => names = Some(columns),
                Some(known) if *known != columns => {
                    return Err(Problems::input(
                        "tables",
                        format!("columns differ: {} and {}", known.join(", "), columns.join(", ")),
                    ));
                }
                Some(_) => {}
            }
        }
        Ok(vec![("table".to_owned(), Facts::Table(TableFacts { columns: names }))])
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let mut batches: Vec<RecordBatch> = Vec::new();
        let mut left = config.limit.unwrap_or(u64::MAX);
        let mut take = |batch: RecordBatch| {
            let rows = left.min(batch.num_rows() as u64);
            left -= rows;
            // At most the batch's own number of rows, which is a usize.
            batches.push(batch.slice(0, rows as usize));
            left > 0
        };
        let mut more = config.rows.is_empty() || take(batch(&config.rows)?);
        for member in cx.members("tables")? {
            if !more {
                break;
            }
            for batch in member.artifact.batches("rows")? {
                more = take(batch?);
                if !more {
                    break;
                }
            }
        }
        let schema: SchemaRef = batches.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
        let meta = TableMeta { title: config.title.clone(), description: String::new() };
        write_table(cx.output("table")?, schema, batches.into_iter().map(Ok), &meta)?;
        Ok(())
    }
}

/// A cell whose type is not that of its column: the row, the column and what was found there.
type Mixed = (usize, String, &'static str);

/// Name and type of every column.
fn columns(rows: &[IndexMap<String, Cell>]) -> Result<Vec<(String, DataType)>, Mixed> {
    let mut columns: IndexMap<&str, Option<DataType>> = IndexMap::new();
    for (index, row) in rows.iter().enumerate() {
        for (name, cell) in row {
            let known = columns.entry(name).or_default();
            *known = match (known.take(), cell.data_type()) {
                (old, None) => old,
                (None, new) => new,
                (Some(DataType::Int64), Some(DataType::Float64)) | (Some(DataType::Float64), Some(DataType::Int64)) => {
                    Some(DataType::Float64)
                }
                (Some(old), Some(new)) if old == new => Some(old),
                _ => return Err((index, name.clone(), cell.describe())),
            };
        }
    }
    // A column of nulls alone is text: there is nothing to tell otherwise.
    Ok(columns.into_iter().map(|(name, known)| (name.to_owned(), known.unwrap_or(DataType::Utf8))).collect())
}

pub(crate) fn batch(rows: &[IndexMap<String, Cell>]) -> Result<RecordBatch, StageError> {
    let columns = columns(rows)
        .map_err(|(row, column, _)| StageError::new(format!("row {row}: column `{column}` is of mixed types")))?;
    let fields: Vec<Field> =
        columns.iter().map(|(name, data_type)| Field::new(name, data_type.clone(), true)).collect();
    let arrays = columns.iter().map(|(name, data_type)| array(rows, name, data_type)).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}

fn array(rows: &[IndexMap<String, Cell>], name: &str, data_type: &DataType) -> ArrayRef {
    let cells = rows.iter().map(|row| row.get(name));
    match data_type {
        DataType::Boolean => Arc::new(
            cells
                .map(|cell| if let Some(Cell::Bool(value)) = cell { Some(*value) } else { None })
                .collect::<BooleanArray>(),
        ),
        DataType::Int64 => Arc::new(
            cells
                .map(|cell| if let Some(Cell::Integer(value)) = cell { Some(*value) } else { None })
                .collect::<Int64Array>(),
        ),
        DataType::Float64 => Arc::new(cells.map(|cell| cell.and_then(Cell::number)).collect::<Float64Array>()),
        _ => Arc::new(
            cells
                .map(|cell| if let Some(Cell::Text(value)) = cell { Some(value.as_str()) } else { None })
                .collect::<StringArray>(),
        ),
    }
}

impl Cell {
    fn data_type(&self) -> Option<DataType> {
        match self {
            Self::Null => None,
            Self::Bool(_) => Some(DataType::Boolean),
            Self::Integer(_) => Some(DataType::Int64),
            Self::Number(_) => Some(DataType::Float64),
            Self::Text(_) => Some(DataType::Utf8),
        }
    }

    fn describe(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Integer(_) => "an integer",
            Self::Number(_) => "a number",
            Self::Text(_) => "text",
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Self::Integer(value) => Some(*value as f64),
            Self::Number(value) => Some(*value),
            _ => None,
        }
    }
}

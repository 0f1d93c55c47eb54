//! The `directions` kind: table `directions`, the vectors of a subspace one after the other.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float32Array, Float64Array, ListArray, RecordBatch, StringArray, UInt32Array};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use super::column::{column, items, required, required_list};
use super::effects::check_passes;
use super::mediator::BATCH;
use crate::{Artifact, ArtifactWriter, Digest, Error, Kind, Manifest, Result};

pub(crate) const DIRECTIONS: &str = "directions";

/// How far from 1 the length of a vector may be, and from 0 the product of two of a subspace.
const TOLERANCE: f64 = 1e-4;

/// What is known of directions besides their values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectionsMeta {
    /// How they were found: `difference_of_means`, `pca`, `probe`, `das`, `user`, ...
    pub method: String,
    /// Whether the first r vectors of a subspace are its subspace of rank r, as for PCA; else every rank has a basis of its
    /// own, as for DAS.
    pub nested: bool,
    /// What stands in the column `value`, where anything does: `eigenvalue`, ...
    pub value: Option<String>,
    /// Logical digest of the model, where it is known.
    pub model: Option<Digest>,
    /// Logical digest of the prompts, where there are any.
    pub prompts: Option<Digest>,
    /// Name of the counterfactual of the prompts that took part.
    pub counterfactual: Option<String>,
    /// Seed of what was drawn.
    pub seed: Option<u64>,
    /// Settings that a reader needs: sign, loss, steps, ...
    pub settings: BTreeMap<String, String>,
    /// Forward-pass equivalents over the examples that all this took.
    pub passes: f64,
    /// Number of vectors.
    pub directions: u64,
}

/// A vector of a subspace's orthonormal basis.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DirectionRow {
    /// The hook point.
    pub hook: String,
    /// The positions, as pipelines write them, in JSON: `"all"`, `"last"`, `{"span":"s2"}`, ...
    pub positions: String,
    /// Number of vectors of the subspace.
    pub rank: u32,
    /// Place in it, from 0.
    pub index: u32,
    /// What the meta says.
    pub value: Option<f64>,
    /// The vector, of length 1; where there are heads, one beside the other.
    pub vector: Vec<f32>,
}

impl DirectionRow {
    fn subspace(&self) -> (&str, &str, u32) {
        (&self.hook, &self.positions, self.rank)
    }
}

/// The subspaces, in the order of writing: rows of one hook point, positions and rank.
pub fn subspaces(rows: &[DirectionRow]) -> impl Iterator<Item = &[DirectionRow]> {
    rows.chunk_by(|a, b| a.subspace() == b.subspace())
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        required("hook", DataType::Utf8),
        required("positions", DataType::Utf8),
        required("rank", DataType::UInt32),
        required("index", DataType::UInt32),
        Field::new("value", DataType::Float64, true),
        required_list("vector", DataType::Float32),
    ]))
}

/// Writes directions. The count in `meta` is set to what is written.
///
/// # Errors
/// If the writer is not of kind [`Kind::Directions`], a subspace has not as many vectors as its rank, one after the other, a
/// vector is not of length 1 or not orthogonal to the others of its subspace, two vectors of a hook point have different
/// widths, a nested subspace occurs in two ranks, `passes` is no number, or writing fails.
pub fn write_directions(artifact: ArtifactWriter, meta: DirectionsMeta, rows: &[DirectionRow]) -> Result<Manifest> {
    artifact.expect(Kind::Directions)?;
    let meta = DirectionsMeta { directions: rows.len() as u64, ..meta };
    check(&meta, rows).map_err(Error::Invalid)?;
    let mut table = artifact.table(DIRECTIONS, schema())?;
    for rows in rows.chunks(BATCH) {
        let text = |of: fn(&DirectionRow) -> &String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(rows.iter().map(of)))
        };
        let count =
            |of: fn(&DirectionRow) -> u32| -> ArrayRef { Arc::new(UInt32Array::from_iter_values(rows.iter().map(of))) };
        let numbers: Vec<f32> = rows.iter().flat_map(|row| &row.vector).copied().collect();
        let vectors = ListArray::try_new(
            Arc::new(Field::new_list_field(DataType::Float32, false)),
            OffsetBuffer::from_lengths(rows.iter().map(|row| row.vector.len())),
            Arc::new(Float32Array::from(numbers)),
            None,
        )?;
        let columns = vec![
            text(|row| &row.hook),
            text(|row| &row.positions),
            count(|row| row.rank),
            count(|row| row.index),
            Arc::new(rows.iter().map(|row| row.value).collect::<Float64Array>()) as ArrayRef,
            Arc::new(vectors),
        ];
        table.write(&RecordBatch::try_new(schema(), columns)?)?;
    }
    table.close()?;
    artifact.finish(&meta)
}

/// Reads directions, in the order of writing.
///
/// # Errors
/// If the artifact is of another kind, damaged, or holds what [`write_directions`] would refuse.
pub fn read_directions(artifact: &Artifact) -> Result<(DirectionsMeta, Vec<DirectionRow>)> {
    artifact.expect(Kind::Directions)?;
    let meta: DirectionsMeta = artifact.meta()?;
    let mut rows = Vec::new();
    for batch in artifact.batches(DIRECTIONS)? {
        let batch = batch?;
        let (hook, positions) = (column::<StringArray>(&batch, "hook")?, column::<StringArray>(&batch, "positions")?);
        let (rank, index) = (column::<UInt32Array>(&batch, "rank")?, column::<UInt32Array>(&batch, "index")?);
        let value = super::column::nullable::<Float64Array>(&batch, "value")?;
        let vectors = column::<ListArray>(&batch, "vector")?;
        let (numbers, offsets) = (items::<Float32Array>(vectors, "vector")?.values(), vectors.value_offsets());
        rows.extend((0..batch.num_rows()).map(|i| DirectionRow {
            hook: hook.value(i).to_owned(),
            positions: positions.value(i).to_owned(),
            rank: rank.value(i),
            index: index.value(i),
            value: value.is_valid(i).then(|| value.value(i)),
            vector: numbers[offsets[i] as usize..offsets[i + 1] as usize].to_vec(),
        }));
    }
    check(&meta, &rows).map_err(|why| Error::damaged(artifact.dir(), why))?;
    Ok((meta, rows))
}

fn check(meta: &DirectionsMeta, rows: &[DirectionRow]) -> Result<(), String> {
    check_passes(meta.passes)?;
    if meta.directions != rows.len() as u64 {
        return Err(format!("there are {} directions, not {} as announced", rows.len(), meta.directions));
    }
    let mut widths: BTreeMap<&str, usize> = BTreeMap::new();
    let mut seen = HashSet::new();
    for subspace in subspaces(rows) {
        let [first, ..] = subspace else { continue };
        let DirectionRow { hook, positions, rank, .. } = first;
        let name = format!("the subspace of rank {rank} of `{hook}` at {positions}");
        let places = subspace.iter().map(|row| row.index);
        if subspace.len() != *rank as usize || !places.eq(0..*rank) {
            return Err(format!("{name} has {} vectors, or not in order", subspace.len()));
        }
        // A subspace that holds those of lower ranks stands alone.
        if !seen.insert((hook, positions, if meta.nested { 0 } else { *rank })) {
            return Err(format!("{name} is there twice"));
        }
        let width = *widths.entry(hook).or_insert(first.vector.len());
        if hook.is_empty() || width == 0 || subspace.iter().any(|row| row.vector.len() != width) {
            return Err(format!("{name} has vectors of another width than the {width} of its hook point"));
        }
        check_orthonormal(subspace).map_err(|why| format!("{name}: {why}"))?;
    }
    Ok(())
}

fn check_orthonormal(subspace: &[DirectionRow]) -> Result<(), String> {
    for (i, row) in subspace.iter().enumerate() {
        let length = dot(&row.vector, &row.vector).sqrt();
        if length.is_nan() || (length - 1.0).abs() > TOLERANCE {
            return Err(format!("vector {i} has length {length}, not 1"));
        }
        for (j, other) in subspace[..i].iter().enumerate() {
            let product = dot(&row.vector, &other.vector);
            if product.abs() > TOLERANCE {
                return Err(format!("vectors {j} and {i} are not orthogonal: their product is {product:.2e}"));
            }
        }
    }
    Ok(())
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

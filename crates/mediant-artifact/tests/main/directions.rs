//! Directions: what is written comes back, and what is no orthonormal basis does not.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Float64Array, RecordBatch, UInt32Array};
use mediant_artifact::{
    Artifact, Digest, DirectionRow, DirectionsMeta, Error, Kind, read_directions, subspaces, write_directions,
};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{forge, forge_meta, with_column, writer};

fn meta() -> DirectionsMeta {
    DirectionsMeta {
        method: "das".to_owned(),
        nested: false,
        value: Some("accuracy".to_owned()),
        model: Some(Digest::of(b"model")),
        prompts: None,
        counterfactual: Some("abc".to_owned()),
        seed: Some(u64::MAX),
        settings: BTreeMap::from([("lr".to_owned(), "0.01".to_owned())]),
        passes: 2.5,
        directions: 0,
    }
}

/// Two subspaces at a hook point of three numbers, one at another of two.
fn rows() -> Vec<DirectionRow> {
    let row = |hook: &str, positions: &str, rank, index, vector: &[f32]| DirectionRow {
        hook: hook.to_owned(),
        positions: positions.to_owned(),
        rank,
        index,
        value: (index == 0).then_some(0.5),
        vector: vector.to_vec(),
    };
    let (post, mid) = ("blocks.0.hook_resid_post", "blocks.1.mlp.hook_post");
    vec![
        row(post, "\"last\"", 2, 0, &[1.0, 0.0, 0.0]),
        row(post, "\"last\"", 2, 1, &[0.0, 0.6, 0.8]),
        row(post, "\"last\"", 1, 0, &[0.0, 0.6, 0.8]),
        row(mid, "{\"span\":\"s2\"}", 1, 0, &[-0.8, 0.6]),
    ]
}

fn written(meta: DirectionsMeta, rows: &[DirectionRow]) -> Result<(TempDir, Artifact), Error> {
    let (dir, artifact) = writer(Kind::Directions);
    write_directions(artifact, meta, rows)?;
    let artifact = Artifact::open(dir.path())?;
    artifact.verify()?;
    Ok((dir, artifact))
}

#[test]
fn directions_come_back() {
    let (_dir, artifact) = written(meta(), &rows()).unwrap();
    let (read, found) = read_directions(&artifact).unwrap();
    assert_eq!(read, DirectionsMeta { directions: 4, ..meta() });
    assert_eq!(found, rows());
    assert_eq!(subspaces(&found).map(<[_]>::len).collect::<Vec<_>>(), [2, 1, 1]);
}

#[test]
fn what_is_no_basis_is_neither_written_nor_read() {
    let refused = |change: fn(&mut Vec<DirectionRow>)| {
        let mut rows = rows();
        change(&mut rows);
        written(meta(), &rows).is_err()
    };
    assert!(refused(|rows| rows[1].vector = vec![0.0, 0.0, 0.0]));
    assert!(refused(|rows| rows[1].vector = vec![0.8, 0.6, 0.0]));
    assert!(refused(|rows| rows[1].vector = vec![0.0, f32::NAN, 0.0]));
    assert!(refused(|rows| rows[2].vector = vec![0.8, 0.6]));
    assert!(refused(|rows| rows[3].vector = Vec::new()));
    assert!(refused(|rows| rows[1].index = 0));
    assert!(refused(|rows| drop(rows.remove(1))));
    assert!(refused(|rows| rows.push(rows[2].clone())));
    assert!(written(DirectionsMeta { passes: f64::NAN, ..meta() }, &rows()).is_err());
    // Two ranks of one place, the smaller of which the larger holds already.
    assert!(written(DirectionsMeta { nested: true, ..meta() }, &rows()).is_err());
    assert!(written(DirectionsMeta { nested: true, ..meta() }, &[rows()[2].clone(), rows()[3].clone()]).is_ok());

    let (_dir, good) = written(meta(), &rows()).unwrap();
    let ranks = |rows: RecordBatch| with_column(&rows, "rank", Arc::new(UInt32Array::from(vec![2, 2, 2, 1])));
    for change in [&ranks as &dyn Fn(RecordBatch) -> RecordBatch, &|rows| rows.slice(1, 3)] {
        let (_dir, forged) = forge(&good, "directions", change);
        assert!(matches!(read_directions(&forged), Err(Error::Damaged { .. })));
    }
    let values = |rows: RecordBatch| with_column(&rows, "value", Arc::new(Float64Array::from(vec![None; 4])));
    let (_dir, without) = forge(&good, "directions", values);
    assert!(read_directions(&without).unwrap().1.iter().all(|row| row.value.is_none()));
    for (field, value) in [("directions", json!(5)), ("nested", json!("yes")), ("method", json!(3))] {
        let (_dir, forged) = forge_meta(&good, field, value.clone());
        assert!(read_directions(&forged).is_err(), "{field}: {value}");
    }
}

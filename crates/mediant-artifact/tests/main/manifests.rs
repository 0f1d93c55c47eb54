//! Manifests of somebody else's making.

use mediant_artifact::{Artifact, Manifest};
use serde_json::{Value, json};

use crate::support::write_rows;

fn changed(change: impl FnOnce(&mut Value)) -> Result<Manifest, String> {
    let dir = tempfile::tempdir().unwrap();
    write_rows(dir.path(), 10, 10, 1 << 16);
    let path = dir.path().join("manifest.json");
    let mut json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut json);
    std::fs::write(&path, json.to_string()).unwrap();
    let error = |error: mediant_artifact::Error| error.to_string().replace(dir.path().to_str().unwrap(), "DIR");
    Artifact::open(dir.path()).map(|artifact| artifact.manifest().clone()).map_err(error)
}

#[test]
fn files_outside_the_folder_are_refused() {
    for name in
        ["../x.parquet", "/etc/x.parquet", "a/b.parquet", "..", ".x.parquet", "manifest.json", "x\0.parquet", ""]
    {
        let error = changed(|json| json["tables"]["rows"]["parts"][0]["file"] = json!(name)).unwrap_err();
        assert!(error.starts_with("DIR/manifest.json: table `rows`: "), "{error}");
        assert!(error.ends_with("is not the name of a part"), "{error}");
    }
}

#[test]
fn what_is_not_understood_is_refused() {
    assert!(changed(|_| ()).is_ok());
    let error = changed(|json| json["format"] = json!(2)).unwrap_err();
    assert_eq!(error, "DIR/manifest.json: format 2; this program reads format 1");
    let error = changed(|json| json["extra"] = json!(2)).unwrap_err();
    assert!(error.contains("unknown field `extra`"), "{error}");
    let error = changed(|json| json["kind"] = json!("modle")).unwrap_err();
    assert!(error.contains("unknown variant `modle`"), "{error}");
    let error = changed(|json| json["tables"]["rows"]["rows"] = json!(11)).unwrap_err();
    assert!(error.contains("11 rows, its parts have 10"), "{error}");
    assert!(changed(|json| json["logical"] = json!("xyz")).unwrap_err().contains("64 lower-case hexadecimal digits"));
    assert!(changed(|json| *json = json!([])).is_err());
    assert!(Manifest::from_json(b"").is_err());
    assert!(Manifest::from_json(&b"[".repeat(100_000)).is_err());
}

#[test]
fn a_manifest_reads_back_as_written() {
    let dir = tempfile::tempdir().unwrap();
    let written = write_rows(dir.path(), 10, 10, 1 << 16);
    let bytes = std::fs::read(dir.path().join("manifest.json")).unwrap();
    let read = Manifest::from_json(&bytes).unwrap();
    assert_eq!(read, written);
    assert_eq!(read.to_json().unwrap(), bytes);
}

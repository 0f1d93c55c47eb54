//! SQL over artifacts.

use insta::assert_snapshot;
use mediant_artifact::{Artifact, Kind};
use mediant_report::{Database, Error, Source, Terminal, TextTable, main_table};

use super::artifacts::{self, Made, files, metric};

/// Every table of an artifact.
fn sources(name: &str, axes: &[(&str, &str)], artifact: &Artifact) -> Vec<Source> {
    let manifest = artifact.manifest();
    let source = |(table, entry): (&String, &mediant_artifact::TableEntry)| Source {
        name: name.to_string(),
        axes: axes.iter().map(|(axis, label)| ((*axis).to_string(), (*label).to_string())).collect(),
        table: table.clone(),
        main: table == main_table(manifest.kind),
        vectors: entry.vectors.clone(),
        files: files(artifact, table),
    };
    manifest.tables.iter().map(source).collect()
}

/// Two SAEs of two seeds each, activations, a table and tokens; the folders live as long as the second value.
fn database() -> (Database, Vec<Made>) {
    let mut all = Vec::new();
    let mut made = Vec::new();
    let mut add = |name: &str, axes: &[(&str, &str)], artifact: Made| {
        all.extend(sources(name, axes, &artifact.artifact));
        made.push(artifact);
    };
    for (i, (sae, seed)) in [("topk16", "0"), ("topk16", "1"), ("relu", "0"), ("relu", "1")].into_iter().enumerate() {
        let axes = [("name", sae), ("seed", seed)];
        add("sae", &axes, artifacts::dictionary());
        #[expect(clippy::cast_precision_loss, reason = "below four")]
        let value = 0.9 + 0.01 * i as f64;
        add("eval", &axes, artifacts::metrics(&[metric("ev_mc", value), metric("l0", 16.0)]));
    }
    add("acts", &[], artifacts::activations());
    add("compare", &[], artifacts::table());
    add("tokens", &[], artifacts::tokens());
    add("tokens.test", &[], artifacts::tokens());
    (Database::new(all), made)
}

fn run(sql: &str) -> TextTable {
    let (database, _made) = database();
    database.query(sql).unwrap().table(None).unwrap()
}

fn shown(sql: &str) -> String {
    run(sql).to_terminal(Terminal::PLAIN)
}

fn error(sql: &str) -> Error {
    let (database, _made) = database();
    match database.query(sql) {
        Ok(query) => query.table(None).unwrap_err(),
        Err(error) => error,
    }
}

#[test]
fn a_matrix_is_one_table_with_its_axes() {
    assert_snapshot!(
        "query_union",
        shown("SELECT axis_name, axis_seed, name, value, n FROM eval WHERE name = 'ev_mc' ORDER BY value DESC")
    );
    assert_snapshot!(
        "query_group",
        shown(
            "SELECT axis_name AS sae, AVG(value) AS mean, COUNT(*) AS seeds FROM eval WHERE name = 'ev_mc' AND axis_seed < 2 GROUP BY axis_name ORDER BY sae"
        )
    );
}

#[test]
fn instances_and_tables_are_selected_by_name() {
    let curve =
        shown("SELECT name, seed, step, value FROM \"sae[name=topk16,seed=1].curve\" WHERE axis_name = 'topk16'");
    assert!(curve.contains("step"), "{curve}");
    assert_eq!(run("SELECT * FROM \"eval[seed=0]\"").len(), 4);
    assert_eq!(run("SELECT * FROM \"eval[seed=0,name=relu]\"").len(), 2);
    // polars by itself would read `sae` and not its table `curve`.
    assert_eq!(run("SELECT DISTINCT step FROM sae.curve").len(), 3);
    assert_eq!(
        run("SELECT c.step FROM sae.curve AS c JOIN sae.curve d ON c.step = d.step WHERE c.name = 'mse'").len(),
        3 * 4 * 8
    );
    assert_eq!(run("WITH best AS (SELECT * FROM eval WHERE value > 0.92) SELECT * FROM best").len(), 5);
    assert_eq!(run("SELECT * FROM tokens.test").len(), 3);
    assert_eq!(run("SELECT * FROM tokens.sequences").len(), 3);
}

#[test]
fn vectors_are_described() {
    assert_snapshot!("query_vectors", shown("SELECT * FROM \"acts.blocks.0.attn.hook_z\" LIMIT 2"));
    assert_snapshot!("query_lists", shown("SELECT ids, mask FROM tokens"));
}

#[test]
fn wrong_queries_say_what_there_is() {
    assert_snapshot!("query_no_table", error("SELECT * FROM evl"));
    assert_snapshot!("query_no_instance", error("SELECT * FROM \"eval[seed=7]\""));
    assert_snapshot!("query_no_column", error("SELECT valeu FROM eval"));
    assert_snapshot!("query_syntax", error("SELEC * FROM eval"));
    assert_snapshot!("query_brackets", error("SELECT * FROM sae[seed=0].curve"));
    assert_snapshot!("query_not_a_query", error("DROP TABLE eval"));
    assert_snapshot!("query_two", error("SELECT 1; SELECT 2"));
}

#[test]
fn long_results_are_cut_with_a_note() {
    let (database, _made) = database();
    let cut = database.query("SELECT * FROM eval").unwrap().table(Some(3)).unwrap();
    assert_eq!(cut.len(), 3);
    assert!(cut.to_terminal(Terminal::PLAIN).contains("the first 3 rows; there are more"));
    let whole = database.query("SELECT * FROM eval").unwrap().table(Some(8)).unwrap();
    assert!(!whole.to_terminal(Terminal::PLAIN).contains("there are more"));
}

#[test]
fn results_go_to_a_parquet_file() {
    let (database, _made) = database();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("result.parquet");
    std::fs::write(&path, "older").unwrap();
    let sql = "SELECT axis_name, name, value FROM eval ORDER BY axis_name, value";
    database.query(sql).unwrap().write_parquet(&path).unwrap();
    let again = Database::new([Source {
        name: "result".to_string(),
        table: "rows".to_string(),
        main: true,
        files: vec![path],
        ..Source::default()
    }]);
    let read = again.query("SELECT * FROM result").unwrap().table(None).unwrap();
    assert_eq!(read.to_json(), database.query(sql).unwrap().table(None).unwrap().to_json());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
}

#[test]
fn damaged_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.parquet");
    std::fs::write(&path, b"PAR1 this is no Parquet file PAR1").unwrap();
    let source =
        Source { name: "x".to_string(), table: "rows".to_string(), main: true, files: vec![path], ..Source::default() };
    assert!(Database::new([source]).query("SELECT * FROM x").is_err());
}

#[test]
fn every_kind_has_its_main_table() {
    let made = artifacts::all();
    for kind in Kind::ALL {
        let made = made.iter().find(|made| made.artifact.kind() == kind).unwrap();
        assert!(made.artifact.table(main_table(kind)).is_ok(), "{kind}");
    }
    let (database, _made) = database();
    let names: Vec<&str> = database.names().map(|(name, _)| name).collect();
    assert!(names.contains(&"sae") && names.contains(&"sae.curve"), "{names:?}");
}

#[test]
fn effects_join_their_mediators_and_examples() {
    let made = artifacts::effects();
    let database = Database::new(sources("patch", &[], &made.artifact));
    let sql = "SELECT m.name, e.example, x.task, e.patched FROM patch AS e \
        JOIN patch.mediators AS m ON e.mediator = m.mediator JOIN patch.examples AS x ON e.example = x.example \
        WHERE m.layer = 1 ORDER BY e.example, m.name LIMIT 3";
    let table = database.query(sql).unwrap().table(None).unwrap();
    assert_snapshot!("query_effects", table.to_terminal(Terminal::PLAIN));
}

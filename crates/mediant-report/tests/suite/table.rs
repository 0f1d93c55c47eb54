//! One table in every rendering.

use insta::assert_snapshot;
use mediant_report::{Cell, Terminal, TextTable};

fn table() -> TextTable {
    let mut table = TextTable::new(["metric", "value", "unit", "n", "interval", "size", "note"]);
    table.push([
        Cell::text("ev_mc"),
        Cell::Float(0.931_249),
        Cell::Empty,
        Cell::Count(65_536),
        Cell::Interval(0.92, 0.941_23),
        Cell::Bytes(1536),
        Cell::text("a long remark that says more than a narrow terminal can hold"),
    ]);
    table.push([
        Cell::text("ce_recovered"),
        Cell::Float(12.5),
        Cell::text("nats"),
        Cell::Count(12),
        Cell::Empty,
        Cell::Bytes(3_200_000_000),
        Cell::text("two\nlines | a bar, \"quotes\" <b>"),
    ]);
    table.push([Cell::text("漢字"), Cell::Float(f64::NAN), Cell::Empty, Cell::Count(0), Cell::Empty, Cell::Bytes(3)]);
    table.note("… 93 more rows");
    table
}

#[test]
fn every_rendering() {
    assert_snapshot!("table_terminal", table().to_terminal(Terminal::PLAIN));
    assert_snapshot!("table_markdown", table().to_markdown());
    assert_snapshot!("table_json", serde_json::to_string_pretty(&table().to_json()).unwrap());
    assert_snapshot!("table_csv", table().to_csv());
}

#[test]
fn narrow_terminals() {
    // Text shrinks first, then columns are left out from the right; no line is wider than the terminal.
    for columns in [100, 80, 60, 40, 20] {
        let narrow = table().to_terminal(Terminal { width: Some(columns), color: false });
        assert_snapshot!(format!("table_{columns}_columns"), narrow);
    }
}

#[test]
fn colour_only_on_demand() {
    let coloured = table().to_terminal(Terminal { width: None, color: true });
    assert!(coloured.contains("\u{1b}[1m"));
    assert!(!table().to_terminal(Terminal::PLAIN).contains('\u{1b}'));
}

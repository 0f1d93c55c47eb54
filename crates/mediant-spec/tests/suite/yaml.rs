//! The YAML dialect.

use insta::assert_snapshot;

use super::support::{expanded, flow};

fn options(with: &str) -> String {
    flow(&expanded(&format!("mediant: 1\nstages:\n  s:\n    uses: command\n    with:\n{with}\n")).instances[0].with)
}

#[test]
fn scalars_of_the_core_schema() {
    assert_snapshot!(options("
      a: [null, ~, '', Null, nULL]
      b: [true, False, TRUE, tRUE, yes, no, on, off, y]
      c: [0, -0, +1, 007, 0x1F, 0o17, 0b1, 1_000, 9223372036854775807, 9223372036854775808, -9223372036854775808]
      d: [1.5, -0.0, 1e3, 1E-3, .5, 5., +1.5e+2, .inf, -.INF, .nan, 1e, e3, ., 1.2.3, -.5, '-', --1, 12:30, 2024-01-02]
      e: [\"0\", '1.5', \"a\\tb\\u00e9\"]
      f: |
        two
        lines
      g: >-
        folded
        text
      h:
      1: one
      true: yes
      ü: é"), @r#"{"a": [null, null, "", null, "nULL"], "b": [true, false, true, "tRUE", "yes", "no", "on", "off", "y"], "c": [0, 0, 1, 7, 31, 15, "0b1", "1_000", 9223372036854775807, 9223372036854775808, -9223372036854775808], "d": [1.5, -0.0, 1000.0, 0.001, 0.5, 5.0, 150.0, .inf, -.inf, .nan, "1e", "e3", ".", "1.2.3", -0.5, "-", "--1", "12:30", "2024-01-02"], "e": ["0", "1.5", "a\U00000009bé"], "f": "two\U0000000alines\U0000000a", "g": "folded text", "h": null, "1": "one", "true": "yes", "ü": "é"}"#);
}

#[test]
fn aliases_and_merges() {
    assert_snapshot!(options("
      base: &base { lr: 1, k: 2 }
      other: &other { z: 9, lr: 8 }
      one: { <<: *base, k: 3 }
      two: { k: 4, <<: [*base, *other] }
      copy: *base
      text: { '<<': 1 }"), @r#"{"base": {"lr": 1, "k": 2}, "other": {"z": 9, "lr": 8}, "one": {"k": 3, "lr": 1}, "two": {"k": 4, "lr": 1, "z": 9}, "copy": {"lr": 1, "k": 2}, "text": {"<<": 1}}"#);
}

#[test]
fn a_mark_at_the_start_and_windows_line_ends() {
    let text = "\u{feff}mediant: 1\r\nstages:\r\n  s:\r\n    uses: command\r\n    with: { a: b }\r\n";
    assert_eq!(flow(&expanded(text).instances[0].with), "{\"a\": \"b\"}");
}

//! Files that are no YAML, or YAML that pipelines do not use.

use insta::assert_snapshot;

use super::support::wrong;

#[test]
fn yaml_errors() {
    assert_snapshot!(wrong(""), @r"
    error[type]: a pipeline is a mapping, and this is nothing
     --> lab/p.yaml:1:1
      |
    1 |
      | ^
    ");
    assert_snapshot!(wrong("mediant: 1\n\tname: x\n"), @r"
    error[yaml]: a tab cannot indent YAML
     --> lab/p.yaml:2:1
      |
    2 |     name: x
      | ^^^^
      |
      = help: indent with spaces
    ");
    assert_snapshot!(wrong("mediant: 1\nname: a: b\n"), @r"
    error[yaml]: a `: ` cannot stand here
     --> lab/p.yaml:2:8
      |
    2 | name: a: b
      |        ^
      |
      = help: quote the text if the colon belongs to it, or begin a new line
    ");
    assert_snapshot!(wrong("mediant: 1\nstages: [a, b\n"), @r"
    error[yaml]: unclosed bracket '['
     --> lab/p.yaml:2:9
      |
    2 | stages: [a, b
      |         ^
    ");
    assert_snapshot!(wrong("mediant: 1\nname: \"x\n"), @r#"
    error[yaml]: unclosed quote
     --> lab/p.yaml:2:7
      |
    2 | name: "x
      |       ^
    "#);
    assert_snapshot!(wrong("mediant: 1\nname: x\nstages:\n  a: { uses: load_model }\n  b: { uses: load_model }\n  a: { uses: tokenize }\nname: y\n"), @r"
    error[duplicate-key]: the key `a` is given twice
     --> lab/p.yaml:6:3
      |
    4 |   a: { uses: load_model }
      |   - first here
    5 |   b: { uses: load_model }
    6 |   a: { uses: tokenize }
      |   ^ again here

    error[duplicate-key]: the key `name` is given twice
     --> lab/p.yaml:7:1
      |
    2 | name: x
      | ---- first here
    ...
    7 | name: y
      | ^^^^ again here

    2 errors
    ");
    // Beyond a few keys they are found through an index.
    let keys: String = (0..30).map(|key| format!("  s{}: {{ uses: load_model }}\n", key % 29)).collect();
    assert_snapshot!(wrong(&format!("mediant: 1\nstages:\n{keys}")), @r"
    error[duplicate-key]: the key `s0` is given twice
      --> lab/p.yaml:32:3
       |
     3 |   s0: { uses: load_model }
       |   -- first here
    ...
    32 |   s0: { uses: load_model }
       |   ^^ again here
    ");
    assert_snapshot!(wrong("mediant: 1\n---\nmediant: 1\n"), @r"
    error[yaml]: a pipeline is one YAML document, and a second one starts here
     --> lab/p.yaml:2:1
      |
    2 | ---
      | ^^^
      |
      = help: put each pipeline into a file of its own
    ");
    assert_snapshot!(wrong("mediant: 1\nname: *x\n"), @r"
    error[yaml]: this alias has no anchor before it
     --> lab/p.yaml:2:7
      |
    2 | name: *x
      |       ^
      |
      = help: an anchor is written `&name`
    ");
    assert_snapshot!(wrong("%YAML 1.1\n---\nmediant: 1\n"), @r"
    error[yaml]: a pipeline has no YAML directives
     --> lab/p.yaml:1:1
      |
    1 | %YAML 1.1
      | ^
      |
      = help: remove the line
    ");
    assert_snapshot!(wrong("mediant: 1\nname: !!str 5\nseed: !secret 1\n"), @r"
    error[yaml]: the tag `!!str` has no meaning in a pipeline
     --> lab/p.yaml:2:13
      |
    2 | name: !!str 5
      |             ^ this value has a tag
      |
      = help: quote a value to make it text; other types follow from how a value is written

    error[yaml]: the tag `!secret` has no meaning in a pipeline
     --> lab/p.yaml:3:15
      |
    3 | seed: !secret 1
      |               ^ this value has a tag
      |
      = help: quote a value to make it text; other types follow from how a value is written

    2 errors
    ");
    assert_snapshot!(wrong("mediant: 1\nseed: 99999999999999999999999\n"), @r"
    error[number-range]: this number is too large
     --> lab/p.yaml:2:7
      |
    2 | seed: 99999999999999999999999
      |       ^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: integers go from -9223372036854775808 to 18446744073709551615; quote it if it is text
    ");
    assert_snapshot!(wrong("mediant: 1\nstages:\n  ? [a, b]\n  : 1\n"), @r"
    error[yaml]: a key has to be text
     --> lab/p.yaml:3:5
      |
    3 |   ? [a, b]
      |     ^ this is no text
    ");
    assert_snapshot!(wrong("mediant: 1\nstages:\n  a: &a { uses: x, with: *a }\n"), @r"
    error[yaml]: this alias stands inside the value it repeats
     --> lab/p.yaml:3:26
      |
    3 |   a: &a { uses: x, with: *a }
      |                          ^^
    ");
    assert_snapshot!(wrong("mediant: 1\nstages:\n  a: { <<: 5, uses: x }\n"), @r"
    error[yaml]: `<<` merges mappings, and this is an integer
     --> lab/p.yaml:3:12
      |
    3 |   a: { <<: 5, uses: x }
      |            ^
    ");
}

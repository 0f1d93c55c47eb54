//! Matrices.

use insta::assert_snapshot;

use super::support::wrong;

fn matrix(matrix: &str) -> String {
    wrong(&format!(
        "mediant: 1\nstages:\n  m:\n    uses: load_model\n    matrix: {matrix}\n    with: {{ source: \"${{matrix.k}}\" }}\n"
    ))
}

#[test]
fn values() {
    assert_snapshot!(matrix("[a]"), @r"
    error[type]: `matrix` is a mapping, and this is a list
     --> lab/p.yaml:5:13
      |
    5 |     matrix: [a]
      |             ^^^
    ");
    assert_snapshot!(matrix("{}"), @r"
    error[matrix]: a matrix needs at least one axis
     --> lab/p.yaml:5:13
      |
    5 |     matrix: {}
      |             ^^
    ");
    assert_snapshot!(matrix("{ k: 3 }"), @r"
    error[matrix]: the axis `k` is a list of values, and this is an integer
     --> lab/p.yaml:5:18
      |
    5 |     matrix: { k: 3 }
      |                  ^
    ");
    assert_snapshot!(matrix("{ k: [] }"), @r"
    error[matrix]: the axis `k` is empty
     --> lab/p.yaml:5:18
      |
    5 |     matrix: { k: [] }
      |                  ^^
    ");
    assert_snapshot!(matrix("{ k: [1, 2, 1] }"), @r"
    error[matrix]: the value `1` is given twice
     --> lab/p.yaml:5:25
      |
    5 |     matrix: { k: [1, 2, 1] }
      |                   -     ^ again here
      |                   |
      |                   first here
    ");
    assert_snapshot!(matrix("{ k: [1e-3, 0.001], 'a b': [1] }"), @r"
    error[matrix]: the value `0.001` is given twice
     --> lab/p.yaml:5:25
      |
    5 |     matrix: { k: [1e-3, 0.001], 'a b': [1] }
      |                   ----  ^^^^^ again here
      |                   |
      |                   first here

    error[name]: `a b` cannot name an axis
     --> lab/p.yaml:5:33
      |
    5 |     matrix: { k: [1e-3, 0.001], 'a b': [1] }
      |                                 ^^^^^
      |
      = help: letters, digits, `_` and `-`

    2 errors
    ");
    assert_snapshot!(matrix(r#"{ k: [1, "1"] }"#), @r#"
    error[matrix]: the value `1` is given twice
     --> lab/p.yaml:5:22
      |
    5 |     matrix: { k: [1, "1"] }
      |                   -  ^^^ again here
      |                   |
      |                   first here
    "#);
    assert_snapshot!(matrix("{ k: [{ name: a, x: 1 }, { name: a, x: 2 }] }"), @r"
    error[matrix]: the value `a` is given twice
     --> lab/p.yaml:5:38
      |
    5 |     matrix: { k: [{ name: a, x: 1 }, { name: a, x: 2 }] }
      |                   -----------------  ^^^^^^^^^^^^^^^^^ again here
      |                   |
      |                   first here
    ");
    let thousand = format!("[{}]", (0..1000).map(|n| n.to_string()).collect::<Vec<_>>().join(","));
    assert_snapshot!(matrix(&format!("\n      {{ k: {thousand}, j: {thousand}, i: {thousand} }}")).lines().next().unwrap(), @"error[matrix]: this matrix has more than 100000 points");
}

#[test]
fn included_points() {
    assert_snapshot!(matrix("{ include: [{ name: a, k: 1 }, { name: a, k: 2 }] }"), @r"
    error[matrix]: the value `a` is given twice
     --> lab/p.yaml:5:44
      |
    5 |     matrix: { include: [{ name: a, k: 1 }, { name: a, k: 2 }] }
      |                         -----------------  ^^^^^^^^^^^^^^^^^ again here
      |                         |
      |                         first here
    ");
    assert_snapshot!(matrix("{ include: [5, {}, { name: [x], k: 1 }] }"), @r"
    error[matrix]: a point is a mapping of variables, and this is an integer
     --> lab/p.yaml:5:25
      |
    5 |     matrix: { include: [5, {}, { name: [x], k: 1 }] }
      |                         ^

    error[matrix]: a point is a mapping of variables, and this is a mapping
     --> lab/p.yaml:5:28
      |
    5 |     matrix: { include: [5, {}, { name: [x], k: 1 }] }
      |                            ^^

    error[matrix]: the name of a point is text, and this is a list
     --> lab/p.yaml:5:40
      |
    5 |     matrix: { include: [5, {}, { name: [x], k: 1 }] }
      |                                        ^^^

    3 errors
    ");
    assert_snapshot!(matrix("{ include: [{ k: 1 }], k: [1, 2] }"), @r"
    error[matrix]: `k` is given by two axes
     --> lab/p.yaml:5:36
      |
    5 |     matrix: { include: [{ k: 1 }], k: [1, 2] }
      |               ------- and here     ^ here
    ");
    assert_snapshot!(matrix("{ include: [{ k: 1 }], name: [1, 2] }"), @r"
    error[axis-clash]: two different axes are called `name` here
     --> lab/p.yaml:5:36
      |
    5 |     matrix: { include: [{ k: 1 }], name: [1, 2] }
      |               -------              ^^^^ one comes from here
      |               |
      |               another from here
      |
      = help: rename one of them, or select one value: `stage[axis=label]`
    ");
    assert_snapshot!(matrix("{ include: [{ name: a, k: 1 }, { name: b, j: 1 }] }"), @r#"
    error[unknown-reference]: `k` has no value everywhere
     --> lab/p.yaml:6:22
      |
    5 |     matrix: { include: [{ name: a, k: 1 }, { name: b, j: 1 }] }
      |                                            ----------------- there is none at the point `b`
    6 |     with: { source: "${matrix.k}" }
      |                      ^^^^^^^^^^^
    "#);
}

#[test]
fn excluded_points() {
    assert_snapshot!(matrix("{ k: [1, 2], exclude: [{ kk: 1 }] }"), @r"
    error[matrix]: there is no axis `kk`
     --> lab/p.yaml:5:38
      |
    5 |     matrix: { k: [1, 2], exclude: [{ kk: 1 }] }
      |                                      ^^
      |
      = help: did you mean `k`?
    ");
    assert_snapshot!(matrix("{ k: [1, 2], exclude: [{ k: 3 }] }"), @r"
    error[matrix]: the axis `k` has no such value
     --> lab/p.yaml:5:41
      |
    5 |     matrix: { k: [1, 2], exclude: [{ k: 3 }] }
      |                                         ^
      |
      = help: the values are `1`, `2`
    ");
    assert_snapshot!(matrix("{ k: [1, 2], exclude: [{ k: 1 }, { k: 2 }] }"), @r"
    error[matrix]: no point is left
     --> lab/p.yaml:5:35
      |
    5 |     matrix: { k: [1, 2], exclude: [{ k: 1 }, { k: 2 }] }
      |                                   ^^^^^^^^^^^^^^^^^^^^ this excludes all of them
    ");
    assert_snapshot!(matrix("{ k: [1, 2], exclude: [{ k: 1 }, { k: 1 }] }"), @r"
    error[matrix]: this excludes nothing
     --> lab/p.yaml:5:46
      |
    5 |     matrix: { k: [1, 2], exclude: [{ k: 1 }, { k: 1 }] }
      |                                              ^^^^^^^^ no point like this is left
    ");
    assert_snapshot!(matrix("{ k: [1, 2], exclude: [{}, 5] }"), @r"
    error[matrix]: what is excluded is a mapping of axes to values, and this is an empty one
     --> lab/p.yaml:5:36
      |
    5 |     matrix: { k: [1, 2], exclude: [{}, 5] }
      |                                    ^^

    error[matrix]: what is excluded is a mapping of axes to values, and this is an integer
     --> lab/p.yaml:5:40
      |
    5 |     matrix: { k: [1, 2], exclude: [{}, 5] }
      |                                        ^

    2 errors
    ");
}

#[test]
fn variables_nobody_reads() {
    assert_snapshot!(matrix("{ k: [1], seed: [0, 1], include: [{ name: a, extra: 1 }] }"), @r"
    error[unused-axis]: nothing reads the matrix variable `seed`
     --> lab/p.yaml:5:23
      |
    5 |     matrix: { k: [1], seed: [0, 1], include: [{ name: a, extra: 1 }] }
      |                       ^^^^
      |
      = help: write `${matrix.seed}` in `with`, or remove it

    error[unused-axis]: nothing reads the matrix variable `extra`
     --> lab/p.yaml:5:58
      |
    5 |     matrix: { k: [1], seed: [0, 1], include: [{ name: a, extra: 1 }] }
      |                                                          ^^^^^
      |
      = help: write `${matrix.extra}` in `with`, or remove it

    2 errors
    ");
}

#[test]
fn variables_that_do_not_exist() {
    assert_snapshot!(matrix("{ kk: [1] }"), @r#"
    error[unknown-reference]: `matrix` has no `k`
     --> lab/p.yaml:6:22
      |
    6 |     with: { source: "${matrix.k}" }
      |                      ^^^^^^^^^^^
      |
      = help: did you mean `kk`?
    "#);
}

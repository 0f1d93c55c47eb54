//! Parameters and `${…}`.

use insta::assert_snapshot;

use super::support::wrong;

fn with(params: &str, with: &str) -> String {
    wrong(&format!("mediant: 1\nparams:\n{params}\nstages:\n  m:\n    uses: load_model\n    with: {with}\n"))
}

#[test]
fn unknown_names() {
    assert_snapshot!(with("  layer: { index: 2 }", r#"{ a: "${params.lyer}", b: "${params.layer.idx}", c: "${param.layer}" }"#), @r#"
    error[unknown-reference]: `params` has no `lyer`
     --> lab/p.yaml:7:17
      |
    7 |     with: { a: "${params.lyer}", b: "${params.layer.idx}", c: "${param.layer}" }
      |                 ^^^^^^^^^^^^^^
      |
      = help: did you mean `layer`?

    error[unknown-reference]: `params.layer` has no `idx`
     --> lab/p.yaml:7:38
      |
    7 |     with: { a: "${params.lyer}", b: "${params.layer.idx}", c: "${param.layer}" }
      |                                      ^^^^^^^^^^^^^^^^^^^
      |
      = help: did you mean `index`?

    error[unknown-reference]: nothing is called `param.layer`
     --> lab/p.yaml:7:64
      |
    7 |     with: { a: "${params.lyer}", b: "${params.layer.idx}", c: "${param.layer}" }
      |                                                                ^^^^^^^^^^^^^^
      |
      = help: there are `${params.…}`, `${matrix.…}` and `${pipeline.name}`; write `$${` for a literal `${`

    3 errors
    "#);
    assert_snapshot!(with("  layer: 2", r#"{ a: "${layer}", b: "${pipeline.seed}", c: "${HOME}/x", d: "${params.layer}" }"#), @r#"
    error[unknown-reference]: nothing is called `layer`
     --> lab/p.yaml:7:17
      |
    7 |     with: { a: "${layer}", b: "${pipeline.seed}", c: "${HOME}/x", d: "${params.layer}" }
      |                 ^^^^^^^^
      |
      = help: did you mean `${params.layer}`?

    error[unknown-reference]: `pipeline` has no `seed`
     --> lab/p.yaml:7:32
      |
    7 |     with: { a: "${layer}", b: "${pipeline.seed}", c: "${HOME}/x", d: "${params.layer}" }
      |                                ^^^^^^^^^^^^^^^^
      |
      = help: there is `${pipeline.name}`

    error[unknown-reference]: nothing is called `HOME`
     --> lab/p.yaml:7:55
      |
    7 |     with: { a: "${layer}", b: "${pipeline.seed}", c: "${HOME}/x", d: "${params.layer}" }
      |                                                       ^^^^^^^
      |
      = help: there are `${params.…}`, `${matrix.…}` and `${pipeline.name}`; write `$${` for a literal `${`

    3 errors
    "#);
    assert_snapshot!(with("  layer: 2", r#"{ a: "${matrix.k}", b: "${params.layer}" }"#), @r#"
    error[unknown-reference]: `matrix` has no `k`
     --> lab/p.yaml:7:17
      |
    7 |     with: { a: "${matrix.k}", b: "${params.layer}" }
      |                 ^^^^^^^^^^^
      |
      = help: there are no matrix variables here
    "#);
    assert_snapshot!(wrong("mediant: 1\nstages:\n  m: { uses: '${matrix.k}' }\n"), @r"
    error[type]: expected text, found nothing
     --> lab/p.yaml:3:14
      |
    3 |   m: { uses: '${matrix.k}' }
      |              ^^^^^^^^^^^^^

    error[unknown-reference]: `matrix.k` has no value here
     --> lab/p.yaml:3:15
      |
    3 |   m: { uses: '${matrix.k}' }
      |               ^^^^^^^^^^^
      |
      = help: the matrix can be read in `with` only

    2 errors
    ");
}

#[test]
fn malformed_references() {
    assert_snapshot!(with("  x: 2", r#"{ a: "${params.x", b: "${params.x + 1}", c: "${}", "${params.x}": 1 }"#), @r#"
    error[unused-param]: nothing uses the parameter `x`
     --> lab/p.yaml:3:3
      |
    3 |   x: 2
      |   ^
      |
      = help: write `${params.x}` where it belongs, or remove it

    error[substitution]: this `${` is not closed
     --> lab/p.yaml:7:17
      |
    7 |     with: { a: "${params.x", b: "${params.x + 1}", c: "${}", "${params.x}": 1 }
      |                 ^^
      |
      = help: write `$${` for a literal `${`

    error[substitution]: a reference is a path of names
     --> lab/p.yaml:7:34
      |
    7 |     with: { a: "${params.x", b: "${params.x + 1}", c: "${}", "${params.x}": 1 }
      |                                  ^^^^^^^^^^^^^^^
      |
      = help: for example `${params.layer}`; there is no arithmetic

    error[substitution]: a reference is a path of names
     --> lab/p.yaml:7:56
      |
    7 |     with: { a: "${params.x", b: "${params.x + 1}", c: "${}", "${params.x}": 1 }
      |                                                        ^^^
      |
      = help: for example `${params.layer}`; there is no arithmetic

    4 errors
    "#);
}

#[test]
fn unused_parameters() {
    assert_snapshot!(with("  used: 1\n  unused: 2\n  also_unused: \"${params.used}\"", r#"{ a: 1 }"#), @r#"
    error[unused-param]: nothing uses the parameter `unused`
     --> lab/p.yaml:4:3
      |
    4 |   unused: 2
      |   ^^^^^^
      |
      = help: write `${params.unused}` where it belongs, or remove it

    error[unused-param]: nothing uses the parameter `also_unused`
     --> lab/p.yaml:5:3
      |
    5 |   also_unused: "${params.used}"
      |   ^^^^^^^^^^^
      |
      = help: write `${params.also_unused}` where it belongs, or remove it

    2 errors
    "#);
}

#[test]
fn loops() {
    assert_snapshot!(with("  a: \"${params.b}\"\n  b: { x: \"${params.c}\" }\n  c: \"c ${params.a}\"\n  d: \"${params.d}\"", r#"{ a: "${params.a}", d: "${params.d}" }"#), @r#"
    error[param-loop]: parameters refer to each other in a loop: `a` → `b` → `c` → `a`
     --> lab/p.yaml:5:9
      |
    3 |   a: "${params.b}"
      |   - declared here
    4 |   b: { x: "${params.c}" }
    5 |   c: "c ${params.a}"
      |         ^^^^^^^^^^^

    error[param-loop]: parameters refer to each other in a loop: `d` → `d`
     --> lab/p.yaml:6:7
      |
    6 |   d: "${params.d}"
      |   -   ^^^^^^^^^^^
      |   |
      |   declared here

    2 errors
    "#);
}

#[test]
fn structures_inside_text() {
    assert_snapshot!(with("  list: [1, 2]\n  none:", r#"{ a: "x ${params.list}", b: "x ${params.none}" }"#), @r#"
    error[substitution]: `params.list` is a list, which cannot stand inside text
     --> lab/p.yaml:8:19
      |
    3 |   list: [1, 2]
      |         ------ its value
    ...
    8 |     with: { a: "x ${params.list}", b: "x ${params.none}" }
      |                   ^^^^^^^^^^^^^^
      |
      = help: a value that is replaced as a whole keeps its type: write nothing else around it

    error[substitution]: `params.none` is nothing, which cannot stand inside text
     --> lab/p.yaml:8:42
      |
    4 |   none:
      |   ---- its value
    ...
    8 |     with: { a: "x ${params.list}", b: "x ${params.none}" }
      |                                          ^^^^^^^^^^^^^^
      |
      = help: a value that is replaced as a whole keeps its type: write nothing else around it

    2 errors
    "#);
}

#[test]
fn a_whole_with_that_is_no_mapping() {
    assert_snapshot!(with("  list: [1, 2]", r#""${params.list}""#), @r#"
    error[type]: `with` is a mapping, and this is a list
     --> lab/p.yaml:3:9
      |
    3 |   list: [1, 2]
      |         ^^^^^^
    ...
    7 |     with: "${params.list}"
      |           ---------------- used here
    "#);
}

#[test]
fn names_that_cannot_be_referred_to() {
    assert_snapshot!(with("  a.b: 1", "{}"), @r"
    error[name]: `a.b` cannot name a parameter
     --> lab/p.yaml:3:3
      |
    3 |   a.b: 1
      |   ^^^
      |
      = help: letters, digits, `_` and `-`

    error[unused-param]: nothing uses the parameter `a.b`
     --> lab/p.yaml:3:3
      |
    3 |   a.b: 1
      |   ^^^
      |
      = help: write `${params.a.b}` where it belongs, or remove it

    2 errors
    ");
}

#[test]
fn a_substituted_input_points_to_both_places() {
    assert_snapshot!(wrong(r#"
mediant: 1
params: { memory: 4 }
stages:
  m: { uses: load_model, resources: { memory: "${params.memory}" } }
"#), @r#"
    error[value]: expected an amount of memory such as `512MiB` or `4GiB`, found the number 4
     --> lab/p.yaml:3:19
      |
    3 | params: { memory: 4 }
      |                   ^
    4 | stages:
    5 |   m: { uses: load_model, resources: { memory: "${params.memory}" } }
      |                                               ------------------ used here
    "#);
}

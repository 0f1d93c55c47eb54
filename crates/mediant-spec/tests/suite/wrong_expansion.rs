//! Stages that do not fit together.

use insta::assert_snapshot;

use super::support::wrong;

fn after(stages: &str) -> String {
    wrong(&format!(
        "mediant: 1\nstages:\n  m: {{ uses: load_model }}\n  t: {{ uses: tokenize }}\n  a: {{ uses: cache_activations, inputs: {{ \
         model: m, tokens: t }} }}\n  s: {{ uses: train_sae, inputs: {{ activations: a }}, matrix: {{ k: [1, 2], seed: [0, 1] }}, \
         with: {{ k: '${{matrix.k}}', seed: '${{matrix.seed}}' }} }}\n{stages}"
    ))
}

#[test]
fn unknown_implementations_stages_and_ports() {
    assert_snapshot!(after("
  e: { uses: evaluate_sea, inputs: { sae: sea } }
  f: { uses: evaluate_sae, inputs: { modle: m, sae: s, tokens: tt.test } }
  g: { uses: load_model, inputs: { model: m } }
  h: { uses: zzz, inputs: { x: a_stage_that_is_not } }
"), @r"
    error[unknown-stage-type]: there is no stage type `evaluate_sea`
     --> lab/p.yaml:8:14
      |
    8 |   e: { uses: evaluate_sea, inputs: { sae: sea } }
      |              ^^^^^^^^^^^^
      |
      = help: did you mean `evaluate_sae`?

    error[unknown-stage]: there is no stage `sea`
     --> lab/p.yaml:8:43
      |
    8 |   e: { uses: evaluate_sea, inputs: { sae: sea } }
      |                                           ^^^
      |
      = help: the stages are `m`, `t`, `a`, `s`, `e`, `f`, `g`, `h`

    error[unknown-port]: `evaluate_sae` has no input `modle`
     --> lab/p.yaml:9:38
      |
    9 |   f: { uses: evaluate_sae, inputs: { modle: m, sae: s, tokens: tt.test } }
      |                                      ^^^^^
      |
      = help: did you mean `model`?

    error[unknown-stage]: there is no stage `tt`
     --> lab/p.yaml:9:64
      |
    9 |   f: { uses: evaluate_sae, inputs: { modle: m, sae: s, tokens: tt.test } }
      |                                                                ^^
      |
      = help: did you mean `t`?

    error[unknown-port]: `load_model` has no input `model`
      --> lab/p.yaml:10:36
       |
    10 |   g: { uses: load_model, inputs: { model: m } }
       |                                    ^^^^^
       |
       = help: there are no inputs

    error[unknown-stage-type]: there is no stage type `zzz`
      --> lab/p.yaml:11:14
       |
    11 |   h: { uses: zzz, inputs: { x: a_stage_that_is_not } }
       |              ^^^
       |
       = help: the stage types are `load_model`, `tokenize`, `cache_activations`, `train_sae`, `evaluate_sae`, `compare`, `compare_models`, `command`

    error[unknown-stage]: there is no stage `a_stage_that_is_not`
      --> lab/p.yaml:11:32
       |
    11 |   h: { uses: zzz, inputs: { x: a_stage_that_is_not } }
       |                                ^^^^^^^^^^^^^^^^^^^
       |
       = help: the stages are `m`, `t`, `a`, `s`, `e`, `f`, `g`, `h`

    7 errors
    ");
}

#[test]
fn missing_inputs() {
    assert_snapshot!(after("  e: { uses: evaluate_sae, inputs: { sae: s } }\n  c: { uses: compare }\n"), @r"
    error[missing-input]: `evaluate_sae` needs the input `model`
     --> lab/p.yaml:7:3
      |
    7 |   e: { uses: evaluate_sae, inputs: { sae: s } }
      |   ^ this stage does not give it
      |
      = help: write `inputs: { model: … }`

    error[missing-input]: `evaluate_sae` needs the input `tokens`
     --> lab/p.yaml:7:3
      |
    7 |   e: { uses: evaluate_sae, inputs: { sae: s } }
      |   ^ this stage does not give it
      |
      = help: write `inputs: { tokens: … }`

    error[missing-input]: `compare` needs the input `metrics`
     --> lab/p.yaml:8:3
      |
    8 |   c: { uses: compare }
      |   ^ this stage does not give it
      |
      = help: write `inputs: { metrics: … }`

    3 errors
    ");
}

#[test]
fn several_for_one() {
    assert_snapshot!(after("
  e: { uses: train_sae, inputs: { activations: [a, a] } }
  f: { uses: train_sae, inputs: { activations: { x: a } } }
  g: { uses: evaluate_sae, inputs: { model: m, tokens: t, sae: { from: s, over: [seed] } } }
"), @r"
    error[one-input]: the input `activations` takes one artifact, and this gives several
     --> lab/p.yaml:8:35
      |
    8 |   e: { uses: train_sae, inputs: { activations: [a, a] } }
      |                                   ^^^^^^^^^^^

    error[one-input]: the input `activations` takes one artifact, and this gives several
     --> lab/p.yaml:9:35
      |
    9 |   f: { uses: train_sae, inputs: { activations: { x: a } } }
      |                                   ^^^^^^^^^^^

    error[one-input]: the input `sae` takes one artifact, so it collects no axes
      --> lab/p.yaml:10:82
       |
    10 |   g: { uses: evaluate_sae, inputs: { model: m, tokens: t, sae: { from: s, over: [seed] } } }
       |                                                                                  ^^^^
       |
       = help: write `sae: s`; the stage then runs once for each

    3 errors
    ");
}

#[test]
fn loops() {
    assert_snapshot!(wrong("
mediant: 1
stages:
  a: { uses: tokenize, inputs: { model: c } }
  b: { uses: tokenize, inputs: { model: a } }
  c: { uses: tokenize, inputs: { model: b } }
  d: { uses: tokenize, inputs: { model: c } }
"), @r"
    error[loop]: stages need each other in a loop: `a` → `c` → `b` → `a`
     --> lab/p.yaml:4:41
      |
    4 |   a: { uses: tokenize, inputs: { model: c } }
      |                                         ^ `a` needs `c`
    5 |   b: { uses: tokenize, inputs: { model: a } }
      |                                         - `b` needs `a`
    6 |   c: { uses: tokenize, inputs: { model: b } }
      |                                         - `c` needs `b`
    ");
    assert_snapshot!(wrong("mediant: 1\nstages:\n  a: { uses: tokenize, inputs: { model: a } }\n"), @r"
    error[loop]: stages need each other in a loop: `a` → `a`
     --> lab/p.yaml:3:41
      |
    3 |   a: { uses: tokenize, inputs: { model: a } }
      |                                         ^ `a` needs `a`
    ");
}

#[test]
fn axes_and_labels_that_do_not_exist() {
    assert_snapshot!(after("
  e: { uses: compare, inputs: { metrics: 's[kk=1]' } }
  f: { uses: compare, inputs: { metrics: 's[k=16]' } }
  g: { uses: compare, inputs: { metrics: { from: s, over: [seeds] } } }
  h: { uses: compare, inputs: { metrics: 'm[k=1]' } }
  i: { uses: compare, inputs: { metrics: { from: 's[k=1]', over: [k] } } }
"), @r"
    error[unknown-axis]: `s` has no axis `kk` here
     --> lab/p.yaml:8:45
      |
    8 |   e: { uses: compare, inputs: { metrics: 's[kk=1]' } }
      |                                             ^^
      |
      = help: did you mean `k`?

    error[unknown-label]: the axis `k` of `s` has no value `16`
     --> lab/p.yaml:9:47
      |
    9 |   f: { uses: compare, inputs: { metrics: 's[k=16]' } }
      |                                               ^^
      |
      = help: the values are `1`, `2`

    error[unknown-axis]: `s` has no axis `seeds` here
      --> lab/p.yaml:10:60
       |
    10 |   g: { uses: compare, inputs: { metrics: { from: s, over: [seeds] } } }
       |                                                            ^^^^^
       |
       = help: did you mean `seed`?

    error[unknown-axis]: `m` has no axis `k` here
      --> lab/p.yaml:11:45
       |
    11 |   h: { uses: compare, inputs: { metrics: 'm[k=1]' } }
       |                                             ^
       |
       = help: there are no axes

    error[unknown-axis]: `s` has no axis `k` here
      --> lab/p.yaml:12:67
       |
    12 |   i: { uses: compare, inputs: { metrics: { from: 's[k=1]', over: [k] } } }
       |                                                                   ^
       |
       = help: the axes are `seed`

    5 errors
    ");
}

#[test]
fn the_same_axis_from_two_stages() {
    assert_snapshot!(after("
  u: { uses: tokenize, matrix: { seed: [0, 1] }, with: { seed: '${matrix.seed}' } }
  e: { uses: evaluate_sae, inputs: { model: m, sae: s, tokens: u.test } }
  f: { uses: tokenize, inputs: { model: s }, matrix: { k: [5] }, with: { k: '${matrix.k}' } }
"), @r"
    error[axis-clash]: two different axes are called `seed` here
     --> lab/p.yaml:9:64
      |
    6 |   s: { uses: train_sae, inputs: { activations: a }, matrix: { k: [1, 2], seed: [0, 1] }, with: { k: '${matrix.k}', seed: '${matrix.se...
      |                                                                          ---- declared here
    7 |
    8 |   u: { uses: tokenize, matrix: { seed: [0, 1] }, with: { seed: '${matrix.seed}' } }
      |                                  ---- declared here
    9 |   e: { uses: evaluate_sae, inputs: { model: m, sae: s, tokens: u.test } }
      |                                                     -          ^^^^^^ one comes from here
      |                                                     |
      |                                                     another from here
      |
      = help: rename one of them, or select one value: `stage[axis=label]`

    error[axis-clash]: two different axes are called `k` here
      --> lab/p.yaml:10:56
       |
     6 |   s: { uses: train_sae, inputs: { activations: a }, matrix: { k: [1, 2], seed: [0, 1] }, with: { k: '${matrix.k}', seed: '${matrix.s...
       |                                                               - declared here
    ...
    10 |   f: { uses: tokenize, inputs: { model: s }, matrix: { k: [5] }, with: { k: '${matrix.k}' } }
       |                                         -              ^ one comes from here
       |                                         |
       |                                         another from here
       |
       = help: rename one of them, or select one value: `stage[axis=label]`

    2 errors
    ");
}

#[test]
fn the_same_variable_from_two_axes() {
    assert_snapshot!(wrong("
mediant: 1
stages:
  m: { uses: load_model, matrix: { include: [{ lr: 1 }] }, with: { lr: '${matrix.lr}' } }
  n: { uses: tokenize, inputs: { model: m }, matrix: { lr: [1, 2] }, with: { lr: '${matrix.lr}' } }
"), @r"
    error[unknown-reference]: two axes give `lr` here
     --> lab/p.yaml:5:83
      |
    4 |   m: { uses: load_model, matrix: { include: [{ lr: 1 }] }, with: { lr: '${matrix.lr}' } }
      |                                    ------- and this one
    5 |   n: { uses: tokenize, inputs: { model: m }, matrix: { lr: [1, 2] }, with: { lr: '${matrix.lr}' } }
      |                                                        -- this one                ^^^^^^^^^^^^
    ");
}

#[test]
fn points_that_do_not_meet() {
    assert_snapshot!(wrong("
mediant: 1
stages:
  m: { uses: load_model, matrix: { k: [1, 2], j: [1, 2], exclude: [{ k: 1, j: 2 }, { k: 2, j: 1 }] }, with: { k: '${matrix.k}', j: '${matrix.j}' } }
  n: { uses: cache_activations, inputs: { model: 'm[k=1]', tokens: 'm[k=2]' } }
  o: { uses: tokenize, inputs: { model: 'm[k=1,j=2]' } }
"), @r"
    error[no-points]: the inputs of `n` have no point in common
     --> lab/p.yaml:5:3
      |
    5 |   n: { uses: cache_activations, inputs: { model: 'm[k=1]', tokens: 'm[k=2]' } }
      |   ^ this stage would never run

    error[unknown-label]: no instance of `m` is selected
     --> lab/p.yaml:6:41
      |
    6 |   o: { uses: tokenize, inputs: { model: 'm[k=1,j=2]' } }
      |                                         ^^^^^^^^^^^^

    2 errors
    ");
}

#[test]
fn members_given_twice() {
    assert_snapshot!(after("  c: { uses: compare, inputs: { metrics: [s, 's[k=1]'] } }\n"), @r"
    error[duplicate-member]: `s[k=1,seed=0]` is given to `metrics` twice
     --> lab/p.yaml:7:46
      |
    7 |   c: { uses: compare, inputs: { metrics: [s, 's[k=1]'] } }
      |                                              ^^^^^^^^
    ");
}

#[test]
fn too_many_instances() {
    let axis = |name: &str| format!("{name}: [{}]", (0..400).map(|n| n.to_string()).collect::<Vec<_>>().join(", "));
    let text = format!(
        "mediant: 1\nstages:\n  a: {{ uses: load_model, matrix: {{ {} }}, with: {{ i: '${{matrix.i}}' }} }}\n  b: {{ uses: load_model, \
         matrix: {{ {} }}, with: {{ j: '${{matrix.j}}' }} }}\n  c: {{ uses: command, inputs: {{ a: a, b: b }} }}\n",
        axis("i"),
        axis("j")
    );
    assert_snapshot!(wrong(&text), @r"
    error[too-many]: this pipeline has more than 100000 instances
     --> lab/p.yaml:5:3
      |
    5 |   c: { uses: command, inputs: { a: a, b: b } }
      |   ^ the limit is passed by this stage
    ");
}

#[test]
fn nothing_is_said_about_stages_behind_a_broken_one() {
    assert_snapshot!(after("
  e: { uses: evaluate_sae, inputs: { model: m, sae: 's[k=3]', tokens: t } }
  c: { uses: compare, inputs: { metrics: e } }
"), @r"
    error[unknown-label]: the axis `k` of `s` has no value `3`
     --> lab/p.yaml:8:58
      |
    8 |   e: { uses: evaluate_sae, inputs: { model: m, sae: 's[k=3]', tokens: t } }
      |                                                          ^
      |
      = help: the values are `1`, `2`
    ");
}

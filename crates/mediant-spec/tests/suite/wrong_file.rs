//! Files that are no pipelines: keys, types.

use insta::assert_snapshot;

use super::support::wrong;

const STAGES: &str = "stages:\n  m: { uses: load_model }\n";

#[test]
fn top_level_keys() {
    assert_snapshot!(wrong("- a\n- b\n"), @r"
    error[type]: a pipeline is a mapping, and this is a list
     --> lab/p.yaml:1:1
      |
    1 | - a
      | ^^^
    ");
    assert_snapshot!(wrong("name: x\n"), @r"
    error[missing-key]: the key `mediant` is missing
     --> lab/p.yaml:1:1
      |
    1 | name: x
      | ^^^^^^^ in this mapping

    error[missing-key]: the key `stages` is missing
     --> lab/p.yaml:1:1
      |
    1 | name: x
      | ^^^^^^^ in this mapping

    2 errors
    ");
    assert_snapshot!(wrong(&format!("mediant: 2.0\n{STAGES}")), @r"
    error[version]: `mediant` is the version of the pipeline language, the number 1
     --> lab/p.yaml:1:10
      |
    1 | mediant: 2.0
      |          ^^^
      |
      = help: write `mediant: 1`
    ");
    assert_snapshot!(wrong(&format!("mediant: 2\nsteps: []\n{STAGES}")), @r"
    error[version]: this pipeline is written in version 2 of the language, and this program reads version 1
     --> lab/p.yaml:1:10
      |
    1 | mediant: 2
      |          ^
      |
      = help: write `mediant: 1`
    ");
    assert_snapshot!(wrong(&format!("mediant: '1'\n{STAGES}")), @r"
    error[version]: `mediant` is the version of the pipeline language, the number 1
     --> lab/p.yaml:1:10
      |
    1 | mediant: '1'
      |          ^^^
      |
      = help: write `mediant: 1`
    ");
    assert_snapshot!(wrong(&format!("mediant: 1\nnaem: x\nsede: 3\nversion: 4\n{STAGES}")), @r"
    error[unknown-key]: a pipeline has no `naem`
     --> lab/p.yaml:2:1
      |
    2 | naem: x
      | ^^^^ unknown key
      |
      = help: did you mean `name`?

    error[unknown-key]: a pipeline has no `sede`
     --> lab/p.yaml:3:1
      |
    3 | sede: 3
      | ^^^^ unknown key
      |
      = help: did you mean `seed`?

    error[unknown-key]: a pipeline has no `version`
     --> lab/p.yaml:4:1
      |
    4 | version: 4
      | ^^^^^^^ unknown key
      |
      = help: the keys are `mediant`, `name`, `seed`, `params`, `stages`

    3 errors
    ");
    assert_snapshot!(wrong(&format!("mediant: 1\nname: 5\nseed: -1\nparams: [a]\n{STAGES}")), @r"
    error[type]: expected text, found the number 5
     --> lab/p.yaml:2:7
      |
    2 | name: 5
      |       ^
      |
      = help: quote it to make it text

    error[number-range]: expected an integer from 0 to 18446744073709551615, found -1
     --> lab/p.yaml:3:7
      |
    3 | seed: -1
      |       ^^

    error[type]: `params` is a mapping, and this is a list
     --> lab/p.yaml:4:9
      |
    4 | params: [a]
      |         ^^^

    3 errors
    ");
    assert_snapshot!(wrong(&format!("mediant: 1\nname: ../x\nseed: 0.5\n{STAGES}")), @r"
    error[name]: this cannot be the name of a pipeline
     --> lab/p.yaml:2:7
      |
    2 | name: ../x
      |       ^^^^
      |
      = help: up to 100 letters, digits, `_`, `-` and `.`, not beginning with `.`: files are named after it

    error[type]: expected an integer, found the number 0.5
     --> lab/p.yaml:3:7
      |
    3 | seed: 0.5
      |       ^^^

    2 errors
    ");
    assert_snapshot!(wrong("mediant: 1\nstages: {}\n"), @r"
    error[missing-key]: a pipeline needs at least one stage
     --> lab/p.yaml:2:9
      |
    2 | stages: {}
      |         ^^
    ");
    assert_snapshot!(wrong("mediant: 1\nstages:\n  - uses: load_model\n"), @r"
    error[type]: `stages` is a mapping, and this is a list
     --> lab/p.yaml:3:3
      |
    3 |   - uses: load_model
      |   ^^^^^^^^^^^^^^^^^^
    ");
}

#[test]
fn keys_of_stages() {
    assert_snapshot!(wrong("mediant: 1\nstages:\n  Model: { uses: load_model }\n  2nd: { uses: load_model }\n"), @r"
    error[name]: `Model` cannot be the id of a stage
     --> lab/p.yaml:3:3
      |
    3 |   Model: { uses: load_model }
      |   ^^^^^
      |
      = help: a lower-case letter, then lower-case letters, digits, `_` and `-`; at most 64

    error[name]: `2nd` cannot be the id of a stage
     --> lab/p.yaml:4:3
      |
    4 |   2nd: { uses: load_model }
      |   ^^^
      |
      = help: a lower-case letter, then lower-case letters, digits, `_` and `-`; at most 64

    2 errors
    ");
    assert_snapshot!(wrong("mediant: 1\nstages:\n  m: { use: load_model, wiht: { source: x } }\n  n:\n"), @r"
    error[missing-key]: the key `uses` is missing
     --> lab/p.yaml:3:3
      |
    3 |   m: { use: load_model, wiht: { source: x } }
      |   ^ in this mapping

    error[unknown-key]: a stage has no `use`
     --> lab/p.yaml:3:8
      |
    3 |   m: { use: load_model, wiht: { source: x } }
      |        ^^^ unknown key
      |
      = help: did you mean `uses`?

    error[unknown-key]: a stage has no `wiht`
     --> lab/p.yaml:3:25
      |
    3 |   m: { use: load_model, wiht: { source: x } }
      |                         ^^^^ unknown key
      |
      = help: did you mean `with`?

    error[type]: a stage is a mapping, and this is nothing
     --> lab/p.yaml:4:3
      |
    4 |   n:
      |   ^

    4 errors
    ");
    assert_snapshot!(wrong("mediant: 1\nstages:\n  m: { uses: [load_model], with: 5, inputs: [a] }\n"), @r"
    error[type]: expected text, found a list
     --> lab/p.yaml:3:14
      |
    3 |   m: { uses: [load_model], with: 5, inputs: [a] }
      |              ^^^^^^^^^^^^

    error[type]: `with` is a mapping, and this is an integer
     --> lab/p.yaml:3:34
      |
    3 |   m: { uses: [load_model], with: 5, inputs: [a] }
      |                                  ^

    error[type]: `inputs` is a mapping, and this is a list
     --> lab/p.yaml:3:45
      |
    3 |   m: { uses: [load_model], with: 5, inputs: [a] }
      |                                             ^^^

    3 errors
    ");
    assert_snapshot!(wrong("mediant: 1\nstages:\n  m:\n    uses: load_model\n    resources: { cpus: 0, memory: 4, gpu: 1 }\n    retries: -1\n    timeout: 30\n"), @r"
    error[value]: invalid value: integer `0`, expected a nonzero u32
     --> lab/p.yaml:5:24
      |
    5 |     resources: { cpus: 0, memory: 4, gpu: 1 }
      |                        ^

    error[value]: expected an amount of memory such as `512MiB` or `4GiB`, found the number 4
     --> lab/p.yaml:5:35
      |
    5 |     resources: { cpus: 0, memory: 4, gpu: 1 }
      |                                   ^

    error[unknown-key]: `resources` has no `gpu`
     --> lab/p.yaml:5:38
      |
    5 |     resources: { cpus: 0, memory: 4, gpu: 1 }
      |                                      ^^^ unknown key
      |
      = help: did you mean `gpus`?

    error[number-range]: expected an integer from 0 to 4294967295, found -1
     --> lab/p.yaml:6:14
      |
    6 |     retries: -1
      |              ^^

    error[value]: expected a length of time such as `90s`, `30m` or `1h30m`, found the number 30
     --> lab/p.yaml:7:14
      |
    7 |     timeout: 30
      |              ^^

    5 errors
    ");
    assert_snapshot!(wrong("mediant: 1\nstages:\n  m:\n    uses: load_model\n    resources: { memory: 4 gigs }\n    timeout: 5 minutes\n"), @r"
    error[value]: expected an amount of memory such as `512MiB` or `4GiB`, found the text `4 gigs`
     --> lab/p.yaml:5:26
      |
    5 |     resources: { memory: 4 gigs }
      |                          ^^^^^^

    error[value]: expected a length of time such as `90s`, `30m` or `1h30m`, found the text `5 minutes`
     --> lab/p.yaml:6:14
      |
    6 |     timeout: 5 minutes
      |              ^^^^^^^^^

    2 errors
    ");
    assert_snapshot!(wrong("mediant: 1\nstages:\n  m: { uses: yes }\n  n: { uses: load_model, with: }\n"), @r"
    error[type]: `with` is a mapping, and this is nothing
     --> lab/p.yaml:4:26
      |
    4 |   n: { uses: load_model, with: }
      |                          ^^^^
    ");
}

#[test]
fn malformed_references_to_stages() {
    assert_snapshot!(wrong(r#"
mediant: 1
stages:
  m: { uses: load_model }
  a: { uses: tokenize, inputs: { model: 5 } }
  b: { uses: tokenize, inputs: { model: "" } }
  c: { uses: tokenize, inputs: { model: "m[step" } }
  d: { uses: tokenize, inputs: { model: "m[step]" } }
  e: { uses: tokenize, inputs: { model: "m.out[]" } }
  f: { uses: tokenize, inputs: { model: m.out.more } }
  g: { uses: tokenize, inputs: { model: "m[a=1,a=2]" } }
  h: { uses: tokenize, inputs: { model: [] } }
  i: { uses: tokenize, inputs: { model: { from: m, ovr: [x] } } }
  j: { uses: tokenize, inputs: { model: { over: [x] } } }
  k: { uses: tokenize, inputs: { model: { from: m, over: x } } }
  l: { uses: compare, inputs: { metrics: { "a b": m } } }
  m2: { uses: compare, inputs: { metrics: {} } }
"#), @r#"
    error[reference]: an input names a stage, and this is an integer
     --> lab/p.yaml:5:41
      |
    5 |   a: { uses: tokenize, inputs: { model: 5 } }
      |                                         ^
      |
      = help: for example `tokens.train`, `sae[name=topk16,seed=0]` or `model.checkpoints[step=100]`

    error[reference]: an input is a stage or `stage.output`
     --> lab/p.yaml:6:41
      |
    6 |   b: { uses: tokenize, inputs: { model: "" } }
      |                                         ^
      |
      = help: for example `tokens.train`, `sae[name=topk16,seed=0]` or `model.checkpoints[step=100]`

    error[reference]: this `[` is not closed
     --> lab/p.yaml:7:43
      |
    7 |   c: { uses: tokenize, inputs: { model: "m[step" } }
      |                                           ^
      |
      = help: for example `tokens.train`, `sae[name=topk16,seed=0]` or `model.checkpoints[step=100]`

    error[reference]: a selection is `axis=label`
     --> lab/p.yaml:8:44
      |
    8 |   d: { uses: tokenize, inputs: { model: "m[step]" } }
      |                                            ^^^^
      |
      = help: for example `tokens.train`, `sae[name=topk16,seed=0]` or `model.checkpoints[step=100]`

    error[reference]: a key is missing
     --> lab/p.yaml:9:47
      |
    9 |   e: { uses: tokenize, inputs: { model: "m.out[]" } }
      |                                               ^^
      |
      = help: for example `tokens.train`, `sae[name=topk16,seed=0]` or `model.checkpoints[step=100]`

    error[reference]: this does not belong to a reference
      --> lab/p.yaml:10:46
       |
    10 |   f: { uses: tokenize, inputs: { model: m.out.more } }
       |                                              ^^^^^
       |
       = help: for example `tokens.train`, `sae[name=topk16,seed=0]` or `model.checkpoints[step=100]`

    error[reference]: this axis is selected twice
      --> lab/p.yaml:11:48
       |
    11 |   g: { uses: tokenize, inputs: { model: "m[a=1,a=2]" } }
       |                                                ^^^
       |
       = help: for example `tokens.train`, `sae[name=topk16,seed=0]` or `model.checkpoints[step=100]`

    error[reference]: this list is empty
      --> lab/p.yaml:12:41
       |
    12 |   h: { uses: tokenize, inputs: { model: [] } }
       |                                         ^^

    error[unknown-key]: a collected input has no `ovr`
      --> lab/p.yaml:13:52
       |
    13 |   i: { uses: tokenize, inputs: { model: { from: m, ovr: [x] } } }
       |                                                    ^^^ unknown key
       |
       = help: did you mean `over`?

    error[missing-key]: the key `from` is missing
      --> lab/p.yaml:14:41
       |
    14 |   j: { uses: tokenize, inputs: { model: { over: [x] } } }
       |                                         ^^^^^^^^^^^^^ in this mapping

    error[type]: expected a list, found the text `x`
      --> lab/p.yaml:15:58
       |
    15 |   k: { uses: tokenize, inputs: { model: { from: m, over: x } } }
       |                                                          ^

    error[name]: `a b` cannot name a member
      --> lab/p.yaml:16:44
       |
    16 |   l: { uses: compare, inputs: { metrics: { "a b": m } } }
       |                                            ^^^^^
       |
       = help: letters, digits, `_` and `-`

    error[reference]: this mapping names no members
      --> lab/p.yaml:17:43
       |
    17 |   m2: { uses: compare, inputs: { metrics: {} } }
       |                                           ^^

    13 errors
    "#);
}

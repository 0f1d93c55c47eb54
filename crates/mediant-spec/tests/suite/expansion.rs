//! The axis rules: what runs, how often, and what it gets.

use insta::assert_snapshot;

use super::support::{SWEEP, expanded, read, show};

/// Stages for the short pipelines below: `m` a model, `t` tokens, `a` activations.
fn after(stages: &str) -> String {
    format!(
        "mediant: 1\nseed: 7\nstages:\n  m: {{ uses: load_model, with: {{ source: x }} }}\n  t: {{ uses: tokenize }}\n  \
         a: {{ uses: cache_activations, inputs: {{ model: m, tokens: t.train }} }}\n{stages}"
    )
}

fn shown(stages: &str) -> String {
    let all = show(&expanded(&after(stages)));
    // The three stages that are always the same are left out.
    all.split_once("tokens <- t.train\n").unwrap().1.to_owned()
}

#[test]
fn the_example_of_the_design() {
    assert_snapshot!(show(&expanded(SWEEP)), @r#"
    model {"source": "../datasets/models/tiny-gpt2"}
    tokens {"source": "../datasets/text/grammar.txt", "context": 128}
        model <- model
    acts {"hooks": ["blocks.2.hook_resid_post"]}
        model <- model
        tokens <- tokens.train
    sae[name=topk16,seed=0] {"d_sae": 2048, "sae": {"architecture": "topk", "k": 16}, "seed": 0}
        activations <- acts
    sae[name=topk16,seed=1] {"d_sae": 2048, "sae": {"architecture": "topk", "k": 16}, "seed": 1}
        activations <- acts
    sae[name=afa,seed=0] {"d_sae": 2048, "sae": {"architecture": "top_afa", "afa_coeff": 0.03125}, "seed": 0}
        activations <- acts
    eval[name=topk16,seed=0] {}
        model <- model
        sae <- sae[name=topk16,seed=0]
        tokens <- tokens.test
    eval[name=topk16,seed=1] {}
        model <- model
        sae <- sae[name=topk16,seed=1]
        tokens <- tokens.test
    eval[name=afa,seed=0] {}
        model <- model
        sae <- sae[name=afa,seed=0]
        tokens <- tokens.test
    compare[name=topk16] {}
        metrics <- eval[name=topk16,seed=0] @seed=0; eval[name=topk16,seed=1] @seed=1
    compare[name=afa] {}
        metrics <- eval[name=afa,seed=0] @seed=0
    "#);
}

#[test]
fn axes_carry_over_and_are_joined() {
    // `b` reads `s` twice over: once itself and once through `e`, which has the same axes.
    assert_snapshot!(shown("
  s: { uses: train_sae, inputs: { activations: a }, matrix: { k: [1, 2] }, with: { k: '${matrix.k}' } }
  e: { uses: evaluate_sae, inputs: { model: m, sae: s, tokens: t.test } }
  b: { uses: command, inputs: { metrics: e, sae: s } }
"), @r#"
    s[k=1] {"k": 1, "seed": 7}
        activations <- a
    s[k=2] {"k": 2, "seed": 7}
        activations <- a
    e[k=1] {}
        model <- m
        sae <- s[k=1]
        tokens <- t.test
    e[k=2] {}
        model <- m
        sae <- s[k=2]
        tokens <- t.test
    b[k=1] {}
        metrics <- e[k=1]
        sae <- s[k=1]
    b[k=2] {}
        metrics <- e[k=2]
        sae <- s[k=2]
    "#);
}

#[test]
fn different_axes_are_crossed() {
    assert_snapshot!(shown("
  s: { uses: train_sae, inputs: { activations: a }, matrix: { k: [1, 2] }, with: { k: '${matrix.k}' } }
  u: { uses: tokenize, matrix: { context: [64, 128] }, with: { context: '${matrix.context}' } }
  e: { uses: evaluate_sae, inputs: { model: m, sae: s, tokens: u.test } }
"), @r#"
    s[k=1] {"k": 1, "seed": 7}
        activations <- a
    s[k=2] {"k": 2, "seed": 7}
        activations <- a
    u[context=64] {"context": 64}
    u[context=128] {"context": 128}
    e[context=64,k=1] {}
        model <- m
        sae <- s[k=1]
        tokens <- u[context=64].test
    e[context=64,k=2] {}
        model <- m
        sae <- s[k=2]
        tokens <- u[context=64].test
    e[context=128,k=1] {}
        model <- m
        sae <- s[k=1]
        tokens <- u[context=128].test
    e[context=128,k=2] {}
        model <- m
        sae <- s[k=2]
        tokens <- u[context=128].test
    "#);
}

#[test]
fn own_axes_are_crossed_with_those_of_inputs() {
    assert_snapshot!(shown("
  u: { uses: tokenize, matrix: { context: [64, 128] }, with: { context: '${matrix.context}' } }
  c: { uses: cache_activations, inputs: { model: m, tokens: u.train }, matrix: { at: [0, 1] }, with: { x: '${matrix.at}' } }
"), @r#"
    u[context=64] {"context": 64}
    u[context=128] {"context": 128}
    c[at=0,context=64] {"x": 0}
        model <- m
        tokens <- u[context=64].train
    c[at=0,context=128] {"x": 0}
        model <- m
        tokens <- u[context=128].train
    c[at=1,context=64] {"x": 1}
        model <- m
        tokens <- u[context=64].train
    c[at=1,context=128] {"x": 1}
        model <- m
        tokens <- u[context=128].train
    "#);
}

#[test]
fn a_port_that_takes_many_collects_all_axes_or_some() {
    assert_snapshot!(shown("
  s: { uses: train_sae, inputs: { activations: a }, matrix: { k: [1, 2], seed: [0, 1] }, with: { k: '${matrix.k}', seed: '${matrix.seed}' } }
  all: { uses: compare, inputs: { metrics: s } }
  some: { uses: compare, inputs: { metrics: { from: s, over: [seed] } } }
  none: { uses: compare, inputs: { metrics: { from: s, over: [] } } }
  joined: { uses: compare, inputs: { metrics: { from: s, over: [seed] }, baseline: 's[seed=0]' } }
"), @r#"
    s[k=1,seed=0] {"k": 1, "seed": 0}
        activations <- a
    s[k=1,seed=1] {"k": 1, "seed": 1}
        activations <- a
    s[k=2,seed=0] {"k": 2, "seed": 0}
        activations <- a
    s[k=2,seed=1] {"k": 2, "seed": 1}
        activations <- a
    all {}
        metrics <- s[k=1,seed=0] @k=1 @seed=0; s[k=1,seed=1] @k=1 @seed=1; s[k=2,seed=0] @k=2 @seed=0; s[k=2,seed=1] @k=2 @seed=1
    some[k=1] {}
        metrics <- s[k=1,seed=0] @seed=0; s[k=1,seed=1] @seed=1
    some[k=2] {}
        metrics <- s[k=2,seed=0] @seed=0; s[k=2,seed=1] @seed=1
    none[k=1,seed=0] {}
        metrics <- s[k=1,seed=0]
    none[k=1,seed=1] {}
        metrics <- s[k=1,seed=1]
    none[k=2,seed=0] {}
        metrics <- s[k=2,seed=0]
    none[k=2,seed=1] {}
        metrics <- s[k=2,seed=1]
    joined[k=1] {}
        metrics <- s[k=1,seed=0] @seed=0; s[k=1,seed=1] @seed=1
        baseline <- s[k=1,seed=0]
    joined[k=2] {}
        metrics <- s[k=2,seed=0] @seed=0; s[k=2,seed=1] @seed=1
        baseline <- s[k=2,seed=0]
    "#);
}

#[test]
fn lists_and_named_members() {
    assert_snapshot!(shown("
  n: { uses: load_model, matrix: { step: [1, 2] }, with: { source: '${matrix.step}' } }
  list: { uses: compare_models, inputs: { models: [m, 'n[step=2]', n.final] } }
  named: { uses: compare_models, inputs: { models: { original: m, other: 'n.checkpoints[step=100]' } } }
  same: { uses: compare_models, inputs: { models: { one: m, two: m } } }
"), @r#"
    n[step=1] {"source": 1}
    n[step=2] {"source": 2}
    list {}
        models <- m; n[step=2]; n[step=1].final @step=1; n[step=2].final @step=2
    named {}
        models <- original=m; other=n[step=1].checkpoints[step=100] @step=1; other=n[step=2].checkpoints[step=100] @step=2
    same {}
        models <- one=m; two=m
    "#);
}

#[test]
fn selections_fix_axes() {
    assert_snapshot!(shown("
  s: { uses: train_sae, inputs: { activations: a }, matrix: { k: [1, 2], seed: [0, 1] }, with: { k: '${matrix.k}', seed: '${matrix.seed}' } }
  one: { uses: evaluate_sae, inputs: { model: m, sae: 's[seed=1,k=2]', tokens: t.test } }
  half: { uses: evaluate_sae, inputs: { model: m, sae: 's[k=2]', tokens: t.test } }
"), @r#"
    s[k=1,seed=0] {"k": 1, "seed": 0}
        activations <- a
    s[k=1,seed=1] {"k": 1, "seed": 1}
        activations <- a
    s[k=2,seed=0] {"k": 2, "seed": 0}
        activations <- a
    s[k=2,seed=1] {"k": 2, "seed": 1}
        activations <- a
    one {}
        model <- m
        sae <- s[k=2,seed=1]
        tokens <- t.test
    half[seed=0] {}
        model <- m
        sae <- s[k=2,seed=0]
        tokens <- t.test
    half[seed=1] {}
        model <- m
        sae <- s[k=2,seed=1]
        tokens <- t.test
    "#);
}

#[test]
fn labels_that_need_quotes() {
    assert_snapshot!(shown(r#"
  u: { uses: tokenize, matrix: { text: ["a, b", "x]", plain, {p: 1, q: [2, 3]}, {name: short, p: 5}, null] }, with: { source: "${matrix.text}" } }
  v: { uses: tokenize, inputs: { model: 'u[text="a, b"]' } }
  w: { uses: tokenize, inputs: { model: 'u[text=short]' } }
"#), @r#"
    u[text="a, b"] {"source": "a, b"}
    u[text="x]"] {"source": "x]"}
    u[text=plain] {"source": "plain"}
    u[text="p=1,q=[2,3]"] {"source": {"p": 1, "q": [2, 3]}}
    u[text=short] {"source": {"p": 5}}
    u[text=null] {"source": null}
    v {}
        model <- u[text="a, b"]
    w {}
        model <- u[text=short]
    "#);
}

#[test]
fn nothing_depends_on_the_order_of_keys() {
    let one = "
  s: { uses: train_sae, inputs: { activations: a }, matrix: { k: [1, 2], b: [3] }, with: { k: '${matrix.k}', b: '${matrix.b}' } }
  e: { uses: evaluate_sae, inputs: { model: m, sae: s, tokens: t.test } }
";
    let other = "
  s: { with: { k: '${matrix.k}', b: '${matrix.b}' }, matrix: { b: [3], k: [1, 2] }, inputs: { activations: a }, uses: train_sae }
  e: { uses: evaluate_sae, inputs: { tokens: t.test, sae: s, model: m } }
";
    assert_eq!(shown(one), shown(other));
}

#[test]
fn carried_axes_can_be_read_downstream() {
    assert_snapshot!(shown("
  s: { uses: train_sae, inputs: { activations: a }, matrix: { include: [{ name: x, sae: { k: 1 } }] }, with: { sae: '${matrix.sae}' } }
  e: { uses: evaluate_sae, inputs: { model: m, sae: s, tokens: t.test }, with: { title: 'SAE ${matrix.name}, k = ${matrix.sae.k}' } }
"), @r#"
    s[name=x] {"sae": {"k": 1}, "seed": 7}
        activations <- a
    e[name=x] {"title": "SAE x, k = 1"}
        model <- m
        sae <- s[name=x]
        tokens <- t.test
    "#);
}

#[test]
fn producers_come_first_whatever_the_order_in_the_file() {
    let expansion = expanded(
        "mediant: 1\nstages:\n  z: { uses: compare, inputs: { metrics: [y, x] } }\n  y: { uses: tokenize, inputs: { model: x } }\n  \
         x: { uses: load_model }\n",
    );
    let labels: Vec<&str> = expansion.instances.iter().map(|instance| instance.label.as_str()).collect();
    assert_eq!(labels, ["x", "y", "z"]);
}

#[test]
fn the_pipeline_seed_is_the_default_of_stages_that_have_one() {
    let expansion = expanded(&after(
        "
  s: { uses: train_sae, inputs: { activations: a } }
  u: { uses: train_sae, inputs: { activations: a }, with: { seed: 3 } }
  v: { uses: tokenize }
",
    ));
    let seed = |label: &str| {
        let instance = expansion.instances.iter().find(|instance| instance.label == label).unwrap();
        instance.with.get("seed").map(super::support::flow)
    };
    assert_eq!([seed("s"), seed("u"), seed("v")], [Some("7".to_owned()), Some("3".to_owned()), None]);
}

#[test]
fn what_stages_ask_for() {
    let pipeline = read(
        "mediant: 1\nparams: { m: 1.5GiB }\nstages:\n  x: { uses: load_model, resources: { cpus: 2, memory: '${params.m}', gpus: 1 }, \
         timeout: 1d2h3m4s, retries: 3 }\n",
    );
    let stage = &pipeline.stages["x"];
    assert_eq!((stage.resources.cpus, stage.resources.memory, stage.resources.gpus), (Some(2), Some(3 << 29), Some(1)));
    assert_eq!((stage.timeout.unwrap().as_secs(), stage.retries), (86_400 + 7_200 + 180 + 4, Some(3)));
    assert_eq!((pipeline.name.as_str(), pipeline.dir.to_str().unwrap()), ("p", "lab"));
}

#[test]
fn substitution_keeps_types() {
    assert_snapshot!(show(&expanded(r#"
mediant: 1
name: types
params:
  lr: 1e-3
  layer: 2
  deep: { a: [1, x], b: "${params.layer}" }
  text: "at ${params.lr}"
  none: null
stages:
  x:
    uses: command
    with:
      whole: "${params.deep}"
      part: "${params.deep.a}"
      text: "${params.text} in ${pipeline.name}: layer ${ params.layer }"
      null: "${params.none}"
      escaped: "$${params.lr} $$${params.lr} $5 {x}"
"#)), @r#"x {"whole": {"a": [1, "x"], "b": 2}, "part": [1, "x"], "text": "at 1e-3 in types: layer 2", "null": null, "escaped": "${params.lr} $${params.lr} $5 {x}"}"#);
}

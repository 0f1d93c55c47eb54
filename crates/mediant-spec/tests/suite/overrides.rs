//! `--set`.

use std::path::Path;

use insta::assert_snapshot;
use mediant_spec::{expand, parse};

use super::support::{Catalogue, SWEEP, flow, show, wrong_with};

fn with_overrides(overrides: &[&str]) -> mediant_spec::Pipeline {
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    parse(Path::new("lab/p.yaml"), SWEEP, &overrides).unwrap_or_else(|failure| panic!("{failure}"))
}

#[test]
fn values_of_all_kinds() {
    let pipeline = with_overrides(&[
        "params.layer=3",
        "stages.sae.with.d_sae=64",
        "stages.sae.with.sae={ architecture: relu, of: \"${matrix.sae}\" }",
        // Nothing reads `params.layer` any more, and that is no error: the override did it.
        "stages.acts.with.hooks[0]=blocks.*.hook_resid_post",
        "stages.eval.with.batch=1e2",
        "stages.eval.resources.cpus=2",
        "stages.sae.matrix.seed=[5]",
        "stages.sae.matrix.exclude=[{name: afa}]",
        "seed=1",
        "name=other",
    ]);
    assert_eq!(flow(&pipeline.params["layer"]), "3");
    assert_eq!(pipeline.overrides[0], ("params.layer".to_owned(), "3".to_owned()));
    assert_eq!(pipeline.stages["eval"].resources.cpus, Some(2));
    let expansion = expand(&pipeline, &Catalogue).unwrap();
    assert_snapshot!(show(&expansion), @r#"
    model {"source": "../datasets/models/tiny-gpt2"}
    tokens {"source": "../datasets/text/grammar.txt", "context": 128}
        model <- model
    acts {"hooks": ["blocks.*.hook_resid_post"]}
        model <- model
        tokens <- tokens.train
    sae[name=topk16,seed=5] {"d_sae": 64, "sae": {"architecture": "relu", "of": {"architecture": "topk", "k": 16}}, "seed": 5}
        activations <- acts
    eval[name=topk16,seed=5] {"batch": 100.0}
        model <- model
        sae <- sae[name=topk16,seed=5]
        tokens <- tokens.test
    compare[name=topk16] {}
        metrics <- eval[name=topk16,seed=5] @seed=5
    "#);
}

#[test]
fn wrong_overrides() {
    let wrong = |text| wrong_with(SWEEP, &[text]);
    assert_snapshot!(wrong("params.layer"), @r"
    error[override]: an override is `path=value`
     --> --set:1:1
      |
    1 | params.layer
      | ^^^^^^^^^^^^
      |
      = help: for example `params.layer=3`
    ");
    assert_snapshot!(wrong("=3"), @r"
    error[override]: a path comes before the `=`
     --> --set:1:1
      |
    1 | =3
      | ^
      |
      = help: for example `params.layer=3`
    ");
    assert_snapshot!(wrong("params.lyer=3"), @r"
    error[override]: `params` has no `lyer`
     --> --set:1:8
      |
    1 | params.lyer=3
      |        ^^^^
      |
      = help: did you mean `layer`?
    ");
    assert_snapshot!(wrong("stages.sea.with.d_sae=3"), @r"
    error[override]: `stages` has no `sea`
     --> --set:1:8
      |
    1 | stages.sea.with.d_sae=3
      |        ^^^
      |
      = help: did you mean `sae`?
    ");
    assert_snapshot!(wrong("stages.sae.wth.d_sae=3"), @r"
    error[override]: `stages.sae` has no `wth`
     --> --set:1:12
      |
    1 | stages.sae.wth.d_sae=3
      |            ^^^
      |
      = help: did you mean `with`?
    ");
    assert_snapshot!(wrong("stages.acts.with.hooks[4]=x"), @r"
    error[override]: `stages.acts.with.hooks` has no item `4`
     --> --set:1:24
      |
    1 | stages.acts.with.hooks[4]=x
      |                        ^
      |
      = help: it is a list of 1, counted from 0
    ");
    assert_snapshot!(wrong("stages.sae.with.sae.k=3"), @r"
    error[override]: `stages.sae.with.sae` is text, so there is no `k` in it
     --> --set:1:21
      |
    1 | stages.sae.with.sae.k=3
      |                     ^
      |
      = help: set `stages.sae.with.sae` as a whole
    ");
    assert_snapshot!(wrong("sede=3"), @r"
    error[unknown-key]: a pipeline has no `sede`
     --> --set:1:1
      |
    1 | sede=3
      | ^^^^ unknown key
      |
      = help: did you mean `seed`?
    ");
    assert_snapshot!(wrong("seed=-3"), @r"
    error[number-range]: expected an integer from 0 to 18446744073709551615, found -3
     --> --set:1:6
      |
    1 | seed=-3
      |      ^^
    ");
    assert_snapshot!(wrong("params.layer=[1"), @r"
    error[yaml]: unclosed bracket '['
     --> --set:1:14
      |
    1 | params.layer=[1
      |              ^
    ");
    assert_snapshot!(wrong("stages.sae.inputs.activations=act"), @r"
    error[unknown-stage]: there is no stage `act`
     --> --set:1:31
      |
    1 | stages.sae.inputs.activations=act
      |                               ^^^
      |
      = help: did you mean `acts`?
    ");
}

//! Options into typed configs.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;

use insta::assert_snapshot;
use mediant_spec::{Diagnostics, expand, from_node, node_at, parse};
use serde::Deserialize;

use super::support::{Catalogue, flow};

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Config {
    d_sae: u32,
    #[serde(default)]
    lr: f64,
    batch: Option<NonZeroU32>,
    #[serde(default)]
    title: String,
    #[serde(default)]
    sae: Option<Sae>,
    #[serde(default)]
    hooks: Vec<String>,
    #[serde(default)]
    small: i8,
    #[serde(default)]
    half: f32,
    #[serde(default)]
    flag: bool,
    #[serde(default)]
    betas: Option<(f64, f64)>,
    #[serde(default)]
    norm: Norm,
    #[serde(default)]
    by_layer: BTreeMap<u8, Steps>,
    #[serde(default)]
    any: Option<BTreeMap<String, Steps>>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Steps(u64);

#[derive(Debug, Deserialize, PartialEq, Default)]
#[serde(rename_all = "snake_case")]
enum Norm {
    #[default]
    Layer,
    Rms,
    Scaled {
        by: f64,
    },
    Power(u8),
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Sae {
    architecture: String,
    k: Option<u32>,
}

/// The errors of a config written under `with`, with `params` above it.
fn config(params: &str, with: &str) -> Result<Config, String> {
    let text = format!("mediant: 1\nparams: {params}\nstages:\n  s:\n    uses: command\n    with: {with}\n");
    let pipeline = parse(Path::new("p.yaml"), &text, &[]).unwrap_or_else(|failure| panic!("{failure}"));
    let expansion = expand(&pipeline, &Catalogue).unwrap();
    from_node(&expansion.instances[0].with)
        .map_err(|errors| Diagnostics::new(errors).unwrap().render(&pipeline.sources, false))
}

fn wrong(with: &str) -> String {
    config("{}", with).unwrap_err()
}

#[test]
fn good_configs() {
    let config = config(
        "{ sae: { architecture: topk, k: 16 }, n: 64 }",
        r#"{ d_sae: "${params.n}", lr: 1, batch: 8, sae: "${params.sae}", hooks: [a, "b${params.n}"], small: -128, half: 0.5,
             flag: true, betas: [0.9, 1], norm: { scaled: { by: 2 } }, by_layer: { 3: 4 }, any: null }"#,
    )
    .unwrap();
    assert_eq!(
        config,
        Config {
            d_sae: 64,
            lr: 1.0,
            batch: NonZeroU32::new(8),
            title: String::new(),
            sae: Some(Sae { architecture: "topk".to_owned(), k: Some(16) }),
            hooks: vec!["a".to_owned(), "b64".to_owned()],
            small: -128,
            half: 0.5,
            flag: true,
            betas: Some((0.9, 1.0)),
            norm: Norm::Scaled { by: 2.0 },
            by_layer: BTreeMap::from([(3, Steps(4))]),
            any: None,
        }
    );
    for (written, norm) in [("rms", Norm::Rms), ("{ power: 3 }", Norm::Power(3))] {
        assert_eq!(super::config::config("{}", &format!("{{ d_sae: 1, norm: {written} }}")).unwrap().norm, norm);
    }
}

#[test]
fn everything_wrong_at_once() {
    assert_snapshot!(wrong(r#"
      d_sae: "64"
      lr: fast
      learning_rate: 3
      batch: 0
      title: 2024
      sae: { k: many, kk: 3 }
      hooks: [a, 5, [b]]
      small: 128
      half: 1e300
      flag: yes
      betas: [0.9]
      norm: layr
      by_layer: { x: 1, 3: -1 }
      any: 3"#), @r#"
    error[type]: expected an integer, found the text `64`
     --> p.yaml:7:14
      |
    7 |       d_sae: "64"
      |              ^^^^
      |
      = help: remove the quotes to make it a number

    error[type]: expected a number, found the text `fast`
     --> p.yaml:8:11
      |
    8 |       lr: fast
      |           ^^^^

    error[unknown-key]: there is no `learning_rate` here
     --> p.yaml:9:7
      |
    9 |       learning_rate: 3
      |       ^^^^^^^^^^^^^ unknown key
      |
      = help: the keys are `d_sae`, `lr`, `batch`, `title`, `sae`, `hooks`, `small`, `half`, `flag`, `betas`, `norm`, `by_layer` and 1 more

    error[value]: invalid value: integer `0`, expected a nonzero u32
      --> p.yaml:10:14
       |
    10 |       batch: 0
       |              ^

    error[type]: expected text, found the number 2024
      --> p.yaml:11:14
       |
    11 |       title: 2024
       |              ^^^^
       |
       = help: quote it to make it text

    error[missing-key]: the key `architecture` is missing
      --> p.yaml:12:12
       |
    12 |       sae: { k: many, kk: 3 }
       |            ^^^^^^^^^^^^^^^^^^ in this mapping

    error[type]: expected an integer, found the text `many`
      --> p.yaml:12:17
       |
    12 |       sae: { k: many, kk: 3 }
       |                 ^^^^

    error[unknown-key]: there is no `kk` here
      --> p.yaml:12:23
       |
    12 |       sae: { k: many, kk: 3 }
       |                       ^^ unknown key
       |
       = help: did you mean `k`?

    error[type]: expected text, found the number 5
      --> p.yaml:13:18
       |
    13 |       hooks: [a, 5, [b]]
       |                  ^
       |
       = help: quote it to make it text

    error[type]: expected text, found a list
      --> p.yaml:13:21
       |
    13 |       hooks: [a, 5, [b]]
       |                     ^^^

    error[number-range]: expected an integer from -128 to 127, found 128
      --> p.yaml:14:14
       |
    14 |       small: 128
       |              ^^^

    error[number-range]: 1e300 is too large: the largest is 3.4028234663852886e38
      --> p.yaml:15:13
       |
    15 |       half: 1e300
       |             ^^^^^

    error[type]: expected `true` or `false`, found the text `yes`
      --> p.yaml:16:13
       |
    16 |       flag: yes
       |             ^^^
       |
       = help: `yes` is text in YAML 1.2

    error[type]: expected a list of 2, found a list of 1
      --> p.yaml:17:14
       |
    17 |       betas: [0.9]
       |              ^^^^^

    error[unknown-value]: `layr` is not known here
      --> p.yaml:18:13
       |
    18 |       norm: layr
       |             ^^^^
       |
       = help: did you mean `layer`?

    error[type]: expected an integer as the key, found `x`
      --> p.yaml:19:19
       |
    19 |       by_layer: { x: 1, 3: -1 }
       |                   ^

    error[number-range]: expected an integer from 0 to 18446744073709551615, found -1
      --> p.yaml:19:28
       |
    19 |       by_layer: { x: 1, 3: -1 }
       |                            ^^

    error[type]: expected a mapping, found the number 3
      --> p.yaml:20:12
       |
    20 |       any: 3
       |            ^

    18 errors
    "#);
}

#[test]
fn missing_keys() {
    assert_snapshot!(wrong("{ lr: 1 }"), @r"
    error[missing-key]: the key `d_sae` is missing
     --> p.yaml:6:11
      |
    6 |     with: { lr: 1 }
      |           ^^^^^^^^^ in this mapping
    ");
    assert_snapshot!(wrong("{}"), @r"
    error[missing-key]: the key `d_sae` is missing
     --> p.yaml:6:11
      |
    6 |     with: {}
      |           ^^ in this mapping
    ");
    assert_snapshot!(wrong("{ d_sae: 1, sae: {} }"), @r"
    error[missing-key]: the key `architecture` is missing
     --> p.yaml:6:28
      |
    6 |     with: { d_sae: 1, sae: {} }
      |                            ^^ in this mapping
    ");
}

#[test]
fn enums() {
    assert_snapshot!(wrong("{ d_sae: 1, norm: scaled }"), @r"
    error[type]: `scaled` needs more to be said
     --> p.yaml:6:29
      |
    6 |     with: { d_sae: 1, norm: scaled }
      |                             ^^^^^^
      |
      = help: write `{ scaled: … }`
    ");
    assert_snapshot!(wrong("{ d_sae: 1, norm: { rms: { by: 1 } } }"), @r"
    error[type]: `rms` has no options
     --> p.yaml:6:36
      |
    6 |     with: { d_sae: 1, norm: { rms: { by: 1 } } }
      |                                    ^^^^^^^^^
      |
      = help: write `rms` alone
    ");
    assert_snapshot!(wrong("{ d_sae: 1, norm: { scaled: { by: x, to: 1 } } }"), @r"
    error[type]: expected a number, found the text `x`
     --> p.yaml:6:45
      |
    6 |     with: { d_sae: 1, norm: { scaled: { by: x, to: 1 } } }
      |                                             ^

    error[unknown-key]: there is no `to` here
     --> p.yaml:6:48
      |
    6 |     with: { d_sae: 1, norm: { scaled: { by: x, to: 1 } } }
      |                                                ^^ unknown key
      |
      = help: the keys are `by`

    2 errors
    ");
    assert_snapshot!(wrong("{ d_sae: 1, norm: { rms: 1, layer: 2 } }"), @r"
    error[type]: expected one of `layer`, `rms`, `scaled`, `power`, found a mapping
     --> p.yaml:6:29
      |
    6 |     with: { d_sae: 1, norm: { rms: 1, layer: 2 } }
      |                             ^^^^^^^^^^^^^^^^^^^^
    ");
    assert_snapshot!(wrong("{ d_sae: 1, norm: 7 }"), @r"
    error[type]: expected one of `layer`, `rms`, `scaled`, `power`, found the number 7
     --> p.yaml:6:29
      |
    6 |     with: { d_sae: 1, norm: 7 }
      |                             ^
    ");
}

#[test]
fn integers() {
    assert_snapshot!(wrong("{ d_sae: 1e3 }"), @r"
    error[type]: expected an integer, found the number 1000.0
     --> p.yaml:6:20
      |
    6 |     with: { d_sae: 1e3 }
      |                    ^^^
      |
      = help: write `1000`, without a point or an exponent
    ");
    assert_snapshot!(wrong("{ d_sae: 4294967296 }"), @r"
    error[number-range]: expected an integer from 0 to 4294967295, found 4294967296
     --> p.yaml:6:20
      |
    6 |     with: { d_sae: 4294967296 }
      |                    ^^^^^^^^^^
    ");
    assert_snapshot!(wrong("{ d_sae: -1 }"), @r"
    error[number-range]: expected an integer from 0 to 4294967295, found -1
     --> p.yaml:6:20
      |
    6 |     with: { d_sae: -1 }
      |                    ^^
    ");
    assert_snapshot!(wrong("{ d_sae: 18446744073709551615 }"), @r"
    error[number-range]: expected an integer from 0 to 4294967295, found 18446744073709551615
     --> p.yaml:6:20
      |
    6 |     with: { d_sae: 18446744073709551615 }
      |                    ^^^^^^^^^^^^^^^^^^^^
    ");
    assert_snapshot!(wrong("{ d_sae: .nan }"), @r"
    error[type]: expected an integer, found the number NaN
     --> p.yaml:6:20
      |
    6 |     with: { d_sae: .nan }
      |                    ^^^^
    ");
    assert_snapshot!(wrong("{ d_sae: }"), @r"
    error[type]: expected an integer, found nothing
     --> p.yaml:6:13
      |
    6 |     with: { d_sae: }
      |             ^^^^^
    ");
}

#[test]
fn substituted_values_show_both_places() {
    assert_snapshot!(config("{ sae: { architecture: topk, k: -1, kk: 2 } }", r#"{ d_sae: 1, sae: "${params.sae}" }"#).unwrap_err(), @r#"
    error[number-range]: expected an integer from 0 to 4294967295, found -1
     --> p.yaml:2:41
      |
    2 | params: { sae: { architecture: topk, k: -1, kk: 2 } }
      |                                         ^^
    ...
    6 |     with: { d_sae: 1, sae: "${params.sae}" }
      |                            --------------- used here

    error[unknown-key]: there is no `kk` here
     --> p.yaml:2:45
      |
    2 | params: { sae: { architecture: topk, k: -1, kk: 2 } }
      |                                             ^^ unknown key
    ...
    6 |     with: { d_sae: 1, sae: "${params.sae}" }
      |                            --------------- used here
      |
      = help: did you mean `k`?

    2 errors
    "#);
}

#[test]
fn paths_to_nodes() {
    let text = "mediant: 1\nstages:\n  s: { uses: command, with: { sae: { k: 1 }, hooks: [a, b] } }\n";
    let pipeline = parse(Path::new("p.yaml"), text, &[]).unwrap();
    let with = &pipeline.stages["s"].with;
    let at = |path| flow(node_at(with, path));
    assert_eq!([at("sae.k"), at("hooks[1]"), at("sae.x.y")], ["1", "\"b\"", "{\"k\": 1}"]);
    assert_eq!([at("hooks[2]"), at("")], ["[\"a\", \"b\"]".to_owned(), flow(with)]);
}

//! Pages about artifacts of every kind.

use insta::{Settings, assert_snapshot};
use mediant_artifact::Mediator;
use mediant_report::{ShowOptions, Terminal, show};

use super::artifacts::{self, Made};

const PLAIN: ShowOptions<'_> = ShowOptions { head: 2, metrics: 20, decode: None };

fn page(made: &Made, options: &ShowOptions<'_>) -> String {
    show(&made.artifact, "stage", options).unwrap().to_terminal(Terminal::PLAIN)
}

/// Sizes of files and digests over their layout belong to the artifact crate's own tests.
fn without_sizes(check: impl FnOnce()) {
    let mut settings = Settings::clone_current();
    settings.add_filter(r"(size +|\d  +)[\d.]+ K?i?B", "$1[size]");
    settings.add_filter(r"(logical digest +)[0-9a-f]{12}", "$1[digest]");
    settings.bind(check);
}

#[test]
fn every_kind() {
    without_sizes(|| {
        assert_snapshot!("show_model", page(&artifacts::model(), &PLAIN));
        assert_snapshot!("show_files", page(&artifacts::plain_files(), &PLAIN));
        assert_snapshot!("show_tokenizer", page(&artifacts::tokenizer(), &PLAIN));
        assert_snapshot!("show_tokens", page(&artifacts::tokens(), &PLAIN));
        assert_snapshot!("show_prompts", page(&artifacts::prompts(), &PLAIN));
        assert_snapshot!("show_effects", page(&artifacts::effects(), &PLAIN));
        assert_snapshot!("show_labels", page(&artifacts::labels(), &PLAIN));
        assert_snapshot!("show_activations", page(&artifacts::activations(), &PLAIN));
        assert_snapshot!("show_dictionary", page(&artifacts::dictionary(), &PLAIN));
        assert_snapshot!("show_directions", page(&artifacts::directions(), &PLAIN));
        assert_snapshot!("show_table", page(&artifacts::table(), &PLAIN));
    });
}

#[test]
fn metrics_show_their_tags() {
    let mut quantile = artifacts::metric("ce", 3.25);
    quantile.unit = "nats".to_string();
    quantile.tags.insert("quantile".to_string(), "0.9".to_string());
    let mut ratio = artifacts::metric("ce_recovered", 0.98);
    (ratio.numerator, ratio.denominator, ratio.low) = (Some(4.9), Some(5.0), None);
    let made = artifacts::metrics(&[artifacts::metric("ev_mc", 0.93), quantile, ratio]);
    without_sizes(|| assert_snapshot!("show_metrics", page(&made, &PLAIN)));
    let json = show(&made.artifact, "stage", &PLAIN).unwrap().to_json();
    assert_eq!(json["metrics"][1]["quantile"], "0.9");
    assert_eq!(json["metrics"][2]["numerator"], 4.9);
}

#[test]
fn tokens_are_decoded_where_the_tokenizer_is_at_hand() {
    let decode = |ids: &[i32]| ids.iter().map(|id| format!("<{id}>")).collect::<String>();
    let options = ShowOptions { head: 1, metrics: 20, decode: Some(&decode) };
    let page = page(&artifacts::tokens(), &options);
    assert!(page.contains("<0><1><2>"), "{page}");
    assert!(page.contains("… 2 more sequences"), "{page}");
}

#[test]
fn statistics_count_what_is_not_finite() {
    let json = show(&artifacts::activations().artifact, "acts", &PLAIN).unwrap().to_json();
    let hook = &json["statistics"][0];
    assert_eq!(hook["not_finite"], 1);
    // Rows (x, -x, 0.5, 3) for x = 0..=5, the last without its NaN.
    let finite: Vec<f64> = (0..6)
        .flat_map(|x| {
            let x = f64::from(x);
            let mut row = vec![x, -x, 0.5];
            row.extend((x < 5.0).then_some(3.0));
            row
        })
        .collect();
    let n = finite.len() as f64;
    let mean = finite.iter().sum::<f64>() / n;
    let std = (finite.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
    // Sums of 23 doubles in another order.
    assert!((hook["mean"].as_f64().unwrap() - mean).abs() < 1e-12);
    assert!((hook["std"].as_f64().unwrap() - std).abs() < 1e-12);
    assert_eq!((&hook["min"], &hook["max"]), (&(-5.0).into(), &5.0.into()));
}

#[test]
fn answers_are_decoded_where_the_tokenizer_is_at_hand() {
    let decode = |ids: &[i32]| ids.iter().map(|id| format!("<{id}>")).collect::<String>();
    let options = ShowOptions { head: 2, metrics: 20, decode: Some(&decode) };
    let json = show(&artifacts::prompts().artifact, "stage", &options).unwrap().to_json();
    let first = json["first_prompts"].as_array().unwrap();
    assert_eq!((first.len(), &first[2]["right"]), (4, &serde_json::json!(["<42>", "<43>", "<44>"])));
    assert_eq!((&first[3]["version"], &first[3]["text"]), (&"flip".into(), &"from 1701 to 17".into()));
}

/// Heads of three layers, one of them without a number and one missing, residuals at spans and at positions, an MLP a
/// layer, and an edge.
fn mixed() -> Vec<(Mediator, f64)> {
    let mut rows: Vec<(Mediator, f64)> =
        (0..12).map(|i| (artifacts::head(i / 4, i % 4), f64::from(i) / 7.0 - 1.0)).collect();
    rows[5].1 = f64::NAN;
    rows.remove(3);
    for layer in 0..2 {
        for (i, span) in (0..).zip(["subject", "end"]) {
            rows.push((artifacts::residual(layer, None, Some(span)), f64::from(layer + i) / 8.0));
        }
        for position in 3..5 {
            let mut mediator = artifacts::residual(layer, Some(position), None);
            mediator.kind = "attn_out".to_string();
            mediator.name.push('!');
            rows.push((mediator, f64::from(position)));
        }
        let hook = format!("blocks.{layer}.hook_mlp_out");
        let mlp =
            Mediator { name: hook.clone(), kind: "mlp_out".to_string(), layer: Some(layer), ..Mediator::default() };
        rows.push((Mediator { hook: Some(hook), ..mlp }, 0.001));
    }
    let edge = Mediator { name: "a → b".to_string(), source: Some("a".to_string()), ..artifacts::head(0, 0) };
    rows.push((Mediator { kind: "edge".to_string(), ..edge }, -2.0));
    rows
}

#[test]
fn scores_are_sorted_and_drawn() {
    let made = artifacts::scores(mixed());
    let options = ShowOptions { head: 2, metrics: 5, decode: None };
    without_sizes(|| assert_snapshot!("show_scores", page(&made, &options)));
    let json = show(&made.artifact, "stage", &PLAIN).unwrap().to_json();
    let map = json["heat_map_head_blocks.*.attn.hook_z"].as_array().unwrap();
    assert_eq!((map.len(), &map[1]["1"], &map[0]["3"]), (3, &"NaN".into(), &serde_json::Value::Null));
    let list = json["largest_scores"].as_array().unwrap();
    assert_eq!(list.len(), 20);
    let all = mediant_report::scores_table(&mediant_artifact::read_scores(&made.artifact).unwrap().1, usize::MAX);
    assert_eq!(all.to_json()[21]["value"], "NaN", "what is no number stands last");
}

#[test]
fn wide_heat_maps_keep_the_columns_that_matter() {
    let wide = (0..60).map(|i| (artifacts::head(i / 30, i % 30), if i % 30 < 6 { 0.0 } else { 1.0 }));
    let text = page(&artifacts::scores(wide), &PLAIN);
    assert!(text.contains("the 24 of 30 columns with the largest scores; 6 are left out"), "{text}");
    let header = text.lines().find(|line| line.starts_with("layer")).unwrap();
    assert!(header.starts_with("layer  6") && header.ends_with("29"), "{header}");
}

#[test]
fn heads_at_several_places_have_a_map_each() {
    let at = |i: u32| Mediator { name: format!("{i}"), position: Some(i / 4), ..artifacts::head(i % 4 / 2, i % 2) };
    let text = page(&artifacts::scores((0..60).map(|i| (at(i), f64::from(i)))), &PLAIN);
    assert!(text.contains("Heat map head blocks.*.attn.hook_z at 11\n"), "{text}");
    assert!(text.contains("\nMore heat maps\n3 heat maps not shown.\n"), "{text}");
    // Two scores in one place are no map.
    let twice = (0..8).map(|i| (Mediator { name: format!("{i}"), ..artifacts::head(i % 4 / 2, i % 2) }, 1.0));
    assert!(!page(&artifacts::scores(twice), &PLAIN).contains("Heat map"));
}

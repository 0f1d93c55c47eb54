//! Pages about artifacts of every kind.

use insta::{Settings, assert_snapshot};
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
        assert_snapshot!("show_tokenizer", page(&artifacts::tokenizer(), &PLAIN));
        assert_snapshot!("show_tokens", page(&artifacts::tokens(), &PLAIN));
        assert_snapshot!("show_labels", page(&artifacts::labels(), &PLAIN));
        assert_snapshot!("show_activations", page(&artifacts::activations(), &PLAIN));
        assert_snapshot!("show_dictionary", page(&artifacts::dictionary(), &PLAIN));
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

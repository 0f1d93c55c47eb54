//! SynthSAEBench: the generator against the distributions it is specified by, and scores of autoencoders that are known.

use mediant_dict::synth::{
    Correlation, FiringProbability, Generated, Hierarchy, Orthogonalization, Set, StdMagnitudes, SynthConfig,
    Synthetic, evaluate,
};
use mediant_dict::train::Activations;
use mediant_dict::{Activation, Codes, Error, Extra, Sae, Weights};
use mediant_tensor::random::{permutation, stream};
use serde_json::{Value, json};

/// Options: the published ones, but for those given.
fn config(options: &Value) -> SynthConfig {
    let mut all = json!({ "rows": 1000, "orthogonalization": null, "hidden_dim": 4 });
    all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    serde_json::from_value(all).unwrap()
}

fn draw(config: SynthConfig) -> Synthetic {
    assert_eq!(config.check(), Ok(()));
    Synthetic::draw(config, |_, _| Ok::<_, Error>(())).unwrap()
}

fn sample(generator: &Synthetic, rows: u64) -> Codes {
    generator.firing().sample(Set::Training, &(0..rows).collect::<Vec<_>>())
}

/// How often each feature fires.
fn rates(codes: &Codes, features: usize) -> Vec<f64> {
    let mut counts = vec![0.0; features];
    codes.latents().iter().for_each(|feature| counts[*feature as usize] += 1.0);
    counts.iter().map(|count| count / codes.rows() as f64).collect()
}

/// Asserts that a frequency in `n` independent tries is within five standard deviations of a probability.
#[track_caller]
fn assert_rate(what: &str, rate: f64, probability: f64, n: usize) {
    let deviation = (probability * (1.0 - probability) / n as f64).sqrt();
    assert!((rate - probability).abs() <= 5.0 * deviation, "{what}: {rate} is not {probability} ± {deviation}");
}

#[test]
fn the_published_benchmark_has_the_published_sparsity() {
    const ROWS: u64 = 20_000;
    let generator = draw(config(&json!({ "seed": 42 })));
    let codes = sample(&generator, ROWS);
    let sizes: Vec<f64> = (0..codes.rows()).map(|row| codes.row(row).0.len() as f64).collect();
    let first = codes.latents().iter().filter(|feature| **feature < 4096).count() as f64 / ROWS as f64;
    let mean = sizes.iter().sum::<f64>() / ROWS as f64;
    let variance = sizes.iter().map(|size| (size - mean).powi(2)).sum::<f64>() / ROWS as f64;
    // SAELens 6.54 gives 34.52 and, for the first 4,096 features, 25.18. F and σ are drawn anew there, which moves the means
    // by about 0.05; the rest is five standard errors of the mean.
    let tolerance = 0.25 + 5.0 * (variance / ROWS as f64).sqrt();
    assert!((mean - 34.52).abs() < tolerance && (first - 25.18).abs() < tolerance, "{mean} {first} ± {tolerance}");
}

#[test]
fn features_outside_trees_fire_with_their_probability_and_magnitude() {
    const ROWS: usize = 60_000;
    let options = json!({ "num_features": 40, "hierarchy": null, "correlation": null,
        "std_firing_magnitudes": { "mean": 0.5, "std": 0.0 } });
    let generator = draw(config(&options));
    let codes = sample(&generator, ROWS as u64);
    let rates = rates(&codes, 40);
    let last = 1.0 / 40f64.sqrt();
    let mut sums = vec![(0.0, 0.0, 0.0); 40];
    for (feature, value) in codes.latents().iter().zip(codes.values()) {
        let (n, sum, squares) = &mut sums[*feature as usize];
        (*n, *sum, *squares) = (*n + 1.0, *sum + f64::from(*value), *squares + f64::from(*value).powi(2));
    }
    for (i, (n, sum, squares)) in sums.into_iter().enumerate() {
        let zipf = (1.0 / ((i + 1) as f64).sqrt() - last) / (1.0 - last);
        assert_rate(&format!("feature {i}"), rates[i], 5e-4 + (0.4 - 5e-4) * zipf, ROWS);
        if i < 30 {
            // Mean 5 to 4 in equal steps, standard deviation a half; the standard error of the latter is a half / √(2n).
            let (mean, deviation) = (sum / n, (squares / n - (sum / n).powi(2)).sqrt());
            assert!((mean - (5.0 - i as f64 / 39.0)).abs() < 5.0 * 0.5 / f64::sqrt(n), "mean of {i}: {mean}");
            assert!((deviation - 0.5).abs() < 5.0 * 0.5 / (2.0 * n).sqrt(), "deviation of {i}: {deviation}");
        }
    }
}

#[test]
fn pairs_of_features_are_correlated_as_the_copula_says() {
    const ROWS: usize = 100_000;
    let generator = draw(SynthConfig {
        firing_probability: FiringProbability { max_prob: 0.5, min_prob: 0.499_999, exponent: 0.5 },
        correlation: Some(Correlation { rank: 3, correlation_scale: 0.4 }),
        ..config(&json!({ "num_features": 5, "hierarchy": null }))
    });
    let codes = sample(&generator, ROWS as u64);
    let fires = |row, feature| codes.row(row).0.binary_search(&feature).is_ok();
    let factor = |feature: usize| &generator.firing().factors()[feature * 3..feature * 3 + 3];
    let mut largest = 0.0f64;
    for a in 0..5 {
        for b in 0..a {
            let rho: f64 = factor(a).iter().zip(factor(b)).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
            largest = largest.max(rho.abs());
            let both = (0..ROWS).filter(|row| fires(*row, a as u32) && fires(*row, b as u32)).count();
            // Sheppard: two normal numbers of correlation ρ are both above their means with 1/4 + arcsin(ρ) / 2π.
            let expected = 0.25 + rho.asin() / std::f64::consts::TAU;
            assert_rate(&format!("{a} and {b}"), both as f64 / ROWS as f64, expected, ROWS);
        }
    }
    assert!(largest > 0.2, "nothing was tested: {largest}");
}

/// One tree of a root and four children, uncorrelated, with magnitudes that are hardly ever below 0.
fn one_tree(exclusive: f64, compensated: bool) -> Synthetic {
    draw(SynthConfig {
        firing_probability: FiringProbability { max_prob: 0.5, min_prob: 0.15, exponent: 0.5 },
        std_firing_magnitudes: StdMagnitudes { mean: 0.5, std: 0.0 },
        correlation: None,
        hierarchy: Some(Hierarchy {
            total_root_nodes: 1,
            max_depth: 1,
            mutually_exclusive_portion: exclusive,
            compensate_probabilities: compensated,
            ..Hierarchy::default()
        }),
        ..config(&json!({ "num_features": 6 }))
    })
}

/// With what probability a child fires and is the one that stays, its parent firing, where all four may fire by themselves.
fn stays(child: usize, p: &[f64]) -> f64 {
    let others: Vec<f64> = (0..4).filter(|other| *other != child).map(|other| p[other]).collect();
    let some = (0..8u32).map(|set| {
        let fires = |i: usize| set & (1 << i) != 0;
        let chance: f64 = (0..3).map(|i| if fires(i) { others[i] } else { 1.0 - others[i] }).product();
        chance / f64::from(set.count_ones() + 1)
    });
    p[child] * some.sum::<f64>()
}

#[test]
fn children_fire_with_their_parents_and_instead_of_their_siblings() {
    const ROWS: usize = 60_000;
    for (exclusive, compensated) in [(0.0, false), (1.0, false), (1.0, true)] {
        let generator = one_tree(exclusive, compensated);
        let codes = sample(&generator, ROWS as u64);
        let (p, rates) = (generator.firing().probabilities(), rates(&codes, 6));
        assert_rate("root", rates[0], 0.5, ROWS);
        assert_rate("outside", rates[5], 0.15, ROWS);
        for child in 0..4 {
            let with_parent = if exclusive > 0.0 { stays(child, &p[1..5]) } else { p[child + 1] };
            assert_rate(&format!("child {child}"), rates[child + 1], 0.5 * with_parent, ROWS);
        }
        for row in 0..codes.rows() {
            let children = codes.row(row).0.iter().filter(|feature| (1..5).contains(*feature)).count();
            assert!(children == 0 || codes.row(row).0[0] == 0, "a child without its parent");
            assert!(children <= 1 || exclusive == 0.0, "two children of an exclusive parent");
        }
    }
}

#[test]
fn children_are_scaled_by_their_parents() {
    const ROWS: u64 = 400_000;
    let scaled = one_tree(1.0, true);
    let mut plain = scaled.config().clone();
    plain.hierarchy.as_mut().unwrap().scale_children_by_parent = false;
    for (generator, scales) in [(scaled, true), (draw(plain), false)] {
        let codes = sample(&generator, ROWS);
        let mut products = Vec::new();
        for row in 0..codes.rows() {
            let (features, values) = codes.row(row);
            if features.len() > 1 && features[1] == 1 {
                products.push(f64::from(values[0]) * f64::from(values[1]));
            }
        }
        // Means 5 and 4.8, standard deviations a half: E[v_p · v_c] is E[v_p²] · 4.8 / 5 or 5 · 4.8.
        let expected = if scales { (25.0 + 0.25) * 4.8 / 5.0 } else { 24.0 };
        let n = products.len() as f64;
        let mean = products.iter().sum::<f64>() / n;
        let deviation = (products.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
        // The two differ by 0.24: more than twice five standard errors, if there are enough.
        assert!(5.0 * deviation / n.sqrt() < 0.12, "{n}");
        assert!((mean - expected).abs() < 5.0 * deviation / n.sqrt(), "{mean} is not {expected}");
    }
}

#[test]
fn features_are_unit_vectors_pushed_apart() {
    let at = |steps: Option<Orthogonalization>| {
        let options = json!({ "num_features": 128, "hidden_dim": 32, "seed": 3 });
        let generator = draw(SynthConfig { orthogonalization: steps, ..config(&options) });
        let bias: f64 = generator.bias().iter().map(|x| f64::from(*x).powi(2)).sum();
        assert!((bias.sqrt() - 0.5).abs() < 1e-6);
        let row = |i: usize| &generator.features()[i * 32..(i + 1) * 32];
        let dot = |i, j| row(i).iter().zip(row(j)).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        assert!((0..128).all(|i| (dot(i, i) - 1.0).abs() < 1e-5));
        let pairs = (0..128).flat_map(|i| (0..i).map(move |j| (i, j)));
        pairs.map(|(i, j)| dot(i, j).powi(2)).sum::<f64>() / (128.0 * 127.0 / 2.0)
    };
    let (random, published) = (at(None), at(Some(Orthogonalization::default())));
    let long = at(Some(Orthogonalization { num_steps: 300, lr: 0.01 }));
    // Random unit vectors: 1/d. The least that there can be (Welch): (n − d) / (d (n − 1)).
    let least = (128.0 - 32.0) / (32.0 * 127.0);
    assert!((random - 1.0 / 32.0).abs() < 0.002, "{random}");
    assert!(published < random && long < published, "{random} {published} {long}");
    assert!((long / least - 1.0).abs() < 0.01 && long > 0.999 * least, "{long} {least}");
}

#[test]
fn threads_and_company_do_not_change_a_vector() {
    let make = |threads: usize, pieces: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let options = json!({ "num_features": 512, "hidden_dim": 96, "orthogonalization": { "num_steps": 3 },
                "hierarchy": { "total_root_nodes": 16, "max_depth": 2 } });
            let generator = draw(config(&options));
            let rows: Vec<u64> = (0..1000).collect();
            let mut all = Codes::default();
            rows.chunks(pieces).for_each(|piece| all.append(&generator.firing().sample(Set::Training, piece)));
            (generator.features().to_vec(), generator.vectors(&all), all)
        })
    };
    let one = make(1, 1000);
    assert!(one.2.entries() > 1000);
    for (threads, pieces) in [(2, 1000), (3, 1000), (3, 17)] {
        assert!(make(threads, pieces) == one, "{threads} threads");
    }
}

#[test]
fn sets_and_seeds_have_nothing_in_common() {
    let small = json!({ "num_features": 64, "hierarchy": { "total_root_nodes": 4, "max_depth": 1 } });
    let rows: Vec<u64> = (0..50).collect();
    let generator = draw(config(&small));
    let training = generator.firing().sample(Set::Training, &rows);
    let other = draw(SynthConfig { seed: 1, ..config(&small) });
    for other in [generator.firing().sample(Set::Evaluation, &rows), other.firing().sample(Set::Training, &rows)] {
        let same = (0..50).filter(|row| training.row(*row).1.first() == other.row(*row).1.first()).count();
        // Rows in which nothing fires agree.
        assert!(same < 25 && other.rows() == 50, "{same}");
    }
}

#[test]
fn vectors_drawn_on_the_way_are_those_of_their_rows() {
    let generator =
        draw(SynthConfig { rows: 700, ..config(&json!({ "num_features": 64, "hidden_dim": 8, "hierarchy": null })) });
    let source = Generated::new(&generator, || Ok(()));
    assert_eq!((source.offsets(), source.widths()), (&[0u64, 256, 512, 700][..], &[8usize][..]));
    let expected = generator.vectors(&sample(&generator, 700));
    let block: Vec<u64> =
        permutation(&mut stream(0, "test"), 700).into_iter().map(|row| row as u64).take(300).collect();
    source.prepare(&block).unwrap();
    let mut out = vec![0.0; 3 * 8];
    source.fill(0, &block[17..20], &mut out).unwrap();
    for (row, out) in block[17..20].iter().zip(out.chunks_exact(8)) {
        assert_eq!(out, &expected[*row as usize * 8..][..8]);
    }
    let absent = (0..700).find(|row| !block.contains(row)).unwrap();
    assert!(source.fill(0, &[absent], &mut out[..8]).is_err());
    let stopped = Generated::new(&generator, || Err(Error::Stopped));
    assert!(matches!(stopped.prepare(&block), Err(Error::Stopped)));
}

/// Thirty-two features in 64 dimensions, orthogonal to 1e-3, that fire with exactly their means.
fn orthogonal() -> Synthetic {
    let options = json!({ "num_features": 32, "hidden_dim": 64, "orthogonalization": { "num_steps": 1500, "lr": 0.003 },
        "std_firing_magnitudes": { "mean": 0.0, "std": 0.0 },
        "hierarchy": { "total_root_nodes": 4, "max_depth": 1 }, "firing_probability": { "min_prob": 0.05 } });
    draw(config(&options))
}

fn autoencoder(w_enc: Vec<f32>, w_dec: Vec<f32>, b_dec: Vec<f32>) -> Sae {
    let (d_in, d_sae) = (b_dec.len(), w_dec.len() / b_dec.len());
    let extra = Extra::Threshold(vec![1.0; d_sae]);
    let weights = Weights { d_in, d_sae, w_enc, b_enc: vec![0.0; d_sae], w_dec, b_dec, extra };
    Sae::new(weights, Activation::JumpRelu, true).unwrap()
}

/// The metrics of an autoencoder by their names.
fn score(generator: &Synthetic, sae: &Sae, rows: u64) -> impl Fn(&str) -> f64 + use<> {
    let metrics = evaluate(generator, sae, rows, |_, _| Ok::<_, Error>(())).unwrap().metrics();
    move |name| metrics.iter().find(|row| row.name == name).unwrap().value
}

#[test]
fn the_true_dictionary_scores_one() {
    let generator = orthogonal();
    let features = generator.features().to_vec();
    let truth = autoencoder(features.clone(), features.clone(), generator.bias().to_vec());
    let of = score(&generator, &truth, 5000);
    for name in ["f1", "precision", "recall", "accuracy", "uniqueness"] {
        assert_eq!(of(name), 1.0, "{name}");
    }
    assert!((of("mcc") - 1.0).abs() < 1e-6);
    assert_eq!((of("l0"), of("dead_fraction")), (of("true_l0"), 0.0));
    // Magnitudes of up to 5 leak with cosines of 1e-3.
    assert!(of("ev_mc") > 0.999 && (of("shrinkage") - 1.0).abs() < 0.01, "{} {}", of("ev_mc"), of("shrinkage"));

    // Half of the features, one of them twice, with the opposite sign in the decoder of one copy: cosines count by size.
    let mut half = features[..16 * 64].to_vec();
    let copy: Vec<f32> = half[..64].to_vec();
    half[64..128].copy_from_slice(&copy);
    let mut w_dec = half.clone();
    w_dec[..64].iter_mut().for_each(|x| *x = -*x);
    let of = score(&generator, &autoencoder(half, w_dec, generator.bias().to_vec()), 5000);
    assert_eq!((of("f1"), of("uniqueness")), (1.0, 15.0 / 16.0));
    // Of the two that point along one feature, one is paired with another feature, which is nearly orthogonal.
    assert!((of("mcc") - 15.0 / 16.0).abs() < 1e-3, "{}", of("mcc"));
}

#[test]
fn a_reconstruction_that_is_the_mean_explains_nothing_and_finds_nothing() {
    const ROWS: u64 = 3000;
    let generator = orthogonal();
    let x = generator.vectors(&generator.firing().sample(Set::Evaluation, &(0..ROWS).collect::<Vec<_>>()));
    let mean = |i: usize| x.iter().skip(i).step_by(64).map(|x| f64::from(*x)).sum::<f64>() / ROWS as f64;
    let b_dec: Vec<f32> = (0..64).map(|i| mean(i) as f32).collect();
    let nothing = autoencoder(vec![0.0; 8 * 64], generator.features()[..8 * 64].to_vec(), b_dec);
    let of = score(&generator, &nothing, ROWS);
    assert!(of("ev_mc").abs() < 1e-6, "{}", of("ev_mc"));
    assert_eq!((of("f1"), of("precision"), of("recall"), of("l0"), of("dead_fraction")), (0.0, 0.0, 0.0, 0.0, 1.0));
    // These two speak of the decoder alone.
    assert!((of("mcc") - 1.0).abs() < 1e-6 && of("uniqueness") == 1.0);
}

#[test]
fn widths_must_agree() {
    let sae = autoencoder(vec![0.0; 4 * 8], vec![0.0; 4 * 8], vec![0.0; 8]);
    let error = evaluate(&orthogonal(), &sae, 10, |_, _| Ok::<_, Error>(())).unwrap_err();
    assert_eq!(error.to_string(), "the autoencoder reads vectors of 8, the generator makes vectors of 64");
}

//! Losses, calibration and divergence against plain implementations, and attention sinks against patterns read one by one.

use std::collections::BTreeMap;

use mediant_artifact::Tokens;
use mediant_lm::{Batch, HookPoint, Hooks, Site, losses, predicted};
use mediant_methods::Error;
use mediant_methods::calibration::{Calibration, Certainty, bin, calibration};
use mediant_methods::corpus_loss::{CorpusLoss, Part, Parts, QUANTILES};
use mediant_methods::divergence::{Divergence, divergences};
use mediant_methods::sinks::sinks;
use mediant_tensor::{Flex, Tensor};
use proptest::prelude::*;

use super::support::{model, tokens};

/// Two sequences a document.
fn documents(tokens: &Tokens) -> Vec<u32> {
    let lengths = tokens.offsets.windows(2).map(|pair| pair[1] - pair[0]).enumerate();
    lengths.flat_map(|(i, length)| vec![i as u32 / 2; length]).collect()
}

/// As NumPy takes it, from the definition.
fn plain_quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap());
    let place = share * (sorted.len() - 1) as f64;
    let below = sorted[place as usize];
    let above = sorted[(place as usize + 1).min(sorted.len() - 1)];
    below * (1.0 - place.fract()) + above * place.fract()
}

fn close(a: f64, b: f64) {
    assert!((a - b).abs() <= 1e-9 * b.abs().max(1.0), "{a} {b}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn losses_of_parts_are_those_counted_one_by_one(
        sequences in 1usize..12,
        seed in prop::collection::vec(0.0f32..12.0, 250),
        other in prop::collection::vec(0.0f32..12.0, 250),
    ) {
        let tokens = tokens(sequences);
        let documents = documents(&tokens);
        let places: Vec<(usize, usize)> = predicted(&tokens, 0..tokens.len()).collect();
        let corpus = Parts::new(&tokens, &documents);
        let values = |from: &[f32]| -> Vec<f32> { places.iter().map(|(token, _)| from[*token % 250]).collect() };
        let (own, other) = (values(&seed), values(&other));
        let found = CorpusLoss::new(&corpus, own.clone());
        prop_assert_eq!(found.predicted(), places.len() as u64);

        let mut counts: BTreeMap<i32, usize> = BTreeMap::new();
        places.iter().for_each(|(token, _)| *counts.entry(tokens.ids[*token]).or_default() += 1);
        let means = found.means(0);
        let deltas = found.deltas(&CorpusLoss::new(&corpus, other.clone()), 0);
        prop_assert_eq!(means[0].0, Part::Whole);
        for ((part, n, mean), (_, _, delta)) in means.iter().zip(&deltas) {
            let (by, from, below) = part.range();
            let inside = |&(token, position): &(usize, usize)| match by {
                "position" => (from..below).contains(&(position as f64)),
                "frequency" => {
                    let share = counts[&tokens.ids[token]] as f64 / places.len() as f64;
                    (share >= from && share < below) || (share == 1.0 && below == 1.0)
                }
                _ => true,
            };
            let chosen: Vec<usize> = (0..places.len()).filter(|&i| inside(&places[i])).collect();
            prop_assert_eq!(chosen.len() as u64, *n);
            let mean_of = |values: &[f32]| chosen.iter().map(|&i| f64::from(values[i])).sum::<f64>() / chosen.len() as f64;
            close(mean.value, mean_of(&own));
            close(delta.value, mean_of(&own) - mean_of(&other));
        }
        for by in ["position", "frequency"] {
            let parts = means.iter().filter(|(part, ..)| part.range().0 == by);
            prop_assert_eq!(parts.map(|(_, n, _)| n).sum::<u64>(), places.len() as u64);
        }
        let values: Vec<f64> = own.iter().map(|loss| f64::from(*loss)).collect();
        for ((_, share), found) in QUANTILES.iter().zip(found.quantiles()) {
            close(*found, plain_quantile(&values, *share));
        }
        close(found.largest(), plain_quantile(&values, 1.0));
    }

    #[test]
    fn divergences_are_the_sums_that_define_them(
        logits in prop::collection::vec((-20.0f32..20.0, -20.0f32..20.0), 2..40),
        shift in -50.0f32..50.0,
    ) {
        let (p, q): (Vec<f32>, Vec<f32>) = logits.into_iter().unzip();
        let softmax = |row: &[f32]| -> Vec<f64> {
            let exp: Vec<f64> = row.iter().map(|x| f64::from(*x).exp()).collect();
            let total: f64 = exp.iter().sum();
            exp.iter().map(|x| x / total).collect()
        };
        let (ps, qs) = (softmax(&p), softmax(&q));
        let kl = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * (a / b).ln()).sum::<f64>();
        let middle: Vec<f64> = ps.iter().zip(&qs).map(|(p, q)| (p + q) / 2.0).collect();
        let found = Divergence::of(&p, &q);
        close(found.kl, kl(&ps, &qs));
        close(found.reverse_kl, kl(&qs, &ps));
        close(found.js, (kl(&ps, &middle) + kl(&qs, &middle)) / 2.0);
        prop_assert!(found.js >= -1e-12 && found.js <= std::f64::consts::LN_2 + 1e-12);
        // Both ways round, and a constant on all logits says nothing; f32 rounds the shifted logits.
        let shifted: Vec<f32> = q.iter().map(|x| x + shift).collect();
        prop_assert!((Divergence::of(&shifted, &p).js - found.js).abs() < 1e-4);
        prop_assert!(Divergence::of(&p, &p).js.abs() < 1e-15);
    }

    #[test]
    fn calibration_is_that_of_the_definition(
        rows in prop::collection::vec((0u32..5, prop::collection::vec(-6.0f32..6.0, 7), 0usize..7), 1..60),
        bins in 1usize..20,
    ) {
        let one = |(document, logits, token): &(u32, Vec<f32>, usize)| (*document, Certainty::of(logits, *token));
        let predictions: Vec<(u32, Certainty)> = rows.iter().map(one).collect();
        let (mut ece, mut entropy) = (0.0, 0.0);
        for b in 0..bins {
            let (mut n, mut confident, mut right) = (0.0, 0.0, 0.0);
            for (_, logits, token) in &rows {
                let total: f64 = logits.iter().map(|x| f64::from(*x).exp()).sum();
                let p: Vec<f64> = logits.iter().map(|x| f64::from(*x).exp() / total).collect();
                let best = (0..p.len()).fold(0, |best, i| if p[i] > p[best] { i } else { best });
                if b == 0 {
                    entropy -= p.iter().map(|p| p * p.ln()).sum::<f64>() / rows.len() as f64;
                }
                // Of the definition; rounding may put a confidence at the edge of a bin on either side.
                if bin(p[best], bins) == b {
                    assert!(p[best] > b as f64 / bins as f64 - 1e-12 && p[best] < (b + 1) as f64 / bins as f64 + 1e-12);
                    n += 1.0;
                    confident += p[best];
                    right += f64::from(u8::from(best == *token));
                }
            }
            if n > 0.0 {
                ece += n / rows.len() as f64 * (right / n - confident / n).abs();
            }
        }
        let found = Calibration::of(&predictions, bins);
        let metrics: BTreeMap<&str, f64> = found.metrics(0).into_iter().map(|(name, one)| (name, one.value)).collect();
        close(metrics["ece"], ece);
        close(metrics["entropy"], entropy);
        prop_assert_eq!(found.bins().iter().map(|bin| bin.n).sum::<u64>(), rows.len() as u64);
        let accuracy = found.bins().iter().map(|bin| bin.n as f64 * bin.accuracy).sum::<f64>() / rows.len() as f64;
        close(metrics["accuracy"], accuracy);
    }
}

#[test]
fn what_is_not_finite_is_counted_and_counts_as_infinite() {
    let tokens = tokens(4);
    let documents = documents(&tokens);
    let corpus = Parts::new(&tokens, &documents);
    let mut losses = vec![1.0; corpus.predicted() as usize];
    (losses[0], losses[3]) = (f32::NAN, f32::INFINITY);
    let found = CorpusLoss::new(&corpus, losses);
    assert_eq!((found.non_finite(), found.largest()), (2, f64::INFINITY));
    assert_eq!(found.means(0)[0].2.value, f64::INFINITY);
    let median = QUANTILES.iter().position(|(name, _)| *name == "50").unwrap();
    assert_eq!(found.quantiles()[median], 1.0);
    assert_eq!(*found.quantiles().last().unwrap(), f64::INFINITY);
}

#[test]
fn the_interval_is_over_documents() {
    let mut tokens = tokens(2);
    // One token each is predicted, and both sequences are of one document; then of two.
    tokens.mask.iter_mut().for_each(|mask| *mask = false);
    for i in 0..2 {
        tokens.mask[tokens.offsets[i] + 1] = true;
    }
    let interval =
        |documents: Vec<u32>| CorpusLoss::new(&Parts::new(&tokens, &documents), vec![1.0, 5.0]).means(0)[0].2;
    let one = interval(vec![7; tokens.ids.len()]);
    assert_eq!((one.value, one.interval), (3.0, None));
    let of_two = (0..tokens.ids.len()).map(|token| u32::from(token >= tokens.offsets[1])).collect();
    assert_eq!(interval(of_two).interval, Some((1.0, 5.0)));
}

#[test]
fn a_model_is_paired_with_itself_without_any_difference() {
    let (model, tokens) = (model(), tokens(30));
    let documents = documents(&tokens);
    let of = || losses(&model, &tokens, Hooks::none, |_, _| Ok::<_, mediant_lm::Error>(())).unwrap();
    let corpus = Parts::new(&tokens, &documents);
    let loss = CorpusLoss::new(&corpus, of());
    let (_, _, delta) = loss.deltas(&CorpusLoss::new(&corpus, of()), 0)[0];
    assert_eq!((delta.value, delta.interval), (0.0, Some((0.0, 0.0))));
    // The mean alone is far less certain than that.
    let (low, high) = loss.means(0)[0].2.interval.unwrap();
    assert!(high - low > 0.01, "{low} {high}");

    let apart = divergences(&[&model, &model], &tokens, &documents, |_, _| Ok::<_, Error>(())).unwrap();
    assert!(apart.means(0)[0].means.iter().all(|mean| mean.value.abs() < 1e-15));
    assert_eq!(apart.predictions(), corpus.predicted());

    // What the losses are is what the calibration measures of the same logits.
    let found = calibration(&model, &tokens, &documents, 15, |_, _| Ok::<_, Error>(())).unwrap();
    assert_eq!(found.predictions(), corpus.predicted());
    let [(_, entropy), ..] = found.metrics(0);
    assert!(entropy.value > 0.0 && entropy.value < (super::support::VOCAB as f64).ln());
}

#[test]
fn sinks_are_those_of_patterns_read_one_by_one() {
    let (model, tokens) = (model(), tokens(9));
    let documents = documents(&tokens);
    let threshold = 0.2;
    let (mut rates, mut weights, mut first, mut others, mut positions) = ([0.0; 4], [0.0; 4], 0.0, 0.0, 0.0);
    for i in 0..tokens.len() {
        let batch = Batch::new(model.config(), &[tokens.sequence(i)], &model.device()).unwrap();
        let len = batch.rows();
        let mut read = |point: HookPoint, x: Tensor<Flex, 3>| {
            let [_, _, width] = x.dims();
            let x = x.into_data().into_vec::<f32>().unwrap();
            match point {
                HookPoint::Block(layer, Site::Pattern) => {
                    for head in 0..2 {
                        let of = (1..len).map(|query| x[(query * 2 + head) * width]);
                        rates[2 * layer + head] +=
                            of.clone().filter(|w| *w > threshold).count() as f64 / (len - 1) as f64;
                        weights[2 * layer + head] += of.map(f64::from).sum::<f64>() / (len - 1) as f64;
                    }
                }
                _ => {
                    let norm =
                        |row: usize| x[row * width..][..width].iter().map(|x| f64::from(x * x)).sum::<f64>().sqrt();
                    first += norm(0);
                    others += (1..len).map(norm).sum::<f64>();
                    positions += (len - 1) as f64;
                }
            }
            Ok(())
        };
        let points = [0, 1].map(|layer| HookPoint::Block(layer, Site::Pattern));
        let points = points.into_iter().chain([HookPoint::Block(1, Site::ResidPost)]);
        model.read(&batch, Hooks::none().read(points, &mut read)).unwrap();
    }
    let found = sinks(&model, &tokens, &documents, threshold, |_, _| Ok::<_, Error>(())).unwrap();
    let n = tokens.len() as f64;
    assert_eq!(found.sequences(), 9);
    for (place, head) in found.of_heads().iter().enumerate() {
        assert_eq!((head.layer, head.head), (place / 2, place % 2));
        close(head.rate, rates[place] / n);
        // Another batch, other last bits of f32.
        assert!((head.weight - weights[place] / n).abs() < 1e-6);
    }
    let [rate, weight] = found.overall(0);
    close(rate.value, rates.iter().sum::<f64>() / (4.0 * n));
    assert!((weight.value - weights.iter().sum::<f64>() / (4.0 * n)).abs() < 1e-6);
    assert!(rate.value > 0.0 && rate.value < 1.0, "the threshold divides these queries: {}", rate.value);
    let norms = found.norms(0);
    assert_eq!(norms.len(), 3);
    assert!(
        (norms[2].first.value - first / n).abs() < 1e-5 && (norms[2].others.value - others / positions).abs() < 1e-5
    );
}

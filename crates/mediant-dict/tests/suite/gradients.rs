//! The hand-written gradients against automatic differentiation of the dense formulas.

use mediant_dict::train::Samples;
use mediant_dict::{AuxLoss, BatchChoice, Extra, JumpRelu, MatchingPursuit, Objective, Sparsity, TopAfa, Weights};

use crate::oracle::Oracle;
use crate::support::{normal, run, run_on};

/// The 2-norm of the difference, of that of `b`.
pub(crate) fn distance(a: &[f32], b: &[f32]) -> f64 {
    let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    let (difference, size) = (norm(&mut a.iter().zip(b).map(|(a, b)| a - b)), norm(&mut b.iter().copied()));
    assert!(size > 0.0 && a.len() == b.len());
    difference / size
}

/// A few hundred roundings of f32 on both sides.
const TOLERANCE: f64 = 1e-5;

/// Weights in the middle of a training: encoder and decoder differ, biases are not zero.
pub(crate) fn weights(d_in: usize, d_sae: usize, bias: f32, objective: &Objective) -> Weights {
    disturbed(Weights::init(d_in, d_sae, Some(0.6), 5), bias, objective)
}

fn disturbed(mut weights: Weights, bias: f32, objective: &Objective) -> Weights {
    objective.extend(&mut weights);
    let sizes: Vec<usize> = weights.each().iter().map(|values| values.len()).collect();
    for ((parameter, size), seed) in weights.each_mut().into_iter().zip(sizes).zip(10..) {
        parameter.iter_mut().zip(normal(size, seed, 0.1)).for_each(|(x, noise)| *x += noise);
    }
    match objective.has_encoder_bias() {
        true => weights.b_enc.iter_mut().for_each(|x| *x += bias),
        false => weights.b_enc.fill(0.0),
    }
    // dictionary_learning lets thresholds be below zero.
    if let Extra::Threshold(threshold) = &mut weights.extra
        && !matches!(objective, Objective::JumpRelu(JumpRelu { sparsity: Sparsity::Relative { .. }, .. }))
    {
        threshold.iter_mut().for_each(|x| *x = x.abs());
    }
    weights
}

/// Which work a case is there for, where it depends on the data.
#[derive(Clone, Copy, PartialEq)]
enum Work {
    Dense,
    Sparse,
    Any,
}

fn check(shape: [usize; 3], bias: f32, objective: &Objective, work: Work, dead: impl Fn(usize) -> bool) {
    let [d_in, d_sae, rows] = shape;
    let weights = weights(d_in, d_sae, bias, objective);
    let x = normal(rows * d_in, 1, 1.0);
    let dead: Vec<bool> = (0..d_sae).map(dead).collect();
    for subtract in [true, false] {
        // Without subtraction there is no such family.
        if !subtract && matches!(objective, Objective::MatchingPursuit(_)) {
            continue;
        }
        compare(&weights, objective, subtract, x[..].into(), &dead, work);
    }
}

/// A pass against the dense formulas.
fn compare(weights: &Weights, objective: &Objective, subtract: bool, samples: Samples<'_>, dead: &[bool], work: Work) {
    let (found, gradients, _) = run_on(weights, objective, subtract, samples, dead);
    let mut oracle = Oracle::of(weights, subtract, samples, dead);
    oracle.compute(objective);
    if work != Work::Any {
        assert!(oracle.touched > 20);
        let all = samples.input.len() / weights.d_in * weights.d_sae;
        assert_eq!(work == Work::Dense, oracle.touched * 20 > all, "{} entries", oracle.touched);
    }
    assert_eq!(found.losses.others.len(), objective.other_losses().len());
    assert_eq!(found.losses.others.len(), oracle.losses.others.len());
    let losses = [found.losses.mse].into_iter().chain(found.losses.others);
    for (a, b) in losses.zip([oracle.losses.mse].iter().chain(&oracle.losses.others)) {
        assert!((a - b).abs() <= TOLERANCE * b.abs(), "{a} is not {b}");
    }
    for (((name, _), a), b) in weights.shapes().into_iter().zip(gradients.each()).zip(oracle.gradients()) {
        if name == "b_enc" && !objective.has_encoder_bias() {
            assert!(a.iter().all(|x| *x == 0.0));
            continue;
        }
        let distance = distance(a, &b);
        assert!(distance <= TOLERANCE, "{name}: {distance}");
    }
}

pub(crate) fn choice(rescale_acts_by_decoder_norm: bool) -> BatchChoice {
    BatchChoice {
        k: 5.5,
        rescale_acts_by_decoder_norm,
        aux_loss_coefficient: 0.7,
        aux_loss: AuxLoss::Saelens,
        threshold_lr: 0.01,
        threshold_start_step: None,
    }
}

pub(crate) fn topk(k: usize, rescale_acts_by_decoder_norm: bool) -> Objective {
    Objective::TopK { k, rescale_acts_by_decoder_norm, aux_loss_coefficient: 0.7, aux_loss: AuxLoss::Saelens }
}

pub(crate) fn gated(l1: f64, detach_decoder: bool) -> Objective {
    Objective::Gated { l1, l1_warm_up_steps: 0, detach_decoder }
}

/// dictionary_learning's AuxK loss in the place of SAELens'.
pub(crate) fn theirs(objective: Objective) -> Objective {
    let aux_loss = AuxLoss::DictionaryLearning;
    match objective {
        Objective::TopK { k, rescale_acts_by_decoder_norm, aux_loss_coefficient, .. } => {
            Objective::TopK { k, rescale_acts_by_decoder_norm, aux_loss_coefficient, aux_loss }
        }
        Objective::BatchTopK { choice } => Objective::BatchTopK { choice: BatchChoice { aux_loss, ..choice } },
        Objective::Matryoshka { choice, widths, aux_by_width } => {
            Objective::Matryoshka { choice: BatchChoice { aux_loss, ..choice }, widths, aux_by_width }
        }
        other => other,
    }
}

/// dictionary_learning's loss, with thresholds on both sides of zero of which most are within half a bandwidth of it.
pub(crate) fn relative(pre_act_loss_coefficient: Option<f64>) -> Objective {
    let base = options(&jump_relu(Sparsity::Relative { target_l0: 9.0 }, false, pre_act_loss_coefficient));
    Objective::JumpRelu(JumpRelu { threshold_init: 0.1, ..base })
}

pub(crate) fn jump_relu(sparsity: Sparsity, ste_to_input: bool, pre_act_loss_coefficient: Option<f64>) -> Objective {
    Objective::JumpRelu(JumpRelu {
        l0: 0.3,
        l0_warm_up_steps: 0,
        threshold_init: 0.4,
        bandwidth: 0.3,
        sparsity,
        ste_to_input,
        pre_act_loss_coefficient,
    })
}

/// Those of a transcoder.
pub(crate) fn transcoder(
    [d_in, d_out]: [usize; 2],
    d_sae: usize,
    skip: bool,
    bias: f32,
    objective: &Objective,
) -> Weights {
    let mut start = Weights::init_transcoder([d_in, d_out], d_sae, Some(0.6), skip, 5);
    // SAELens' encoder is small: with it the work would not be what a case is for.
    start.w_enc = Weights::init(d_in, d_sae, Some(0.6), 6).w_enc;
    disturbed(start, bias, objective)
}

/// To more dimensions than are read, and to fewer.
fn check_transcoders(bias: f32, objective: &Objective, work: Work, dead: impl Fn(usize) -> bool) {
    let (d_in, d_sae, rows) = (20, 130, 70);
    let dead: Vec<bool> = (0..d_sae).map(dead).collect();
    for (d_out, skip) in [(27, false), (27, true), (12, true)] {
        let weights = transcoder([d_in, d_out], d_sae, skip, bias, objective);
        let (input, target) = (normal(rows * d_in, 1, 1.0), normal(rows * d_out, 2, 1.0));
        compare(&weights, objective, false, Samples { input: &input, target: &target }, &dead, work);
    }
}

#[test]
fn transcoders_dense_and_sparse() {
    for (bias, work) in [(0.0, Work::Dense), (-2.0, Work::Sparse)] {
        check_transcoders(bias, &Objective::Relu { l1: 0.3, l1_warm_up_steps: 0 }, work, |_| false);
    }
    for (bias, work) in [(0.3, Work::Dense), (-1.2, Work::Sparse)] {
        check_transcoders(bias, &jump_relu(Sparsity::Tanh { scale: 4.0 }, true, None), work, |_| false);
    }
    for dead in [|i: usize| i.is_multiple_of(30), |i: usize| i.is_multiple_of(2)] {
        check_transcoders(0.0, &topk(6, true), Work::Any, dead);
        check_transcoders(0.0, &theirs(topk(6, true)), Work::Any, dead);
        check_transcoders(0.0, &Objective::BatchTopK { choice: choice(true) }, Work::Any, dead);
        let nested = Objective::Matryoshka { choice: choice(false), widths: vec![1, 40], aux_by_width: false };
        check_transcoders(0.0, &nested, Work::Any, dead);
    }
}

#[test]
fn relu_dense_and_sparse() {
    let objective = Objective::Relu { l1: 0.3, l1_warm_up_steps: 0 };
    // Half of all latents are active, and with the low bias one in some two hundred.
    check([20, 130, 70], 0.0, &objective, Work::Dense, |_| false);
    check([20, 130, 70], -2.0, &objective, Work::Sparse, |_| false);
    check([20, 130, 70], -2.0, &Objective::Relu { l1: 0.0, l1_warm_up_steps: 0 }, Work::Sparse, |_| false);
}

#[test]
fn gated_dense_and_sparse() {
    for (l1, detach_decoder) in [(0.3, false), (0.0, false), (0.3, true)] {
        let objective = gated(l1, detach_decoder);
        check([20, 130, 70], 0.0, &objective, Work::Dense, |_| false);
        check([20, 130, 70], -1.5, &objective, Work::Sparse, |_| false);
    }
}

#[test]
fn jumprelu_dense_and_sparse() {
    for ste_to_input in [false, true] {
        for sparsity in [Sparsity::Step, Sparsity::Tanh { scale: 4.0 }, Sparsity::Quadratic { target_l0: 9.0 }] {
            let objective = jump_relu(sparsity, ste_to_input, None);
            check([20, 130, 70], 0.3, &objective, Work::Dense, |_| false);
            check([20, 130, 70], -1.2, &objective, Work::Sparse, |_| false);
            // Dead latents are pulled up: all their entries count.
            let objective = jump_relu(sparsity, ste_to_input, Some(0.2));
            check([20, 130, 70], -1.2, &objective, Work::Dense, |i| i % 10 == 0);
            check([20, 130, 70], -1.2, &objective, Work::Sparse, |i| i == 50);
        }
    }
}

#[test]
fn the_relative_jumprelu_dense_and_sparse() {
    check([20, 130, 70], 0.3, &relative(None), Work::Dense, |_| false);
    check([20, 130, 70], -1.8, &relative(None), Work::Sparse, |_| false);
    check([20, 130, 70], -1.8, &relative(Some(0.2)), Work::Dense, |i| i % 10 == 0);
    check([20, 130, 70], -1.8, &relative(Some(0.2)), Work::Sparse, |i| i == 50);
    // Thresholds away from zero, as those of a training soon are.
    let away = jump_relu(Sparsity::Relative { target_l0: 9.0 }, false, None);
    check([20, 130, 70], 0.3, &away, Work::Dense, |_| false);
    check([20, 130, 70], -1.2, &away, Work::Sparse, |_| false);
    check_transcoders(-1.8, &relative(None), Work::Sparse, |_| false);
}

/// Cases of dead latents: none, one, 75 of which ten are chosen (dense products), and 270 of which ten are (sparse).
fn with_few_and_many_dead(objective: &Objective) {
    check([20, 300, 50], 0.0, objective, Work::Any, |_| false);
    check([20, 300, 50], 0.0, objective, Work::Any, |i| i == 7);
    check([20, 300, 50], 0.0, objective, Work::Any, |i| i % 4 == 0);
    check([20, 300, 50], 0.0, objective, Work::Any, |i| i % 10 != 0);
}

#[test]
fn topk_with_few_and_many_dead_latents() {
    for rescale_acts_by_decoder_norm in [true, false] {
        with_few_and_many_dead(&topk(6, rescale_acts_by_decoder_norm));
        with_few_and_many_dead(&theirs(topk(6, rescale_acts_by_decoder_norm)));
    }
}

#[test]
fn batchtopk_with_few_and_many_dead_latents() {
    for rescale in [true, false] {
        with_few_and_many_dead(&Objective::BatchTopK { choice: choice(rescale) });
        with_few_and_many_dead(&theirs(Objective::BatchTopK { choice: choice(rescale) }));
    }
}

#[test]
fn matryoshka_with_few_and_many_dead_latents() {
    for rescale in [true, false] {
        for aux_by_width in [false, true] {
            let (choice, widths) = (choice(rescale), vec![1, 40, 130]);
            let objective = Objective::Matryoshka { choice, widths, aux_by_width };
            with_few_and_many_dead(&objective);
            with_few_and_many_dead(&theirs(objective));
        }
    }
}

#[test]
fn top_afa_dense_and_sparse_with_few_and_many_dead_latents() {
    for (k_aux, afa_coefficient) in [(10, 0.3), (40, 0.05), (3, 0.0)] {
        let objective = Objective::TopAfa(TopAfa { afa_coefficient, aux_loss_coefficient: 0.7, k_aux });
        with_few_and_many_dead(&objective);
    }
    let objective = Objective::TopAfa(TopAfa { afa_coefficient: 0.3, aux_loss_coefficient: 0.7, k_aux: 10 });
    // In two dimensions some eight of 400 latents reach the norm; in forty, all that are positive do not.
    check([2, 400, 70], 0.0, &objective, Work::Sparse, |_| false);
    check([2, 400, 70], 0.0, &objective, Work::Sparse, |i| i % 4 == 0);
    check([40, 130, 70], 0.0, &objective, Work::Dense, |_| false);
    check([40, 130, 70], 0.0, &objective, Work::Dense, |i| i % 4 == 0);
}

#[test]
fn matching_pursuit_through_all_choices() {
    for (residual_threshold, max_iterations, stop_on_duplicate_support) in
        [(0.01, None, true), (1.5, None, true), (0.0, Some(7), false), (2.0, Some(12), false)]
    {
        let rule = MatchingPursuit { residual_threshold, max_iterations, stop_on_duplicate_support };
        check([20, 130, 70], 0.0, &Objective::MatchingPursuit(rule), Work::Any, |_| false);
    }
}

/// A row of 2^18 pre-activations: pieces of 35 rows.
const WIDE: [usize; 3] = [4, 1 << 18, 70];

#[test]
fn batches_that_are_cut_into_pieces() {
    check(WIDE, 0.0, &topk(5, true), Work::Any, |i| i % 1000 == 0);
    check(WIDE, 0.0, &theirs(topk(5, true)), Work::Any, |i| i % 1000 == 0);
    let nested = Objective::Matryoshka { choice: choice(true), widths: vec![1 << 12], aux_by_width: true };
    check(WIDE, 0.0, &nested, Work::Any, |i| i % 1000 == 0);
    let top_afa = Objective::TopAfa(TopAfa { afa_coefficient: 0.3, aux_loss_coefficient: 0.7, k_aux: 10 });
    check(WIDE, 0.0, &top_afa, Work::Any, |i| i % 1000 == 0);
}

/// Where rows do not compete, a batch is the mean of its pieces, whether they are worked on densely or sparsely.
#[test]
fn a_batch_is_the_mean_of_its_pieces() {
    let [d_in, d_sae, rows] = WIDE;
    let half = rows / 2 * d_in;
    let dead: Vec<bool> = (0..d_sae).map(|i| i % 1000 == 0).collect();
    for objective in [
        Objective::Relu { l1: 0.3, l1_warm_up_steps: 0 },
        gated(0.3, false),
        gated(0.3, true),
        jump_relu(Sparsity::Quadratic { target_l0: 50.0 }, true, Some(0.2)),
    ] {
        let weights = weights(d_in, d_sae, -0.5, &objective);
        let mut x = normal(rows * d_in, 1, 2.0);
        x[half..].iter_mut().for_each(|x| *x *= 0.1);
        let (whole, gradients, _) = run(&weights, &objective, true, &x, &dead);
        let [first, second] = [&x[..half], &x[half..]].map(|x| run(&weights, &objective, true, x, &dead));
        // The two halves are worked on differently.
        assert!(first.0.active * 20 > half / d_in * d_sae && second.0.active * 40 < half / d_in * d_sae);
        assert_eq!(whole.active, first.0.active + second.0.active);
        let total = f64::midpoint(first.0.losses.total(), second.0.losses.total());
        assert!((whole.losses.total() - total).abs() <= TOLERANCE * total);
        for ((a, b), all) in first.1.each().into_iter().zip(second.1.each()).zip(gradients.each()) {
            let mean: Vec<f32> = a.iter().zip(b).map(|(a, b)| f32::midpoint(*a, *b)).collect();
            assert!(distance(all, &mean) <= TOLERANCE);
        }
    }
}

/// The comparison sees a hundredth of one option, and which entries the estimator reaches.
#[test]
fn the_oracle_tells_options_apart() {
    let JumpRelu { bandwidth, .. } = options(&jump_relu(Sparsity::Step, false, Some(0.2)));
    let of = |bandwidth, ste_to_input, pre_act| {
        let base = options(&jump_relu(Sparsity::Step, ste_to_input, Some(pre_act)));
        Objective::JumpRelu(JumpRelu { bandwidth, ..base })
    };
    let right = of(bandwidth, false, 0.2);
    let weights = weights(20, 130, -1.2, &right);
    let x = normal(70 * 20, 1, 1.0);
    let dead: Vec<bool> = (0..130).map(|i| i == 50).collect();
    let (_, gradients, _) = run(&weights, &right, true, &x, &dead);
    let worst = |objective: &Objective| {
        let mut oracle = Oracle::new(&weights, true, &x, &dead);
        oracle.compute(objective);
        let distances = gradients.each().into_iter().zip(oracle.gradients()).map(|(a, b)| distance(a, &b));
        distances.fold(0.0, f64::max)
    };
    assert!(worst(&right) <= TOLERANCE);
    for wrong in [of(bandwidth * 1.01, false, 0.2), of(bandwidth, true, 0.2), of(bandwidth, false, 0.202)] {
        assert!(worst(&wrong) > 10.0 * TOLERANCE, "{wrong:?}: {}", worst(&wrong));
    }
}

fn options(objective: &Objective) -> JumpRelu {
    match objective {
        Objective::JumpRelu(options) => *options,
        _ => unreachable!("only made of jumprelu"),
    }
}

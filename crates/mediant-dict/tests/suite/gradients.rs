//! The hand-written gradients against automatic differentiation of the dense formulas.

use burn::backend::{Autodiff, Flex};
use burn::tensor::{Tensor, TensorData};
use mediant_dict::train::{Gradients, Losses};
use mediant_dict::{Objective, Weights};

use crate::support::{normal, run};

type B = Autodiff<Flex>;

fn matrix<const D: usize>(data: &[f32], shape: [usize; D]) -> Tensor<B, D> {
    Tensor::from_data(TensorData::new(data.to_vec(), shape), &Default::default())
}

fn numbers<const D: usize>(tensor: Tensor<Flex, D>) -> Vec<f32> {
    tensor.into_data().into_vec().unwrap()
}

/// 1 at the k largest entries of each row among the allowed columns, by sorting.
fn mask(pre: &[f32], width: usize, k: usize, allowed: &[bool]) -> Vec<f32> {
    let mut mask = vec![0.0; pre.len()];
    for (row, mask) in pre.chunks_exact(width).zip(mask.chunks_exact_mut(width)) {
        let mut order: Vec<usize> = (0..width).filter(|&i| allowed[i]).collect();
        order.sort_by(|&a, &b| row[b].total_cmp(&row[a]).then(a.cmp(&b)));
        order.iter().take(k).for_each(|&i| mask[i] = 1.0);
    }
    mask
}

/// SAELens' losses as written in its source, differentiated by burn.
fn oracle(
    weights: &Weights,
    objective: &Objective,
    subtract: bool,
    x: &[f32],
    l1: f64,
    dead: &[bool],
) -> (Losses, Gradients) {
    let (d_in, d_sae) = (weights.d_in, weights.d_sae);
    let rows = x.len() / d_in;
    let w_enc = matrix(&weights.w_enc, [d_sae, d_in]).require_grad();
    let b_enc = matrix(&weights.b_enc, [1, d_sae]).require_grad();
    let w_dec = matrix(&weights.w_dec, [d_sae, d_in]).require_grad();
    let b_dec = matrix(&weights.b_dec, [1, d_in]).require_grad();
    let x = matrix(x, [rows, d_in]);
    let input = if subtract { x.clone() - b_dec.clone() } else { x.clone() };
    let pre = input.matmul(w_enc.clone().transpose()) + b_enc.clone();
    let norms = w_dec.clone().powf_scalar(2.0).sum_dim(1).sqrt().transpose();
    let scalar = |loss: &Tensor<B, 1>| f64::from(loss.clone().into_scalar());
    let mut losses = Losses::default();

    let (out, extra) = match *objective {
        Objective::Relu { .. } => {
            let acts = burn::tensor::activation::relu(pre);
            let sparsity = (acts.clone() * norms).sum_dim(1).mean() * l1 as f32;
            losses.l1 = scalar(&sparsity);
            (acts.matmul(w_dec.clone()) + b_dec.clone(), sparsity)
        }
        Objective::TopK { k, rescale_acts_by_decoder_norm: rescale, aux_loss_coefficient } => {
            let hidden = if rescale { pre * norms.clone() } else { pre };
            let values = numbers(hidden.clone().inner());
            let decode = |acts: Tensor<B, 2>| {
                if rescale { (acts / norms.clone()).matmul(w_dec.clone()) } else { acts.matmul(w_dec.clone()) }
            };
            let chosen = mask(&values, d_sae, k, &vec![true; d_sae]);
            let acts = burn::tensor::activation::relu(hidden.clone()) * matrix(&chosen, [rows, d_sae]);
            let out = decode(acts) + b_dec.clone();
            let count = dead.iter().filter(|&&dead| dead).count();
            let k_aux = (d_in / 2).min(count);
            let mut aux = Tensor::zeros([1], &Default::default());
            if k_aux > 0 {
                let residual = Tensor::from_inner((x.clone() - out.clone()).inner());
                let chosen = mask(&values, d_sae, k_aux, dead);
                let error = decode(hidden * matrix(&chosen, [rows, d_sae])) - residual;
                let scale = (count as f64 / (d_in / 2) as f64).min(1.0) * aux_loss_coefficient;
                aux = error.powf_scalar(2.0).sum_dim(1).mean() * scale as f32;
            }
            losses.aux = scalar(&aux);
            (out, aux)
        }
    };
    let mse = (out - x).powf_scalar(2.0).sum_dim(1).mean();
    losses.mse = scalar(&mse);
    let grads = (mse + extra).backward();
    let gradients = Gradients {
        w_enc: numbers(w_enc.grad(&grads).unwrap()),
        b_enc: numbers(b_enc.grad(&grads).unwrap()),
        w_dec: numbers(w_dec.grad(&grads).unwrap()),
        b_dec: numbers(b_dec.grad(&grads).unwrap()),
    };
    (losses, gradients)
}

/// 1e-5 in the 2-norm: a few hundred roundings of f32 on both sides.
#[track_caller]
fn assert_near(what: &str, a: &[f32], b: &[f32]) {
    let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    let difference = norm(&mut a.iter().zip(b).map(|(a, b)| a - b));
    let size = norm(&mut b.iter().copied());
    assert!(size > 0.0 && difference <= 1e-5 * size, "{what}: {difference} of {size}");
}

/// Weights in the middle of a training: encoder and decoder differ, biases are not zero.
fn weights(d_in: usize, d_sae: usize, bias: f32) -> Weights {
    let mut weights = Weights::init(d_in, d_sae, Some(0.6), 5);
    let sizes = weights.each().map(<[f32]>::len);
    for ((parameter, size), seed) in weights.each_mut().into_iter().zip(sizes).zip(10..) {
        parameter.iter_mut().zip(normal(size, seed, 0.1)).for_each(|(x, noise)| *x += noise);
    }
    weights.b_enc.iter_mut().for_each(|x| *x += bias);
    weights
}

fn check(
    d_in: usize,
    d_sae: usize,
    rows: usize,
    bias: f32,
    objective: Objective,
    l1: f64,
    dead: impl Fn(usize) -> bool,
) {
    let weights = weights(d_in, d_sae, bias);
    let x = normal(rows * d_in, 1, 1.0);
    let dead: Vec<bool> = (0..d_sae).map(dead).collect();
    for subtract in [true, false] {
        let (found, gradients, _) = run(&weights, &objective, subtract, &x, l1, &dead);
        let (losses, expected) = oracle(&weights, &objective, subtract, &x, l1, &dead);
        for (a, b) in [(found.losses.mse, losses.mse), (found.losses.l1, losses.l1), (found.losses.aux, losses.aux)] {
            assert!((a - b).abs() <= 1e-5 * b, "{a} is not {b}");
        }
        for ((name, a), b) in ["W_enc", "b_enc", "W_dec", "b_dec"].iter().zip(gradients.each()).zip(expected.each()) {
            assert_near(name, a, b);
        }
    }
}

#[test]
fn relu_dense_and_sparse() {
    let objective = Objective::Relu { l1: 0.3, l1_warm_up_steps: 0 };
    // Half of all latents are active, and with the low bias one in some two hundred.
    check(20, 130, 70, 0.0, objective, 0.3, |_| false);
    check(20, 130, 70, -2.0, objective, 0.3, |_| false);
    check(20, 130, 70, -2.0, objective, 0.0, |_| false);
}

#[test]
fn topk_with_few_and_many_dead_latents() {
    for rescale_acts_by_decoder_norm in [true, false] {
        let objective = Objective::TopK { k: 6, rescale_acts_by_decoder_norm, aux_loss_coefficient: 0.7 };
        check(20, 300, 50, 0.0, objective, 0.0, |_| false);
        check(20, 300, 50, 0.0, objective, 0.0, |i| i == 7);
        // Ten of 75 dead latents are chosen: dense products.
        check(20, 300, 50, 0.0, objective, 0.0, |i| i % 4 == 0);
        // Ten of 270: sparse.
        check(20, 300, 50, 0.0, objective, 0.0, |i| i % 10 != 0);
    }
}

#[test]
fn batches_that_are_cut_into_pieces() {
    // A row of 2^18 pre-activations: pieces of 64 rows.
    let objective = Objective::TopK { k: 5, rescale_acts_by_decoder_norm: true, aux_loss_coefficient: 0.7 };
    check(4, 1 << 18, 70, 0.0, objective, 0.0, |i| i % 1000 == 0);
}

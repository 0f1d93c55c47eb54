//! Bits depend neither on the number of threads nor on what else is in a batch.

use burn::backend::{Autodiff, Flex};
use burn::tensor::{Int, Tensor, TensorData};
use mediant_tensor::optim::{Adam, Moments, global_norm};
use mediant_tensor::{NormScale, ops, random};
use proptest::prelude::*;

fn normal(shape: &[usize], seed: u64) -> Vec<f32> {
    let mut values = vec![0.0; shape.iter().product()];
    random::fill_normal(&mut random::stream(seed, "test"), &mut values, 0.0, 1.0);
    values
}

fn tensor<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<Autodiff<Flex>, D> {
    Tensor::from_data(TensorData::new(normal(&shape, seed), shape), &Default::default())
}

/// Loss, all gradients and an optimiser step of a small network that uses every kernel.
fn training_step() -> Vec<u32> {
    let [batch, positions, width, vocab] = [5, 97, 48, 601];
    let embed = tensor([vocab, width], 1).require_grad();
    let gain = tensor([width], 2).require_grad();
    let bias = tensor([width], 3).require_grad();
    let qkv = tensor([width, 3 * width], 4).require_grad();
    let up = tensor([width, 4 * width], 5).require_grad();
    let up_bias = tensor([4 * width], 6).require_grad();
    let down = tensor([2 * width, width], 7).require_grad();
    let ids: Vec<i32> = (0..batch * positions).map(|i| (i * i % vocab) as i32).collect();
    let rows = ids.len();
    let targets = Tensor::<_, 1, Int>::from_data(TensorData::from(&ids[..]), &Default::default());
    let ids = targets.clone().reshape([batch, positions]);
    let x = ops::embedding(embed.clone(), ids);
    let normed = ops::layer_norm(x.clone(), gain.clone(), bias.clone(), NormScale::Computed { eps: 1e-5 });
    let packed = ops::linear(normed, qkv.clone(), None).reshape([rows, 3 * width]);
    let lengths = vec![positions; batch];
    let x = x + ops::attention_qkv(packed, &lengths, 3, 0.25).reshape([batch, positions, width]);
    let normed = ops::rms_norm(x.clone(), gain.clone(), NormScale::Frozen(0.9));
    let hidden = ops::gelu_new(ops::linear(normed, up.clone(), Some(up_bias.clone())));
    let gate = hidden.clone().narrow(2, 0, 2 * width);
    let gated = ops::silu_mul(gate, hidden.narrow(2, 2 * width, 2 * width));
    let x = x + ops::linear(gated, down.clone(), None);
    let weights = Tensor::full([rows], 1.0 / rows as f32, &Default::default());
    let x = x.reshape([rows, width]);
    let loss = ops::unembed_loss(x, embed.clone(), targets, weights);
    let mut out: Vec<f32> = loss.clone().into_data().into_vec().unwrap();
    let grads = loss.backward();
    let vectors = [gain, bias, up_bias].map(|p| p.grad(&grads).unwrap().into_data());
    let matrices = [embed, qkv, up, down].map(|p| p.grad(&grads).unwrap().into_data());
    let grads: Vec<Vec<f32>> = vectors.into_iter().chain(matrices).map(|g| g.into_vec().unwrap()).collect();
    out.push(global_norm(grads.iter().map(|g| &g[..])) as f32);
    let mut moments = Moments::zeros(grads[3].len());
    Adam::default().step(1, 0.1, &mut normal(&[vocab, width], 1), &grads[3], 0.5, &mut moments);
    out.extend(grads.into_iter().flatten().chain(moments.second));
    out.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn a_training_step_has_the_same_bits_on_any_number_of_threads() {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(training_step)
    };
    let one = run(1);
    assert!(one.iter().all(|bits| f32::from_bits(*bits).is_finite()));
    for threads in [2, 3, 8] {
        assert!(run(threads) == one, "{threads} threads");
    }
}

fn linear(x: &[f32], weight: &[f32], inputs: usize, outputs: usize, transposed: bool) -> Vec<u32> {
    let device = Default::default();
    let rows = x.len() / inputs;
    let x = Tensor::<Flex, 2>::from_data(TensorData::new(x.to_vec(), [rows, inputs]), &device);
    let weight = if transposed {
        Tensor::from_data(TensorData::new(weight.to_vec(), [outputs, inputs]), &device).transpose()
    } else {
        Tensor::from_data(TensorData::new(weight.to_vec(), [inputs, outputs]), &device)
    };
    let y: Vec<f32> = ops::linear(x, weight, None).into_data().into_vec().unwrap();
    y.iter().map(|x| x.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The sizes cross every limit at which the matrix library changes its path.
    #[test]
    fn a_row_of_a_product_does_not_depend_on_the_batch(
        rows in 1usize..530, first in 0usize..530, count in 1usize..70,
        inputs in prop_oneof![1usize..40, 500usize..800],
        outputs in 2usize..140,
        transposed: bool,
    ) {
        let first = first % rows;
        let count = count.min(rows - first);
        let (x, weight) = (normal(&[rows, inputs], 1), normal(&[inputs, outputs], 2));
        let all = linear(&x, &weight, inputs, outputs, transposed);
        let some = linear(&x[first * inputs..(first + count) * inputs], &weight, inputs, outputs, transposed);
        prop_assert!(all[first * outputs..(first + count) * outputs] == some[..]);
    }

    #[test]
    fn attention_of_a_sequence_does_not_depend_on_the_batch(
        batch in 2usize..5, positions in 1usize..140, width in 1usize..40, queries in 1usize..140,
    ) {
        let shape = [batch, positions, 2, width];
        let device = Default::default();
        let [q, k, v] = [1, 2, 3].map(|seed| Tensor::<Flex, 4>::from_data(TensorData::new(normal(&shape, seed), shape), &device));
        let all = ops::attention(q.clone(), k.clone(), v.clone(), 0.3).narrow(0, 1, 1);
        // The last queries alone, as with a cache of the earlier keys.
        let queries = queries.min(positions);
        let q = q.narrow(0, 1, 1).narrow(1, positions - queries, queries);
        let some = ops::attention(q, k.narrow(0, 1, 1), v.narrow(0, 1, 1), 0.3);
        let all = all.narrow(1, positions - queries, queries);
        let [all, some] = [all, some].map(|z| z.into_data().into_vec::<f32>().unwrap());
        prop_assert_eq!(all, some);
    }
}

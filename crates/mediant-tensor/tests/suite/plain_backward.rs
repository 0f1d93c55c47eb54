//! The gradients written out in burn's operations (what CUDA runs) against the kernels.

use burn::backend::Flex;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Int, Tensor, TensorData};
use mediant_tensor::{Compute, NormScale, plain, random};

fn tensor<const D: usize>(shape: [usize; D], seed: u64) -> FloatTensor<Flex> {
    let mut values = vec![0.0; shape.iter().product()];
    random::fill_normal(&mut random::stream(seed, "test"), &mut values, 0.0, 1.0);
    Tensor::<Flex, D>::from_data(TensorData::new(values, shape), &Default::default()).into_primitive().tensor()
}

fn values(x: FloatTensor<Flex>) -> Vec<f32> {
    x.into_data().into_vec().unwrap()
}

fn assert_same<const N: usize>(name: &str, kernel: [FloatTensor<Flex>; N], plain: [FloatTensor<Flex>; N]) {
    for (i, (a, b)) in kernel.into_iter().zip(plain).enumerate() {
        let (a, b) = (values(a), values(b));
        assert_eq!(a.len(), b.len());
        let largest = b.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        // Two orders of sums of up to a few hundred f32 terms.
        let worst = a.iter().zip(&b).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(worst <= 1e-5 * largest, "{name}: gradient {i} off by {worst} of {largest}");
    }
}

#[test]
fn elementwise() {
    let x = |seed| tensor([9, 37], seed);
    assert_same("gelu", [Flex::gelu_erf_backward(x(1), x(2))], [plain::gelu_erf_backward::<Flex>(x(1), x(2))]);
    assert_same("gelu_new", [Flex::gelu_new_backward(x(1), x(2))], [plain::gelu_new_backward::<Flex>(x(1), x(2))]);
    assert_same(
        "silu_mul",
        Flex::silu_mul_backward(x(1), x(2), x(3)).into(),
        plain::silu_mul_backward::<Flex>(x(1), x(2), x(3)).into(),
    );
}

#[test]
fn norms() {
    let (x, w, g) = (|| tensor([50, 37], 1), || tensor([37], 2), || tensor([50, 37], 3));
    for scale in [NormScale::Computed { eps: 1e-5 }, NormScale::Frozen(0.7)] {
        assert_same(
            "layer_norm",
            Flex::layer_norm_backward(x(), w(), g(), scale).into(),
            plain::layer_norm_backward::<Flex>(x(), w(), g(), scale).into(),
        );
        assert_same(
            "rms_norm",
            Flex::rms_norm_backward(x(), w(), g(), scale).into(),
            plain::rms_norm_backward::<Flex>(x(), w(), g(), scale).into(),
        );
    }
    for centered in [true, false] {
        let of_rows = || tensor([50], 4);
        assert_same(
            "norm_scales",
            [Flex::norm_scales_backward(x(), of_rows(), centered, 1e-5)],
            [plain::norm_scales_backward::<Flex>(x(), of_rows(), centered, 1e-5)],
        );
    }
    assert_same("sum_rows", [Flex::sum_rows(x())], [plain::sum_rows::<Flex>(x())]);
}

#[test]
fn attention() {
    let (q, k, v) = (|| tensor([2, 9, 4, 8], 1), || tensor([2, 12, 2, 8], 2), || tensor([2, 12, 2, 8], 3));
    let g = || tensor([2, 9, 4, 8], 4);
    assert_same(
        "attention",
        Flex::attention_backward(q(), k(), v(), g(), 0.3).into(),
        plain::attention_backward::<Flex>(q(), k(), v(), g(), 0.3).into(),
    );
    let (qkv, g) = (|| tensor([31, 96], 1), || tensor([31, 32], 2));
    assert_same(
        "attention_qkv",
        [Flex::attention_qkv_backward(qkv(), g(), &[9, 9, 12, 1], 4, 0.3)],
        [plain::attention_qkv_backward::<Flex>(qkv(), g(), &[9, 9, 12, 1], 4, 0.3)],
    );
    let pattern = || Flex::causal_softmax(tensor([2, 3, 9, 12], 1));
    let g = || tensor([2, 3, 9, 12], 2);
    assert_same(
        "causal_softmax",
        [Flex::causal_softmax_backward(pattern(), g())],
        [plain::causal_softmax_backward::<Flex>(pattern(), g())],
    );
}

#[test]
fn losses_and_embedding() {
    let ids =
        |ids: [i32; 5]| Tensor::<Flex, 1, Int>::from_data(TensorData::from(ids), &Default::default()).into_primitive();
    let targets = || ids([0, 52, 7, 7, 30]);
    let (logits, w) = (|| tensor([5, 53], 1), || tensor([5], 2));
    assert_same(
        "token_nll",
        [Flex::token_nll_backward(logits(), targets(), w())],
        [plain::token_nll_backward::<Flex>(logits(), targets(), w())],
    );
    let (x, u) = (|| tensor([5, 8], 3), || tensor([53, 8], 4));
    let both = |(loss, gradients): (FloatTensor<Flex>, Option<mediant_tensor::UnembedGradients<Flex>>)| {
        let gradients = gradients.unwrap();
        [loss, gradients.hidden, gradients.unembed]
    };
    assert_same(
        "unembed_loss",
        both(Flex::unembed_loss(x(), u(), targets(), w(), true)),
        both(plain::unembed_loss::<Flex>(x(), u(), targets(), w(), true)),
    );
    let g = || tensor([5, 8], 5);
    assert_same("embed", [Flex::embed_grad(53, targets(), g())], [plain::embed_grad::<Flex>(53, targets(), g())]);
}

#[test]
fn what_is_hidden_from_a_query_is_exactly_zero_whatever_stands_there() {
    let mut scores = vec![0.5f32; 2 * 4];
    scores[3] = f32::NAN;
    scores[2] = f32::INFINITY;
    let scores = Tensor::<Flex, 4>::from_data(TensorData::new(scores, [1, 1, 2, 4]), &Default::default());
    let pattern: Vec<f32> =
        mediant_tensor::ops::causal_softmax(scores.slice([0..1, 0..1, 0..2, 0..4])).into_data().into_vec().unwrap();
    // Query 0 of 2 stands at key 2 of 4: its own key is infinite, so its row is NaN but for the last entry.
    assert_eq!(pattern[3], 0.0);
    assert_eq!(pattern[4..], [0.25; 4]);
}

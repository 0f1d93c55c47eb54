//! Adam and AdamW against PyTorch 2: twenty steps on `mean((a·w − b)²)`.
//!
//! `fixtures/optimiser.safetensors`: `w0` [6, 5], `a` [8, 6], `b` [8, 5], and `after20.*`, the weights after twenty steps of
//! `torch.optim.Adam(lr=0.05, betas=(0.0, 0.999))`, `Adam(lr=0.05)` and
//! `AdamW(lr=0.05, betas=(0.9, 0.95), weight_decay=0.1)`.

use mediant_tensor::optim::{Adam, Moments, TensorMoments, clip_factor, global_norm};
use mediant_tensor::{Flex, Tensor};
use safetensors::SafeTensors;

fn read(name: &str) -> Vec<f32> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/optimiser.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let view = file.tensor(name).unwrap();
    let chunks = view.data().chunks_exact(4);
    chunks.map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// Gradient of `mean((a·w − b)²)`: `2/40 aᵀ (a·w − b)`, in f64.
fn gradient(a: &[f32], b: &[f32], w: &[f32]) -> Vec<f32> {
    let [a, b, w] = [a, b, w].map(|x| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
    let residual = |i: usize, j: usize| (0..6).map(|k| a[i * 6 + k] * w[k * 5 + j]).sum::<f64>() - b[i * 5 + j];
    let one = |k: usize, j: usize| (0..8).map(|i| a[i * 6 + k] * residual(i, j)).sum::<f64>() / 20.0;
    (0..30).map(|at| one(at / 5, at % 5) as f32).collect()
}

#[test]
fn twenty_steps_are_pytorchs() {
    let adam = |beta1| Adam { betas: (beta1, 0.999), ..Adam::default() };
    let adamw = Adam { betas: (0.9, 0.95), weight_decay: 0.1, decoupled: true, ..Adam::default() };
    let (a, b) = (read("a"), read("b"));
    for (name, optimiser) in [
        ("after20.adam_b1_0_b2_999", adam(0.0)),
        ("after20.adam_b1_9_b2_999", adam(0.9)),
        ("after20.adamw_b1_9_b2_95_wd_1", adamw),
    ] {
        let mut w = read("w0");
        let mut moments = Moments::zeros(w.len());
        for step in 1..=20 {
            let grad = gradient(&a, &b, &w);
            optimiser.step(step, 0.05, &mut w, &grad, 1.0, &mut moments);
        }
        let on_device = twenty_tensor_steps(&optimiser, &a, &b);
        for ((w, tensor), expected) in w.iter().zip(on_device).zip(read(name)) {
            assert!((w - expected).abs() <= 1e-6, "{name}: {w} is not {expected}");
            assert!((tensor - expected).abs() <= 1e-6, "{name}: {tensor} is not {expected}");
        }
    }
}

/// The same steps on tensors, with gradients twice as large that are scaled down again.
fn twenty_tensor_steps(optimiser: &Adam, a: &[f32], b: &[f32]) -> Vec<f32> {
    let device = Default::default();
    let tensor = |values: Vec<f32>| Tensor::<Flex, 1>::from_data(&values[..], &device);
    let mut w = tensor(read("w0"));
    let mut moments = TensorMoments { first: w.zeros_like(), second: w.zeros_like() };
    let numbers = |w: &Tensor<Flex, 1>| w.to_data().into_vec::<f32>().unwrap();
    for step in 1..=20 {
        let grad = tensor(gradient(a, b, &numbers(&w))) * 2.0;
        (w, moments) = optimiser.step_tensor(step, 0.05, w, grad, 0.5, moments);
    }
    numbers(&w)
}

#[test]
fn plain_adam_adds_the_decay_to_the_gradient() {
    // One step of Adam moves by lr against the sign of the gradient it saw: with decay 1 and gradient 0.5 at w = −1 that is −0.5.
    let optimiser = Adam { weight_decay: 1.0, ..Adam::default() };
    let (mut w, mut moments) = ([-1.0], Moments::zeros(1));
    optimiser.step(1, 0.1, &mut w, &[0.5], 1.0, &mut moments);
    assert!((w[0] + 0.9).abs() < 1e-6);
}

#[test]
fn the_global_norm_is_that_of_all_gradients_together() {
    let (a, b) = (vec![3.0; 50_000], vec![-4.0; 7]);
    let norm = global_norm([&a[..], &b]);
    // Integers: every partial sum is exact in f64.
    assert_eq!(norm, (9.0f64 * 50_000.0 + 16.0 * 7.0).sqrt());
    assert_eq!(global_norm([]), 0.0);
    assert_eq!(clip_factor(0.5, 1.0), 1.0);
    // 1 / (4 + 1e-6), as clip_grad_norm_ divides.
    assert!((clip_factor(4.0, 1.0) - 0.249_999_94).abs() < 1e-7);
}

#[test]
fn the_gradient_scale_is_applied_before_the_moments() {
    let optimiser = Adam::default();
    let run = |grad: f32, scale: f32| {
        let (mut w, mut moments) = ([1.0], Moments::zeros(1));
        for step in 1..=3 {
            optimiser.step(step, 0.1, &mut w, &[grad * step as f32], scale, &mut moments);
        }
        (w, moments)
    };
    assert_eq!(run(0.5, 0.25), run(0.125, 1.0));
}

//! Adam and AdamW as PyTorch computes them, on plain slices and on tensors; the global norm of gradients.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use rayon::prelude::*;

use crate::kernels::simd;

/// Elements that one task works on: fixed, so that sums have one order whatever the number of threads.
const BLOCK: usize = 1 << 14;

/// Adam (Kingma & Ba 2015, arXiv:1412.6980) with PyTorch's conventions: bias-corrected moments, `eps` added outside the
/// square root, and weight decay either added to the gradient (`torch.optim.Adam`) or applied to the parameter first
/// (`torch.optim.AdamW`; Loshchilov & Hutter 2019, arXiv:1711.05101).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Decay of the first and the second moment.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// AdamW: the parameter shrinks by `lr · weight_decay`; else the decay joins the gradient.
    pub decoupled: bool,
}

impl Default for Adam {
    /// PyTorch's Adam: betas (0.9, 0.999), eps 1e-8, no decay.
    fn default() -> Self {
        Self { betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.0, decoupled: false }
    }
}

/// The moments of one parameter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments {
    /// Running mean of the gradient.
    pub first: Vec<f32>,
    /// Running mean of its square.
    pub second: Vec<f32>,
}

impl Moments {
    /// Moments of a parameter of `len` elements, before its first step.
    pub fn zeros(len: usize) -> Self {
        Self { first: vec![0.0; len], second: vec![0.0; len] }
    }
}

impl Adam {
    /// One update of one parameter with `gradient_scale · grad`. `step` counts from 1. All slices have one length.
    pub fn step(
        &self,
        step: u64,
        lr: f64,
        param: &mut [f32],
        grad: &[f32],
        gradient_scale: f32,
        moments: &mut Moments,
    ) {
        assert!(
            [grad.len(), moments.first.len(), moments.second.len()] == [param.len(); 3],
            "a parameter, its gradient and its moments have one length"
        );
        let update = Update::new(self, step, lr, gradient_scale);
        param
            .par_chunks_mut(BLOCK)
            .zip(grad.par_chunks(BLOCK))
            .zip(moments.first.par_chunks_mut(BLOCK))
            .zip(moments.second.par_chunks_mut(BLOCK))
            .for_each(|(((p, g), m), v)| {
                simd(
                    #[inline(always)]
                    || update.apply(p, g, m, v),
                );
            });
    }
}

/// The moments of one parameter on a device.
#[derive(Clone, Debug)]
pub struct TensorMoments<B: Backend, const D: usize> {
    /// Running mean of the gradient.
    pub first: Tensor<B, D>,
    /// Running mean of its square.
    pub second: Tensor<B, D>,
}

impl Adam {
    /// [`Self::step`] where the parameter lives; returns the new parameter and moments.
    pub fn step_tensor<B: Backend, const D: usize>(
        &self,
        step: u64,
        lr: f64,
        param: Tensor<B, D>,
        grad: Tensor<B, D>,
        gradient_scale: f32,
        moments: TensorMoments<B, D>,
    ) -> (Tensor<B, D>, TensorMoments<B, D>) {
        let update = Update::new(self, step, lr, gradient_scale);
        let shrunk = param * update.shrink;
        let grad = grad * update.gradient_scale + shrunk.clone() * update.decay;
        let away = grad.clone() - moments.first.clone();
        let first = if update.one_minus_beta1 < 0.5 {
            moments.first + away * update.one_minus_beta1
        } else {
            grad.clone() - away * update.beta1
        };
        let second = moments.second * update.beta2 + grad.clone() * update.one_minus_beta2 * grad;
        let denominator = second.clone().sqrt() / update.root_of_correction2 + update.eps;
        let param = shrunk - first.clone() / denominator * update.step_size;
        (param, TensorMoments { first, second })
    }
}

/// The scalars of a step, rounded to f32 where PyTorch's f32 kernels round them.
struct Update {
    gradient_scale: f32,
    shrink: f32,
    decay: f32,
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    step_size: f32,
    root_of_correction2: f32,
    eps: f32,
}

impl Update {
    fn new(adam: &Adam, step: u64, lr: f64, gradient_scale: f32) -> Self {
        let (beta1, beta2) = adam.betas;
        // powf, not powi: a step beyond i32 is a legal step.
        let correction = |beta: f64| 1.0 - beta.powf(step as f64);
        let decay = adam.weight_decay;
        Self {
            gradient_scale,
            shrink: if adam.decoupled { 1.0 - lr * decay } else { 1.0 } as f32,
            decay: if adam.decoupled { 0.0 } else { decay } as f32,
            beta1: beta1 as f32,
            one_minus_beta1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            one_minus_beta2: (1.0 - beta2) as f32,
            step_size: (lr / correction(beta1)) as f32,
            root_of_correction2: correction(beta2).sqrt() as f32,
            eps: adam.eps as f32,
        }
    }

    #[inline(always)]
    fn apply(&self, param: &mut [f32], grad: &[f32], first: &mut [f32], second: &mut [f32]) {
        for (((p, &g), m), v) in param.iter_mut().zip(grad).zip(first).zip(second) {
            let shrunk = *p * self.shrink;
            let g = g * self.gradient_scale + shrunk * self.decay;
            // torch.lerp's two forms: the nearer end is the one that stays exact.
            *m = if self.one_minus_beta1 < 0.5 {
                *m + (g - *m) * self.one_minus_beta1
            } else {
                g - (g - *m) * self.beta1
            };
            *v = *v * self.beta2 + self.one_minus_beta2 * g * g;
            let denominator = v.sqrt() / self.root_of_correction2 + self.eps;
            *p = shrunk - self.step_size * (*m / denominator);
        }
    }
}

/// The 2-norm of all gradients together, summed in f64 in the order given.
pub fn global_norm<'a>(grads: impl IntoIterator<Item = &'a [f32]>) -> f64 {
    let squares = grads.into_iter().map(|grad| {
        let blocks: Vec<f64> = grad.par_chunks(BLOCK).map(sum_of_squares).collect();
        blocks.iter().sum::<f64>()
    });
    squares.sum::<f64>().sqrt()
}

/// The factor that brings a norm down to `max`: `torch.nn.utils.clip_grad_norm_`'s `max / (norm + 1e-6)`, at most 1.
pub fn clip_factor(norm: f64, max: f64) -> f32 {
    (max / (norm + 1e-6)).min(1.0) as f32
}

fn sum_of_squares(block: &[f32]) -> f64 {
    simd(
        #[inline(always)]
        || {
            let mut lanes = [0.0f64; 16];
            let (chunks, rest) = block.as_chunks::<16>();
            for chunk in chunks {
                for (lane, &x) in lanes.iter_mut().zip(chunk) {
                    *lane += f64::from(x) * f64::from(x);
                }
            }
            let tail: f64 = rest.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            lanes.iter().sum::<f64>() + tail
        },
    )
}

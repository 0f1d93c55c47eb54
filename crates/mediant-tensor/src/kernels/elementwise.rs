use super::math::{erf, exp};
use super::{build, simd};

/// Elements a task works on.
const BLOCK: usize = 1 << 14;

/// 2 √(2/π): GELU's `0.5 (1 + tanh u)` is `sigmoid(2u)`.
const TWO_ROOT_2_PI: f32 = 2.0 * 0.797_884_6;
const CUBIC: f32 = 0.044_715;

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[inline(always)]
fn gelu_gate(x: f32) -> f32 {
    sigmoid(TWO_ROOT_2_PI * x * (1.0 + CUBIC * x * x))
}

/// `out[i] = f(a[i], b[i])`.
fn map2(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32 + Sync) -> Vec<f32> {
    let (out, _) = build(a.len(), BLOCK, |i, out| {
        let (a, b) = (&a[i * BLOCK..], &b[i * BLOCK..]);
        simd(
            #[inline(always)]
            || {
                for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
                    *out = f(a, b);
                }
            },
        );
    });
    out
}

pub(crate) fn gelu_new(x: &[f32]) -> Vec<f32> {
    map2(x, x, |x, _| x * gelu_gate(x))
}

pub(crate) fn gelu_new_backward(x: &[f32], grad: &[f32]) -> Vec<f32> {
    map2(x, grad, |x, grad| {
        let gate = gelu_gate(x);
        let slope = TWO_ROOT_2_PI * (1.0 + 3.0 * CUBIC * x * x);
        grad * (gate + x * slope * gate * (1.0 - gate))
    })
}

/// The normal distribution.
#[inline(always)]
fn phi(x: f32) -> f32 {
    0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

pub(crate) fn gelu_erf(x: &[f32]) -> Vec<f32> {
    map2(x, x, |x, _| x * phi(x))
}

pub(crate) fn gelu_erf_backward(x: &[f32], grad: &[f32]) -> Vec<f32> {
    /// 1/√(2π)
    const DENSITY: f32 = 0.398_942_3;
    map2(x, grad, |x, grad| grad * (phi(x) + x * DENSITY * exp(-0.5 * x * x)))
}

pub(crate) fn silu_mul(gate: &[f32], up: &[f32]) -> Vec<f32> {
    map2(gate, up, |gate, up| gate * sigmoid(gate) * up)
}

/// Gradients with respect to `gate` and `up`.
pub(crate) fn silu_mul_backward(gate: &[f32], up: &[f32], grad: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let for_up = map2(gate, grad, |gate, grad| grad * gate * sigmoid(gate));
    let (for_gate, _) = build(gate.len(), BLOCK, |i, out| {
        let from = i * BLOCK;
        let (gate, up, grad) = (&gate[from..], &up[from..], &grad[from..]);
        simd(
            #[inline(always)]
            || {
                for (((out, &gate), &up), &grad) in out.iter_mut().zip(gate).zip(up).zip(grad) {
                    let s = sigmoid(gate);
                    *out = grad * up * s * (1.0 + gate * (1.0 - s));
                }
            },
        );
    });
    (for_gate, for_up)
}

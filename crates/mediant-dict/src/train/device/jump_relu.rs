//! `jumprelu`: f = z where z > θ, with a threshold a latent and a straight-through estimator within half a bandwidth of it.
//! See [`super::super::cpu`]'s.

use mediant_tensor::burn::tensor::{Bool, TensorData};
use mediant_tensor::{Compute, Tensor};

use super::fold::{column_sums, row_counts, row_sums};
use super::frame::{Found, Frame, Loss, only, squares};
use crate::{JumpRelu, Sparsity};

pub(super) fn pass<C: Compute>(frame: &Frame<'_, C>, options: &JumpRelu) -> Found<C> {
    let threshold = frame.extra[0].clone();
    let pre = frame.pre_activations();
    let active = pre.clone().greater(threshold.clone());
    let codes = only(&active, pre.clone());
    let errors = frame.errors(&codes);
    let near = ((pre.clone() - threshold.clone()) / options.bandwidth).abs().lower_elem(0.5);
    let Cost { loss, step, slope, of_thresholds } = cost(frame, options, &codes, &active, &near);
    // ∂L/∂f, and what pulls on ‖W_dec,i‖.
    let (mut pull, mut of_norms) = (frame.pulls(&errors), None);
    if let Some(slope) = slope {
        pull = pull + slope.clone() * frame.norms.clone();
        of_norms = Some(slope * codes.clone());
    }
    let mut estimate = pull.clone() * threshold.clone();
    if let Some(step) = step {
        estimate = estimate + step;
    }
    let estimate = only(&near, estimate / options.bandwidth);
    let mut of_pre = only(&active, pull);
    if options.ste_to_input {
        of_pre = of_pre + estimate.clone();
    }
    let mut of_threshold = -estimate;
    let mut others = vec![loss];
    if let Some(coefficient) = options.pre_act_loss_coefficient {
        let dead = frame.dead.iter().map(|dead| f32::from(u8::from(*dead))).collect::<Vec<f32>>();
        let dead = Tensor::<C, 2>::from_data(TensorData::new(dead, [1, frame.dead.len()]), &pre.device());
        let below = threshold - pre;
        // 1 where a dead latent lies below its threshold.
        let pulled = below.clone().greater_elem(0.0).float() * dead;
        let weight = pulled.clone() * frame.norms.clone() * (coefficient / 2.0);
        others.push(frame.mean(row_sums(pulled.clone() * below.clone() * frame.norms.clone()), coefficient));
        let more = pulled * below * (coefficient / 2.0);
        of_norms = Some(of_norms.map_or_else(|| more.clone(), |pulls| pulls + more.clone()));
        of_pre = of_pre - weight.clone();
        of_threshold = of_threshold + weight;
    }
    let mut w_dec = frame.of_decoder(&codes, &errors);
    if let Some(pulls) = of_norms {
        w_dec = w_dec + frame.of_norms(column_sums(pulls));
    }
    Found {
        mse: squares(&errors),
        others,
        active,
        least: None,
        gradients: [frame.of_encoder(&of_pre), column_sums(of_pre), w_dec],
        extra: vec![match of_thresholds {
            None => column_sums(of_threshold),
            Some(pull) => column_sums(of_threshold) + pull,
        }],
        output_pull: errors,
        input_pull: None,
    }
}

/// What sparsity costs.
struct Cost<C: Compute> {
    loss: Loss<C>,
    /// ∂L/∂L0 of every row, `[batch, 1]`, where L0 itself is penalised.
    step: Option<Tensor<C, 2>>,
    /// ∂L/∂(f ‖W_dec‖) of every entry, `[batch, d_sae]`, where activations are.
    slope: Option<Tensor<C, 2>>,
    /// What pulls on thresholds besides, `[1, d_sae]`, where the batch's mean L0 is penalised.
    of_thresholds: Option<Tensor<C, 2>>,
}

fn cost<C: Compute>(
    frame: &Frame<'_, C>,
    options: &JumpRelu,
    codes: &Tensor<C, 2>,
    active: &Tensor<C, 2, Bool>,
    near: &Tensor<C, 2, Bool>,
) -> Cost<C> {
    // The gradients are of batch / 2 times the loss.
    let (coefficient, gain) = (frame.coefficient, frame.coefficient / 2.0);
    let l0 = || row_counts(active.clone()).float();
    match options.sparsity {
        Sparsity::Step => {
            let rows = l0();
            let step = rows.ones_like() * gain;
            Cost { loss: frame.mean(rows, coefficient), step: Some(step), slope: None, of_thresholds: None }
        }
        Sparsity::Quadratic { target_l0 } => {
            let off = l0() - target_l0;
            let loss = frame.mean(off.clone() * off.clone(), coefficient * 2.0 / target_l0);
            Cost { loss, step: Some(off * (gain * 4.0 / target_l0)), slope: None, of_thresholds: None }
        }
        Sparsity::Tanh { scale } => {
            let tanh = (codes.clone() * frame.norms.clone() * scale).tanh();
            let slope = (-(tanh.clone() * tanh.clone()) + 1.0) * (gain * scale);
            let loss = frame.mean(row_sums(tanh), coefficient);
            Cost { loss, step: None, slope: Some(slope), of_thresholds: None }
        }
        Sparsity::Relative { target_l0 } => {
            let (threshold, rows) = (frame.extra[0].clone(), frame.rows() as f64);
            let count = |marked: Tensor<C, 2, Bool>| column_sums(marked.int()).float();
            let per_latent = count(active.clone());
            // The zeros of a latent that is not active count where its threshold is below them, and are near it.
            let counted = per_latent.clone().mask_fill(threshold.clone().lower_elem(0.0), rows);
            let off = row_sums(counted) / (rows * target_l0) - 1.0;
            let away = threshold.abs().greater_equal_elem(0.5 * options.bandwidth);
            let zeros = (-per_latent + rows).mask_fill(away, 0.0);
            let estimates = count(near.clone().bool_and(active.clone())) + zeros;
            let pull = estimates * off.clone() * (-coefficient / (target_l0 * options.bandwidth));
            let loss = Loss { rows: off.clone() * off, factor: coefficient };
            Cost { loss, step: None, slope: None, of_thresholds: Some(pull) }
        }
    }
}

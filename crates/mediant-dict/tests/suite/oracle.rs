//! SAELens' losses, and those of dictionary_learning where they differ, as dense formulas, differentiated by burn.
//!
//! What has no gradient, or a straight-through estimator's, is a constant here: masks of chosen entries, and the estimator
//! as a term that is zero and has its gradient.

use burn::backend::{Autodiff, Flex};
use burn::tensor::activation::relu;
use burn::tensor::{Tensor, TensorData};
use mediant_dict::train::{Losses, Samples};
use mediant_dict::{AuxLoss, BatchChoice, Extra, JumpRelu, MatchingPursuit, Objective, Sparsity, TopAfa, Weights};

type B = Autodiff<Flex>;
type Matrix = Tensor<B, 2>;

fn matrix(data: &[f32], shape: [usize; 2]) -> Matrix {
    Tensor::from_data(TensorData::new(data.to_vec(), shape), &Default::default())
}

fn numbers(tensor: Tensor<Flex, 2>) -> Vec<f32> {
    tensor.into_data().into_vec().unwrap()
}

fn constant(tensor: &Matrix) -> Matrix {
    Tensor::from_inner(tensor.clone().inner())
}

/// Entries of a matrix as numbers 0 and 1.
fn where_true(tensor: &Matrix, pass: impl Fn(usize, f32) -> bool) -> Matrix {
    let shape = tensor.dims();
    let values = numbers(tensor.clone().inner());
    let mask: Vec<f32> =
        values.into_iter().enumerate().map(|(i, x)| f32::from(u8::from(pass(i % shape[1], x)))).collect();
    matrix(&mask, shape)
}

/// 1 at the k largest entries of every `width` among the allowed columns; of equal ones at the first.
fn largest(tensor: &Matrix, width: usize, k: usize, allowed: &[bool]) -> Matrix {
    let shape = tensor.dims();
    let values = numbers(tensor.clone().inner());
    let mut mask = vec![0.0; values.len()];
    for (row, mask) in values.chunks_exact(width).zip(mask.chunks_exact_mut(width)) {
        let mut order: Vec<usize> = (0..width).filter(|&i| allowed[i % shape[1]]).collect();
        if k < order.len() {
            order.select_nth_unstable_by(k, |&a, &b| row[b].total_cmp(&row[a]).then(a.cmp(&b)));
        }
        order.iter().take(k).for_each(|&i| mask[i] = 1.0);
    }
    matrix(&mask, shape)
}

/// The parameters as variables, and what all families share.
pub(crate) struct Oracle {
    /// In the order of [`Weights::each`].
    variables: Vec<Matrix>,
    /// The place of W_dec among them.
    w_dec: usize,
    /// What is to be reconstructed.
    x: Matrix,
    /// What the reconstruction begins with: b_dec, and what skips the latents.
    offset: Matrix,
    /// What the encoder reads.
    input: Matrix,
    /// `input W_enc + b_enc`.
    pre: Matrix,
    /// Norms of the decoder rows, `[1, d_sae]`.
    norms: Matrix,
    dead: Vec<bool>,
    pub(crate) losses: Losses,
    total: Tensor<B, 1>,
    /// Entries that have a gradient, where dense and sparse work are told apart by it.
    pub(crate) touched: usize,
}

impl Oracle {
    pub(crate) fn new(weights: &Weights, subtract: bool, x: &[f32], dead: &[bool]) -> Self {
        Self::of(weights, subtract, x.into(), dead)
    }

    pub(crate) fn of(weights: &Weights, subtract: bool, samples: Samples<'_>, dead: &[bool]) -> Self {
        let variable = |(values, (_, shape)): (&[f32], (_, Vec<usize>))| {
            let shape = if shape.len() == 1 { [1, shape[0]] } else { [shape[0], shape[1]] };
            matrix(values, shape).require_grad()
        };
        let variables: Vec<Matrix> = weights.each().into_iter().zip(weights.shapes()).map(variable).collect();
        let rows = samples.input.len() / weights.d_in;
        let x = matrix(samples.input, [rows, weights.d_in]);
        // W_dec and b_dec; tied weights have no others.
        let [w_dec, b_dec] = if weights.extra == Extra::Tied { [0, 1] } else { [2, 3] };
        let b_dec = variables[b_dec].clone();
        let input = if subtract { x.clone() - b_dec.clone() } else { x.clone() };
        let offset = match &weights.w_skip {
            None => b_dec,
            Some(_) => x.clone().matmul(variables[variables.len() - 1].clone().transpose()) + b_dec,
        };
        let pre = match weights.extra {
            Extra::Tied => input.clone(),
            _ => input.clone().matmul(variables[0].clone().transpose()) + variables[1].clone(),
        };
        let norms = variables[w_dec].clone().powf_scalar(2.0).sum_dim(1).sqrt().transpose();
        let x = matrix(samples.target, [rows, weights.d_out]);
        let (losses, total) = (Losses::default(), Tensor::zeros([1], &Default::default()));
        Self { variables, w_dec, x, offset, input, pre, norms, dead: dead.to_vec(), losses, total, touched: 0 }
    }

    fn rows(&self) -> usize {
        self.x.dims()[0]
    }

    fn decode(&self, codes: Matrix) -> Matrix {
        codes.matmul(self.variables[self.w_dec].clone())
    }

    /// Mean over the batch of the summed squares.
    fn square(error: Matrix) -> Tensor<B, 1> {
        error.powf_scalar(2.0).sum_dim(1).mean()
    }

    fn reconstruct(&mut self, codes: Matrix) -> Matrix {
        let out = self.decode(codes) + self.offset.clone();
        let mse = Self::square(out.clone() - self.x.clone());
        self.losses.mse = f64::from(mse.clone().into_scalar());
        self.total = self.total.clone() + mse;
        out
    }

    fn add(&mut self, loss: Tensor<B, 1>) {
        self.losses.others.push(f64::from(loss.clone().into_scalar()));
        self.total = self.total.clone() + loss;
    }

    /// AuxK of pre-activations `hidden`, whose codes are these divided by `scale`.
    fn aux(&mut self, hidden: &Matrix, scale: &Matrix, out: &Matrix, form: AuxLoss, coefficient: f64) {
        let [_, d_in] = self.x.dims();
        let count = self.dead.iter().filter(|&&dead| dead).count();
        let k = (d_in / 2).min(count);
        if k == 0 {
            self.losses.others.push(0.0);
            return;
        }
        let residual = constant(&(self.x.clone() - out.clone()));
        if form == AuxLoss::DictionaryLearning {
            let hidden = relu(hidden.clone());
            let chosen = largest(&hidden, self.dead.len(), k, &self.dead);
            let error = self.decode(hidden * chosen / scale.clone()) - residual.clone();
            let variance = Self::square(residual.clone() - residual.mean_dim(0));
            self.add(Self::square(error) / variance * coefficient as f32);
            return;
        }
        let chosen = largest(hidden, self.dead.len(), k, &self.dead);
        let error = self.decode(hidden.clone() * chosen / scale.clone()) - residual;
        let factor = (count as f64 / (d_in / 2) as f64).min(1.0) * coefficient;
        self.add(Self::square(error) * factor as f32);
    }

    /// What activations are multiplied by to be compared.
    fn scale(&self, rescale: bool) -> Matrix {
        if rescale { self.norms.clone() } else { Tensor::ones([1, self.dead.len()], &Default::default()) }
    }

    fn batch_choice(&mut self, choice: &BatchChoice, widths: &[usize], aux_by_width: bool) {
        let scale = self.scale(choice.rescale_acts_by_decoder_norm);
        let hidden = self.pre.clone() * scale.clone();
        let all = hidden.dims()[1] * self.rows();
        let chosen = largest(&hidden, all, (choice.k * self.rows() as f64) as usize, &vec![true; self.dead.len()]);
        let codes = relu(hidden.clone()) * chosen / scale.clone();
        let out = self.reconstruct(codes.clone());
        let inner: Vec<Matrix> = widths
            .iter()
            .map(|&width| {
                let inner = where_true(&codes, |latent, _| latent < width);
                self.decode(codes.clone() * inner) + self.offset.clone()
            })
            .collect();
        if aux_by_width {
            let mut start = 0;
            let dead = self.dead.clone();
            let mut sum = 0.0;
            for (end, out) in widths.iter().copied().chain([dead.len()]).zip(inner.iter().chain([&out])) {
                self.dead = (0..dead.len()).map(|latent| dead[latent] && (start..end).contains(&latent)).collect();
                self.aux(&hidden, &scale, out, choice.aux_loss, choice.aux_loss_coefficient);
                sum += self.losses.others.pop().unwrap();
                start = end;
            }
            self.losses.others.push(sum);
            self.dead = dead;
        } else {
            self.aux(&hidden, &scale, &out, choice.aux_loss, choice.aux_loss_coefficient);
        }
        for out in inner {
            self.add(Self::square(out - self.x.clone()));
        }
    }

    /// 1 at the latents that bring the norm of the codes nearest that of the input, by sorting.
    fn nearest_in_norm(&self) -> Matrix {
        let (q, input) = (relu(self.pre.clone()) * self.norms.clone(), numbers(self.input.clone().inner()));
        let [rows, d_sae] = q.dims();
        let mut mask = vec![0.0; rows * d_sae];
        let q = numbers(q.inner());
        for (row, input) in input.chunks_exact(input.len() / rows).enumerate() {
            let q = &q[row * d_sae..][..d_sae];
            let norm = input.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            let mut order: Vec<usize> = (0..d_sae).collect();
            order.sort_by(|&a, &b| q[b].total_cmp(&q[a]));
            let mut sum = 0.0;
            let distances = order.iter().map(|&latent| {
                sum += f64::from(q[latent]).powi(2);
                (sum.sqrt() - norm).abs()
            });
            let distances: Vec<f64> = distances.collect();
            let best = (0..d_sae - 1).min_by(|&a, &b| distances[a].total_cmp(&distances[b])).unwrap();
            order[..=best].iter().for_each(|latent| mask[row * d_sae + latent] = 1.0);
        }
        matrix(&mask, [rows, d_sae])
    }

    fn top_afa(&mut self, options: &TopAfa) {
        let codes = relu(self.pre.clone()) * self.nearest_in_norm();
        self.touched = numbers(codes.clone().inner()).iter().filter(|x| **x > 0.0).count();
        let out = self.reconstruct(codes.clone());
        let [_, d_in] = self.x.dims();
        let norm = |of: Matrix| of.powf_scalar(2.0).sum_dim(1).sqrt();
        let apart = norm(codes) - norm(self.x.clone());
        self.add(apart.powf_scalar(2.0).mean() * (options.afa_coefficient * d_in as f64) as f32);
        let count = self.dead.iter().filter(|&&dead| dead).count();
        if count == 0 {
            self.losses.others.push(0.0);
            return;
        }
        let codes = relu(self.pre.clone());
        let chosen = largest(&codes, self.dead.len(), options.k_aux.min(count), &self.dead);
        // The residual is no constant.
        let error = self.decode(codes * chosen) - (self.x.clone() - out);
        self.add(Self::square(error) * options.aux_loss_coefficient as f32);
    }

    fn matching_pursuit(&mut self, rule: &MatchingPursuit) {
        let w_dec = self.variables[self.w_dec].clone();
        let [rows, d_in] = self.input.dims();
        let d_sae = w_dec.dims()[0];
        let mut residual = self.input.clone();
        let mut codes: Matrix = Tensor::zeros([rows, d_sae], &Default::default());
        let mut done = vec![false; rows];
        for _ in 0..rule.max_iterations.unwrap_or(d_in) {
            let products = numbers(residual.clone().matmul(w_dec.clone().transpose()).inner());
            let before = numbers(codes.clone().inner());
            let mut one = vec![0.0; rows * d_sae];
            for row in (0..rows).filter(|row| !done[*row]) {
                let products = &products[row * d_sae..][..d_sae];
                let best = (0..d_sae).rev().max_by(|&a, &b| products[a].total_cmp(&products[b])).unwrap();
                one[row * d_sae + best] = 1.0;
            }
            let one = matrix(&one, [rows, d_sae]);
            let chosen = one.clone().matmul(w_dec.clone());
            let value = relu((residual.clone() * chosen.clone()).sum_dim(1));
            codes = codes + one * value.clone();
            residual = residual - chosen * value;
            let (after, left) = (numbers(codes.clone().inner()), numbers(residual.clone().inner()));
            for row in 0..rows {
                let support =
                    |codes: &[f32]| codes[row * d_sae..][..d_sae].iter().map(|x| *x != 0.0).collect::<Vec<_>>();
                let norm = left[row * d_in..][..d_in].iter().map(|x| x * x).sum::<f32>().sqrt();
                done[row] |= rule.stop_on_duplicate_support && support(&before) == support(&after);
                done[row] |= f64::from(norm) < rule.residual_threshold;
            }
        }
        self.reconstruct(codes);
    }

    fn gated(&mut self, l1: f64, detach_decoder: bool) {
        let open = where_true(&self.pre, |_, pi| pi > 0.0);
        self.touched = numbers(open.clone().inner()).iter().filter(|x| **x > 0.0).count();
        let (b_mag, r_mag) = (self.variables[4].clone(), self.variables[5].clone());
        let w_mag = self.variables[0].clone().transpose() * r_mag.exp();
        let codes = relu(self.input.clone().matmul(w_mag) + b_mag) * open;
        self.reconstruct(codes);
        let gate = relu(self.pre.clone());
        self.add((gate.clone() * self.norms.clone()).sum_dim(1).mean() * l1 as f32);
        let hold = |variable: &Matrix| if detach_decoder { constant(variable) } else { variable.clone() };
        let out = gate.matmul(hold(&self.variables[2])) + hold(&self.variables[3]);
        self.add(Self::square(out - self.x.clone()));
    }

    fn jump_relu(&mut self, options: &JumpRelu) {
        let threshold = self.variables[4].clone();
        let values = numbers(threshold.clone().inner());
        let bandwidth = options.bandwidth as f32;
        let above = where_true(&self.pre, |latent, z| z > values[latent]);
        let near = where_true(&self.pre, |latent, z| ((z - values[latent]) / bandwidth).abs() < 0.5);
        let dead = self.dead.clone();
        let pulled = options.pre_act_loss_coefficient.is_some();
        let touched =
            where_true(&self.pre, |latent, z| z - values[latent] > -0.5 * bandwidth || (pulled && dead[latent]));
        self.touched = numbers(touched.inner()).iter().filter(|x| **x > 0.0).count();
        // Zero, with the gradient of (z − θ), or of −θ alone.
        let moved = if options.ste_to_input { self.pre.clone() - threshold.clone() } else { -threshold.clone() };
        let moved = (moved.clone() - constant(&moved)) * near * (1.0 / bandwidth);
        let codes = self.pre.clone() * above.clone() + moved.clone() * constant(&threshold);
        let l0 = (above + moved).sum_dim(1);
        self.reconstruct(codes.clone());
        let sparsity = match options.sparsity {
            Sparsity::Step => l0.mean(),
            Sparsity::Tanh { scale } => (codes * self.norms.clone() * scale as f32).tanh().sum_dim(1).mean(),
            Sparsity::Quadratic { target_l0 } => {
                (l0 - target_l0 as f32).powf_scalar(2.0).mean() * (2.0 / target_l0) as f32
            }
            Sparsity::Relative { target_l0 } => {
                let counted = where_true(&codes, |latent, f| f > values[latent]);
                let near = where_true(&codes, |latent, f| ((f - values[latent]) / bandwidth).abs() < 0.5);
                let moved = (constant(&threshold) - threshold.clone()) * near * (1.0 / bandwidth);
                ((counted + moved).sum_dim(1).mean() / target_l0 as f32 - 1.0).powf_scalar(2.0)
            }
        };
        self.add(sparsity * options.l0 as f32);
        if let Some(coefficient) = options.pre_act_loss_coefficient {
            let of_dead = where_true(&self.pre, |latent, _| dead[latent]);
            let below = relu(threshold - self.pre.clone()) * of_dead * self.norms.clone();
            self.add(below.sum_dim(1).mean() * coefficient as f32);
        }
    }

    /// SAELens' losses as written in its source.
    pub(crate) fn compute(&mut self, objective: &Objective) {
        match objective {
            Objective::Relu { l1, .. } => {
                let codes = relu(self.pre.clone());
                self.touched = numbers(codes.clone().inner()).iter().filter(|x| **x > 0.0).count();
                self.reconstruct(codes.clone());
                self.add((codes * self.norms.clone()).sum_dim(1).mean() * *l1 as f32);
            }
            Objective::Gated { l1, detach_decoder, .. } => self.gated(*l1, *detach_decoder),
            Objective::TopK { k, rescale_acts_by_decoder_norm, aux_loss_coefficient, aux_loss } => {
                let scale = self.scale(*rescale_acts_by_decoder_norm);
                let hidden = self.pre.clone() * scale.clone();
                let chosen = largest(&hidden, self.dead.len(), *k, &vec![true; self.dead.len()]);
                let out = self.reconstruct(relu(hidden.clone()) * chosen / scale.clone());
                self.aux(&hidden, &scale, &out, *aux_loss, *aux_loss_coefficient);
            }
            Objective::BatchTopK { choice } => self.batch_choice(choice, &[], false),
            Objective::Matryoshka { choice, widths, aux_by_width } => self.batch_choice(choice, widths, *aux_by_width),
            Objective::JumpRelu(options) => self.jump_relu(options),
            Objective::TopAfa(options) => self.top_afa(options),
            Objective::MatchingPursuit(rule) => self.matching_pursuit(rule),
        }
    }

    pub(crate) fn gradients(&self) -> Vec<Vec<f32>> {
        let gradients = self.total.clone().backward();
        self.variables.iter().map(|variable| numbers(variable.grad(&gradients).unwrap())).collect()
    }
}

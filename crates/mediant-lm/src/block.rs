//! A block's three parts, each through its hook points: up to the heads, from the heads, the MLP.

use mediant_tensor::burn::tensor::activation::relu;
use mediant_tensor::ops::{gelu, gelu_new, linear, silu_mul, swap_units};
use mediant_tensor::{Compute, Tensor};

use crate::model::{Block, Linear, Norm};
use crate::norm::AttentionInput;
use crate::walk::{Stop, Walk};
use crate::{Activation, Error, HookPoint, Model, Result, Site, State};

impl<C: Compute> Model<C> {
    /// From the residual stream to the heads' weighted values: both `[rows, …]`, or the last rows of each sequence.
    pub(crate) fn heads(
        &self,
        layer: usize,
        block: &Block<C>,
        resid: Tensor<C, 2>,
        walk: &mut Walk<'_, '_, C>,
    ) -> Result<(Tensor<C, 2>, Tensor<C, 3>), Stop> {
        let at = |site| HookPoint::Block(layer, site);
        let resid = walk.at(at(Site::ResidPre), resid)?;
        if walk.skips(at(Site::AttnIn), at(Site::Z)) || walk.skips(at(Site::AttnIn), at(Site::AttnOut)) {
            let z = Tensor::zeros([resid.dims()[0], self.config.n_heads, self.config.d_head], &resid.device());
            return Ok((resid, z));
        }
        if let Some(inputs) = self.split_inputs(layer, &resid, walk)? {
            let z = self.attend(layer, self.split_projection(block, inputs), walk)?;
            return Ok((resid, z));
        }
        let input = self.norm_before_attention(layer, block, resid.clone(), walk)?;
        if layer + 1 < self.config.n_layers || !walk.may_trim(at(Site::Q)) {
            let z = self.attend(layer, self.projection(block, 0, &input), walk)?;
            return Ok((resid, z));
        }
        let queries = self.config.n_heads * self.config.d_head;
        let keys_values = self.projection(block, queries, &input);
        let last = walk.last_rows(input.queries_keys);
        let z = self.attend_last(block.qkv.columns(0, queries).apply(last), &keys_values, layer, walk)?;
        walk.trimmed = true;
        Ok((walk.last_rows(resid), z))
    }

    /// Queries, keys and values side by side, from column `first` on.
    fn projection(&self, block: &Block<C>, first: usize, input: &AttentionInput<C>) -> Tensor<C, 2> {
        let (width, values) = (self.config.qkv_width(), self.config.n_kv_heads * self.config.d_head);
        let columns = |first, end, x: &Tensor<C, 2>| block.qkv.columns(first, end - first).apply(x.clone());
        match &input.values {
            None if first == 0 => block.qkv.apply(input.queries_keys.clone()),
            None => columns(first, width, &input.queries_keys),
            Some(input_of_values) => {
                let queries_keys = columns(first, width - values, &input.queries_keys);
                Tensor::cat(vec![queries_keys, columns(width - values, width, input_of_values)], 1)
            }
        }
    }

    /// From the heads' weighted values to what comes after attention.
    pub(crate) fn attention_out(
        &self,
        layer: usize,
        block: &Block<C>,
        mut resid: Tensor<C, 2>,
        z: Tensor<C, 3>,
        walk: &mut Walk<'_, '_, C>,
    ) -> Result<State<C>, Stop> {
        let at = |site| HookPoint::Block(layer, site);
        if walk.skips(at(Site::Z), at(Site::AttnOut)) {
            let out = walk.at(at(Site::AttnOut), resid.zeros_like())?;
            return Ok(self.after_attention(layer, resid, out));
        }
        let mut z = if walk.wants(at(Site::Z)) { walk.visit(at(Site::Z), z)? } else { z };
        if layer + 1 == self.config.n_layers && walk.may_trim(at(Site::Result)) {
            resid = walk.last_rows(resid);
            z = walk.trim(None, z);
        }
        let [rows, heads, d_head] = z.dims();
        let mut out = block.out.apply(z.clone().reshape([rows, heads * d_head]));
        if walk.wants(at(Site::Result)) {
            let results = walk.visit(at(Site::Result), self.head_results(layer, z))?;
            if walk.edits(at(Site::Result)) {
                let sum = results.sum_dim(1).reshape([rows, self.config.d_model]);
                out = block.out.add_bias(sum);
            }
        }
        if let Some(post) = &block.ln1_post {
            out = Norm::pass(Some(post), out, at(Site::Ln1PostScale), at(Site::Ln1PostNormalized), walk)?;
        }
        let out = walk.at(at(Site::AttnOut), out)?;
        Ok(self.after_attention(layer, resid, out))
    }

    fn after_attention(&self, layer: usize, resid: Tensor<C, 2>, out: Tensor<C, 2>) -> State<C> {
        match self.config.parallel {
            true => State::Mid { layer, resid, beside: Some(out) },
            false => State::Mid { layer, resid: resid + out, beside: None },
        }
    }

    /// What each head adds to the residual stream, before the bias and any norm after attention: `[rows, heads, d_head]` to
    /// `[rows, heads, d_model]`.
    pub fn head_results(&self, layer: usize, z: Tensor<C, 3>) -> Tensor<C, 3> {
        let [_, heads, d_head] = z.dims();
        let weight = self.blocks[layer].out.weight.clone().reshape([heads, d_head, self.config.d_model]);
        swap_units(swap_units(z).matmul(weight))
    }

    /// From what comes after attention to the residual stream after the block.
    pub(crate) fn mlp(
        &self,
        layer: usize,
        block: &Block<C>,
        resid: Tensor<C, 2>,
        beside: Option<Tensor<C, 2>>,
        walk: &mut Walk<'_, '_, C>,
    ) -> Result<Tensor<C, 2>, Stop> {
        let at = |site| HookPoint::Block(layer, site);
        let resid = if beside.is_none() { walk.at(at(Site::ResidMid), resid)? } else { resid };
        let out = match walk.skips(at(Site::MlpIn), at(Site::MlpOut)) {
            true => resid.zeros_like(),
            false => self.mlp_out(layer, block, resid.clone(), walk)?,
        };
        let out = walk.at(at(Site::MlpOut), out)?;
        let resid = match beside {
            Some(attention) => resid + attention,
            None => resid,
        };
        walk.at(at(Site::ResidPost), resid + out)
    }

    /// From the residual stream that the MLP reads to what it adds, `[rows, d_model]`.
    fn mlp_out(
        &self,
        layer: usize,
        block: &Block<C>,
        resid: Tensor<C, 2>,
        walk: &mut Walk<'_, '_, C>,
    ) -> Result<Tensor<C, 2>, Stop> {
        let at = |site| HookPoint::Block(layer, site);
        let post = self.mlp_post(layer, block, resid, walk)?;
        let post = walk.at(at(Site::MlpPost), post)?;
        let mut out = block.down.apply(post);
        if let Some(norm) = &block.ln2_post {
            out = Norm::pass(Some(norm), out, at(Site::Ln2PostScale), at(Site::Ln2PostNormalized), walk)?;
        }
        Ok(out)
    }

    /// From the residual stream that the MLP reads to its hidden layer, `[rows, d_mlp]`.
    fn mlp_post(
        &self,
        layer: usize,
        block: &Block<C>,
        resid: Tensor<C, 2>,
        walk: &mut Walk<'_, '_, C>,
    ) -> Result<Tensor<C, 2>, Stop> {
        let at = |site| HookPoint::Block(layer, site);
        if walk.skips(at(Site::MlpIn), at(Site::MlpPost)) {
            return Ok(Tensor::zeros([resid.dims()[0], self.config.d_mlp], &resid.device()));
        }
        let input = walk.at(at(Site::MlpIn), resid)?;
        let normalized = Norm::pass(block.ln2.as_ref(), input, at(Site::Ln2Scale), at(Site::Ln2Normalized), walk)?;
        Ok(match &block.gate {
            None => {
                let pre = walk.at(at(Site::MlpPre), block.up.apply(normalized))?;
                self.activate(pre)
            }
            Some(gate) => {
                let pre = walk.at(at(Site::MlpPre), linear(normalized.clone(), gate.clone(), None))?;
                let up = walk.at(at(Site::MlpPreLinear), block.up.apply(normalized))?;
                match self.config.activation {
                    Activation::Silu => silu_mul(pre, up),
                    _ => self.activate(pre) * up,
                }
            }
        })
    }

    fn activate(&self, x: Tensor<C, 2>) -> Tensor<C, 2> {
        match self.config.activation {
            Activation::GeluNew => gelu_new(x),
            Activation::Gelu => gelu(x),
            Activation::Relu => relu(x),
            Activation::Silu => {
                let ones = x.ones_like();
                silu_mul(x, ones)
            }
        }
    }

    /// The residual stream as each head's queries, keys and values read it, `[rows, heads, d_model]` each, if an edit makes
    /// them differ; reading these points happens on the way.
    fn split_inputs(
        &self,
        layer: usize,
        resid: &Tensor<C, 2>,
        walk: &mut Walk<'_, '_, C>,
    ) -> Result<Option<[Tensor<C, 3>; 3]>, Stop> {
        let at = |site| HookPoint::Block(layer, site);
        let sites = [Site::AttnIn, Site::QInput, Site::KInput, Site::VInput].map(at);
        if !sites.into_iter().any(|point| walk.wants(point)) {
            return Ok(None);
        }
        let edited = sites.into_iter().any(|point| walk.edits(point));
        if let Some(inside) = [Site::Ln1Scale, Site::Ln1Normalized].map(at).into_iter().find(|point| walk.wants(*point))
            && edited
        {
            let why = format!("`{inside}` has one value a row, but edits give each head an input of its own");
            return Err(Error::Hook(why).into());
        }
        let [rows, width] = resid.dims();
        let copies = |heads| resid.clone().reshape([rows, 1, width]).expand([rows, heads, width]);
        let (heads, kv_heads) = (self.config.n_heads, self.config.n_kv_heads);
        let mut inputs = [copies(heads), copies(kv_heads), copies(kv_heads)];
        if walk.wants(sites[0]) {
            let input = walk.visit(sites[0], copies(heads))?;
            inputs = [input.clone(), input.clone(), input];
        }
        for (input, point) in inputs.iter_mut().zip(&sites[1..]) {
            if walk.wants(*point) {
                *input = walk.visit(*point, input.clone())?;
            }
        }
        Ok(edited.then_some(inputs))
    }

    /// Queries, keys and values side by side from inputs of each head's own, as `block.qkv` gives them from one input.
    fn split_projection(&self, block: &Block<C>, inputs: [Tensor<C, 3>; 3]) -> Tensor<C, 2> {
        let d_head = self.config.d_head;
        let of_values = block.ln1_values.as_ref().or(block.ln1.as_ref());
        let norms = [block.ln1.as_ref(), block.ln1.as_ref(), of_values];
        let mut column = 0;
        let parts = inputs.into_iter().zip(norms).map(|(input, norm)| {
            let [rows, heads, width] = input.dims();
            let input = input.reshape([rows * heads, width]);
            let normalized = match norm {
                Some(norm) => norm.apply(input),
                None => input,
            };
            let weight = block.qkv.weight.clone().narrow(1, column, heads * d_head);
            column += heads * d_head;
            let weight = weight.reshape([width, heads, d_head]).swap_dims(0, 1);
            let part = swap_units(normalized.reshape([rows, heads, width])).matmul(weight);
            swap_units(part).reshape([rows, heads * d_head])
        });
        block.qkv.add_bias(Tensor::cat(parts.collect(), 1))
    }
}

impl<C: Compute> Linear<C> {
    pub(crate) fn apply(&self, x: Tensor<C, 2>) -> Tensor<C, 2> {
        linear(x, self.weight.clone(), self.bias.clone())
    }

    fn add_bias(&self, x: Tensor<C, 2>) -> Tensor<C, 2> {
        match &self.bias {
            Some(bias) => x + bias.clone().unsqueeze(),
            None => x,
        }
    }

    /// The projection to some of the outputs.
    fn columns(&self, first: usize, count: usize) -> Self {
        Self {
            weight: self.weight.clone().narrow(1, first, count),
            bias: self.bias.as_ref().map(|bias| bias.clone().narrow(0, first, count)),
        }
    }
}

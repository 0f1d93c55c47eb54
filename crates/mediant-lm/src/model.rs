//! A language model's parameters on a device.

use std::collections::BTreeMap;

use mediant_tensor::{Autodiff, Compute, NormScale, Tensor, TensorData};

use crate::{BlockNorm, BlockSlot, Error, LmConfig, NormSite, Result, Slot};

/// A causal language model. What it computes: [`Model::read`], [`Model::hidden`], [`Model::logits`], [`Model::losses`].
#[derive(Clone, Debug)]
pub struct Model<C: Compute> {
    pub(crate) config: LmConfig,
    /// `[vocabulary, d_model]`
    pub(crate) embed: Tensor<C, 2>,
    /// `[context, d_model]`
    pub(crate) pos_embed: Option<Tensor<C, 2>>,
    pub(crate) blocks: Vec<Block<C>>,
    /// None if the norms are part of the weights.
    pub(crate) ln_final: Option<Norm<C>>,
    /// `[vocabulary, d_model]`; none if the embedding serves.
    pub(crate) unembed: Option<Tensor<C, 2>>,
    /// `[vocabulary]`, of processed weights.
    pub(crate) unembed_bias: Option<Tensor<C, 1>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Block<C: Compute> {
    /// The norm before attention, as queries and keys read it; none if the norms are part of the weights.
    pub(crate) ln1: Option<Norm<C>>,
    /// The same as values read it, where they read it at another scale.
    pub(crate) ln1_values: Option<Norm<C>>,
    /// Queries, keys and values side by side: `[d_model, (heads + 2 kv_heads) d_head]`.
    pub(crate) qkv: Linear<C>,
    pub(crate) out: Linear<C>,
    /// The norm after attention, where there is one.
    pub(crate) ln1_post: Option<Norm<C>>,
    /// The norm before the MLP; none if the norms are part of the weights.
    pub(crate) ln2: Option<Norm<C>>,
    /// Of a gated MLP.
    pub(crate) gate: Option<Tensor<C, 2>>,
    pub(crate) up: Linear<C>,
    pub(crate) down: Linear<C>,
    /// The norm after the MLP, where there is one.
    pub(crate) ln2_post: Option<Norm<C>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Norm<C: Compute> {
    pub(crate) weight: Tensor<C, 1>,
    /// LayerNorm has one, RMSNorm has not.
    pub(crate) bias: Option<Tensor<C, 1>>,
    pub(crate) scale: NormScale,
}

/// `x · weight + bias`.
#[derive(Clone, Debug)]
pub(crate) struct Linear<C: Compute> {
    /// `[in, out]`
    pub(crate) weight: Tensor<C, 2>,
    pub(crate) bias: Option<Tensor<C, 1>>,
}

/// A parameter's tensor.
#[derive(Clone, Debug)]
pub enum Parameter<C: Compute> {
    /// A gain or a bias.
    Vector(Tensor<C, 1>),
    /// A projection or an embedding.
    Matrix(Tensor<C, 2>),
}

impl<C: Compute> Parameter<C> {
    /// A parameter of one or two dimensions.
    ///
    /// # Errors
    /// [`Error::Weights`] for any other number of dimensions.
    pub fn new(values: Vec<f32>, shape: &[usize], device: &C::Device) -> Result<Self> {
        let data = |values| TensorData::new(values, shape);
        match shape.len() {
            1 => Ok(Self::Vector(Tensor::from_data(data(values), device))),
            2 => Ok(Self::Matrix(Tensor::from_data(data(values), device))),
            n => Err(Error::Weights(format!("a parameter with {n} dimensions"))),
        }
    }

    /// Its shape.
    pub fn shape(&self) -> Vec<usize> {
        match self {
            Self::Vector(tensor) => tensor.dims().to_vec(),
            Self::Matrix(tensor) => tensor.dims().to_vec(),
        }
    }

    /// Its values on the host, row-major.
    pub fn into_values(self) -> Vec<f32> {
        let data = match self {
            Self::Vector(tensor) => tensor.into_data(),
            Self::Matrix(tensor) => tensor.into_data(),
        };
        // `Compute` fixes the float element to f32, so the conversion cannot fail.
        data.into_vec().unwrap_or_default()
    }
}

/// Parameters on their way into a model.
struct Parts<C: Compute>(BTreeMap<Slot, Parameter<C>>);

impl<C: Compute> Parts<C> {
    /// All that the config asks for, in the right shapes, and nothing else.
    fn check(config: &LmConfig, parameters: impl IntoIterator<Item = (Slot, Parameter<C>)>) -> Result<Self> {
        let parts: BTreeMap<_, _> = parameters.into_iter().collect();
        let slots = config.slots();
        for &slot in &slots {
            let found = parts.get(&slot).map(Parameter::shape);
            let expected = slot.shape(config);
            if found.as_ref() != Some(&expected) {
                return Err(Error::Weights(format!(
                    "parameter `{slot}` must have shape {expected:?}, found {found:?}"
                )));
            }
        }
        if parts.len() != slots.len() {
            return Err(Error::Weights("parameters that the config does not have".to_owned()));
        }
        Ok(Self(parts))
    }

    fn vector(&mut self, slot: Slot) -> Option<Tensor<C, 1>> {
        match self.0.remove(&slot) {
            Some(Parameter::Vector(tensor)) => Some(tensor),
            _ => None,
        }
    }

    fn matrix(&mut self, slot: Slot) -> Option<Tensor<C, 2>> {
        match self.0.remove(&slot) {
            Some(Parameter::Matrix(tensor)) => Some(tensor),
            _ => None,
        }
    }

    fn norm(&mut self, weight: Slot, bias: Slot, scale: NormScale) -> Option<Norm<C>> {
        let bias = self.vector(bias);
        self.vector(weight).map(|weight| Norm { weight, bias, scale })
    }

    fn post_norm(&mut self, weight: Slot, scale: NormScale) -> Option<Norm<C>> {
        self.vector(weight).map(|weight| Norm { weight, bias: None, scale })
    }

    fn linear(&mut self, weight: Slot, bias: Slot) -> Result<Linear<C>> {
        Ok(Linear { weight: self.matrix(weight).ok_or_else(|| missing(weight))?, bias: self.vector(bias) })
    }

    fn block(&mut self, config: &LmConfig, layer: usize) -> Result<Block<C>> {
        let slot = |slot| Slot::Block(layer, slot);
        let scale = |norm| config.norm_scale(NormSite::Block(layer, norm));
        let live = NormScale::Computed { eps: config.norm_eps };
        let ln1 = self.norm(slot(BlockSlot::Norm1Weight), slot(BlockSlot::Norm1Bias), scale(BlockNorm::QueryKey));
        let at_other_scale = |norm: Norm<C>| Norm { scale: scale(BlockNorm::Value), ..norm };
        Ok(Block {
            ln1_values: ln1.clone().filter(|_| config.reads_apart(layer)).map(at_other_scale),
            ln1,
            qkv: self.linear(slot(BlockSlot::QkvWeight), slot(BlockSlot::QkvBias))?,
            out: self.linear(slot(BlockSlot::OutWeight), slot(BlockSlot::OutBias))?,
            ln1_post: self.post_norm(slot(BlockSlot::PostNorm1Weight), live),
            ln2: self.norm(slot(BlockSlot::Norm2Weight), slot(BlockSlot::Norm2Bias), scale(BlockNorm::Mlp)),
            gate: self.matrix(slot(BlockSlot::GateWeight)),
            up: self.linear(slot(BlockSlot::UpWeight), slot(BlockSlot::UpBias))?,
            down: self.linear(slot(BlockSlot::DownWeight), slot(BlockSlot::DownBias))?,
            ln2_post: self.post_norm(slot(BlockSlot::PostNorm2Weight), live),
        })
    }
}

fn missing(slot: Slot) -> Error {
    Error::Weights(format!("every model needs the parameter `{slot}`"))
}

impl<C: Compute> Model<C> {
    /// Puts a model together from the parameters of [`LmConfig::slots`], in any order.
    ///
    /// # Errors
    /// [`Error::Weights`] if one is missing, has another shape than [`Slot::shape`], or does not belong to the config.
    pub fn new(config: LmConfig, parameters: impl IntoIterator<Item = (Slot, Parameter<C>)>) -> Result<Self> {
        let mut parts = Parts::check(&config, parameters)?;
        Ok(Self {
            embed: parts.matrix(Slot::Embed).ok_or_else(|| missing(Slot::Embed))?,
            pos_embed: parts.matrix(Slot::PosEmbed),
            blocks: (0..config.n_layers).map(|layer| parts.block(&config, layer)).collect::<Result<_>>()?,
            ln_final: parts.norm(Slot::FinalNormWeight, Slot::FinalNormBias, config.norm_scale(NormSite::Final)),
            unembed: parts.matrix(Slot::Unembed),
            unembed_bias: parts.vector(Slot::UnembedBias),
            config,
        })
    }

    /// The parameters with their slots, in the order of [`LmConfig::slots`]. Cloning a tensor copies nothing.
    pub fn parameters(&self) -> Vec<(Slot, Parameter<C>)> {
        let mut all = Vec::new();
        let mut vector = |slot, tensor: Option<Tensor<C, 1>>| all.extend(tensor.map(|t| (slot, Parameter::Vector(t))));
        let weight = |norm: &'_ Option<Norm<C>>| norm.as_ref().map(|norm| norm.weight.clone());
        let bias = |norm: &'_ Option<Norm<C>>| norm.as_ref().and_then(|norm| norm.bias.clone());
        vector(Slot::FinalNormWeight, weight(&self.ln_final));
        vector(Slot::FinalNormBias, bias(&self.ln_final));
        vector(Slot::UnembedBias, self.unembed_bias.clone());
        for (layer, block) in self.blocks.iter().enumerate() {
            let of_block = [
                (BlockSlot::Norm1Weight, weight(&block.ln1)),
                (BlockSlot::Norm1Bias, bias(&block.ln1)),
                (BlockSlot::QkvBias, block.qkv.bias.clone()),
                (BlockSlot::OutBias, block.out.bias.clone()),
                (BlockSlot::PostNorm1Weight, weight(&block.ln1_post)),
                (BlockSlot::Norm2Weight, weight(&block.ln2)),
                (BlockSlot::Norm2Bias, bias(&block.ln2)),
                (BlockSlot::UpBias, block.up.bias.clone()),
                (BlockSlot::DownBias, block.down.bias.clone()),
                (BlockSlot::PostNorm2Weight, weight(&block.ln2_post)),
            ];
            for (slot, tensor) in of_block {
                vector(Slot::Block(layer, slot), tensor);
            }
        }
        let mut matrix =
            |slot, tensor: Option<&Tensor<C, 2>>| all.extend(tensor.map(|t| (slot, Parameter::Matrix(t.clone()))));
        matrix(Slot::Embed, Some(&self.embed));
        matrix(Slot::PosEmbed, self.pos_embed.as_ref());
        matrix(Slot::Unembed, self.unembed.as_ref());
        for (layer, block) in self.blocks.iter().enumerate() {
            matrix(Slot::Block(layer, BlockSlot::QkvWeight), Some(&block.qkv.weight));
            matrix(Slot::Block(layer, BlockSlot::OutWeight), Some(&block.out.weight));
            matrix(Slot::Block(layer, BlockSlot::GateWeight), block.gate.as_ref());
            matrix(Slot::Block(layer, BlockSlot::UpWeight), Some(&block.up.weight));
            matrix(Slot::Block(layer, BlockSlot::DownWeight), Some(&block.down.weight));
        }
        all.sort_by_key(|(slot, _)| *slot);
        all
    }

    /// What the model is made of.
    pub fn config(&self) -> &LmConfig {
        &self.config
    }

    /// Where its parameters are.
    pub fn device(&self) -> C::Device {
        self.embed.device()
    }

    /// The same parameters in the backend with gradients, none of them tracked. Nothing is copied.
    ///
    /// # Errors
    /// None that a model that exists can give.
    pub(crate) fn untracked(&self) -> Result<Model<Autodiff<C>>> {
        let lift = |parameter| match parameter {
            Parameter::Vector(tensor) => Parameter::Vector(Tensor::from_inner(tensor)),
            Parameter::Matrix(tensor) => Parameter::Matrix(Tensor::from_inner(tensor)),
        };
        let parameters = self.parameters().into_iter().map(|(slot, parameter)| (slot, lift(parameter)));
        Model::new(self.config.clone(), parameters)
    }

    /// The unembedding `[vocabulary, d_model]`, which may be the embedding.
    pub fn unembedding(&self) -> Tensor<C, 2> {
        self.unembed.as_ref().unwrap_or(&self.embed).clone()
    }
}

//! A language model's parameters on a device.

use std::collections::BTreeMap;

use mediant_tensor::{Autodiff, Compute, Tensor, TensorData};

use crate::{BlockSlot, Error, LmConfig, Result, Slot};

/// A causal language model. What it computes: [`Model::read`], [`Model::hidden`], [`Model::logits`], [`Model::losses`].
#[derive(Clone, Debug)]
pub struct Model<C: Compute> {
    pub(crate) config: LmConfig,
    /// `[vocabulary, d_model]`
    pub(crate) embed: Tensor<C, 2>,
    /// `[context, d_model]`
    pub(crate) pos_embed: Option<Tensor<C, 2>>,
    pub(crate) blocks: Vec<Block<C>>,
    pub(crate) ln_final: Norm<C>,
    /// `[vocabulary, d_model]`; none if the embedding serves.
    pub(crate) unembed: Option<Tensor<C, 2>>,
    /// `[vocabulary]`, of processed weights.
    pub(crate) unembed_bias: Option<Tensor<C, 1>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Block<C: Compute> {
    pub(crate) ln1: Norm<C>,
    /// Queries, keys and values side by side: `[d_model, (heads + 2 kv_heads) d_head]`.
    pub(crate) qkv: Linear<C>,
    pub(crate) out: Linear<C>,
    /// The norm after attention, where there is one.
    pub(crate) ln1_post: Option<Norm<C>>,
    pub(crate) ln2: Norm<C>,
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

    fn norm(&mut self, weight: Slot, bias: Slot) -> Result<Norm<C>> {
        Ok(Norm { weight: self.vector(weight).ok_or_else(|| missing(weight))?, bias: self.vector(bias) })
    }

    fn post_norm(&mut self, weight: Slot) -> Option<Norm<C>> {
        self.vector(weight).map(|weight| Norm { weight, bias: None })
    }

    fn linear(&mut self, weight: Slot, bias: Slot) -> Result<Linear<C>> {
        Ok(Linear { weight: self.matrix(weight).ok_or_else(|| missing(weight))?, bias: self.vector(bias) })
    }

    fn block(&mut self, layer: usize) -> Result<Block<C>> {
        let slot = |slot| Slot::Block(layer, slot);
        Ok(Block {
            ln1: self.norm(slot(BlockSlot::Norm1Weight), slot(BlockSlot::Norm1Bias))?,
            qkv: self.linear(slot(BlockSlot::QkvWeight), slot(BlockSlot::QkvBias))?,
            out: self.linear(slot(BlockSlot::OutWeight), slot(BlockSlot::OutBias))?,
            ln1_post: self.post_norm(slot(BlockSlot::PostNorm1Weight)),
            ln2: self.norm(slot(BlockSlot::Norm2Weight), slot(BlockSlot::Norm2Bias))?,
            gate: self.matrix(slot(BlockSlot::GateWeight)),
            up: self.linear(slot(BlockSlot::UpWeight), slot(BlockSlot::UpBias))?,
            down: self.linear(slot(BlockSlot::DownWeight), slot(BlockSlot::DownBias))?,
            ln2_post: self.post_norm(slot(BlockSlot::PostNorm2Weight)),
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
            blocks: (0..config.n_layers).map(|layer| parts.block(layer)).collect::<Result<_>>()?,
            ln_final: parts.norm(Slot::FinalNormWeight, Slot::FinalNormBias)?,
            unembed: parts.matrix(Slot::Unembed),
            unembed_bias: parts.vector(Slot::UnembedBias),
            config,
        })
    }

    /// The parameters with their slots, in the order of [`LmConfig::slots`]. Cloning a tensor copies nothing.
    pub fn parameters(&self) -> Vec<(Slot, Parameter<C>)> {
        let mut all = Vec::new();
        let mut vector =
            |slot, tensor: Option<&Tensor<C, 1>>| all.extend(tensor.map(|t| (slot, Parameter::Vector(t.clone()))));
        vector(Slot::FinalNormWeight, Some(&self.ln_final.weight));
        vector(Slot::FinalNormBias, self.ln_final.bias.as_ref());
        vector(Slot::UnembedBias, self.unembed_bias.as_ref());
        for (layer, block) in self.blocks.iter().enumerate() {
            vector(Slot::Block(layer, BlockSlot::Norm1Weight), Some(&block.ln1.weight));
            vector(Slot::Block(layer, BlockSlot::Norm1Bias), block.ln1.bias.as_ref());
            vector(Slot::Block(layer, BlockSlot::QkvBias), block.qkv.bias.as_ref());
            vector(Slot::Block(layer, BlockSlot::OutBias), block.out.bias.as_ref());
            let post = [(BlockSlot::PostNorm1Weight, &block.ln1_post), (BlockSlot::PostNorm2Weight, &block.ln2_post)];
            for (slot, norm) in post {
                vector(Slot::Block(layer, slot), norm.as_ref().map(|norm| &norm.weight));
            }
            vector(Slot::Block(layer, BlockSlot::Norm2Weight), Some(&block.ln2.weight));
            vector(Slot::Block(layer, BlockSlot::Norm2Bias), block.ln2.bias.as_ref());
            vector(Slot::Block(layer, BlockSlot::UpBias), block.up.bias.as_ref());
            vector(Slot::Block(layer, BlockSlot::DownBias), block.down.bias.as_ref());
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

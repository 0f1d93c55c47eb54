//! A small model with random weights, and tokens for it.

use mediant_artifact::{Tokens, TokensMeta};
use mediant_lm::train::{Gpt2Shape, Start, gpt2_config, initial};
use mediant_lm::{LmConfig, Model, Parameter};
use mediant_tensor::Flex;
use mediant_tensor::random::{below, stream};

/// Width of its residual stream.
pub(crate) const D: usize = 16;
/// Its tokens.
pub(crate) const VOCAB: usize = 31;

pub(crate) fn model() -> Model<Flex> {
    let shape =
        Gpt2Shape { n_layers: 2, d_model: D, n_heads: 2, d_mlp: 4 * D, vocab_size: VOCAB, context: 24, tied: true };
    let config = LmConfig::from_json(&gpt2_config(&shape, None, None, 0.0, 0.02)).unwrap();
    let parameters = config.slots().into_iter().map(|slot| {
        // Ten times the usual size: a model whose blocks do something.
        let values: Vec<f32> =
            initial(&config, slot, Start { std: 0.02, sinusoidal: false }, 0).into_iter().map(|x| 10.0 * x).collect();
        (slot, Parameter::new(values, &slot.shape(&config), &Default::default()).unwrap())
    });
    let parameters: Vec<_> = parameters.collect();
    Model::new(config, parameters).unwrap()
}

/// Sequences of 5 to 20 tokens, the first of each special.
pub(crate) fn tokens(sequences: usize) -> Tokens {
    let mut rng = stream(0, "test");
    let (mut offsets, mut ids, mut mask) = (vec![0], vec![], vec![]);
    for _ in 0..sequences {
        let len = 5 + below(&mut rng, 16) as usize;
        ids.extend((0..len).map(|_| below(&mut rng, VOCAB as u64) as i32));
        mask.extend((0..len).map(|i| i > 0));
        offsets.push(ids.len());
    }
    let meta = TokensMeta {
        tokenizer: None,
        vocab_size: VOCAB,
        context: 24,
        packed: false,
        prepend_bos: true,
        bos: Some(0),
        separator: None,
        split: "test".to_owned(),
        documents: sequences as u64,
        tokens: ids.len() as u64,
        sequences: sequences as u64,
    };
    Tokens { meta, offsets, ids, mask }
}

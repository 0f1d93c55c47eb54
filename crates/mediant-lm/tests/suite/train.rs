//! Training: one step against a plain computation, resuming, seeds, threads, and what a training refuses.

use mediant_artifact::{Tokens, TokensMeta};
use mediant_lm::train::{
    CurvePoint, Gpt2Shape, Start, StepReport, Trainer, Training, curve_from_words, curve_to_words, gpt2_config,
    held_out_loss, initial,
};
use mediant_lm::{BlockSlot, Error, LmConfig, Slot};
use mediant_tensor::burn::tensor::activation::{log_softmax, softmax};
use mediant_tensor::burn::tensor::{Bool, Int};
use mediant_tensor::optim::{Adam, Moments, clip_factor, global_norm};
use mediant_tensor::random::{below, permutation, stream};
use mediant_tensor::schedule::Schedule;
use mediant_tensor::{Autodiff, Flex, Tensor, TensorData};

const VOCAB: usize = 37;
const CONTEXT: usize = 12;
const START: Start = Start { std: 0.02, sinusoidal: false };

fn config(tied: bool) -> LmConfig {
    let shape =
        Gpt2Shape { n_layers: 2, d_model: 24, n_heads: 3, d_mlp: 40, vocab_size: VOCAB, context: CONTEXT, tied };
    LmConfig::from_json(&gpt2_config(&shape, None, Some(0), 0.0, 0.02)).unwrap()
}

/// Rows of random tokens of the given lengths.
fn tokens(lengths: &[usize]) -> Tokens {
    let mut draws = stream(5, "tokens");
    let ids: Vec<i32> = (0..lengths.iter().sum()).map(|_| below(&mut draws, VOCAB as u64) as i32).collect();
    let mut offsets = vec![0];
    offsets.extend(lengths.iter().scan(0, |end, len| {
        *end += len;
        Some(*end)
    }));
    let meta = TokensMeta {
        tokenizer: None,
        vocab_size: VOCAB,
        context: CONTEXT,
        packed: false,
        prepend_bos: false,
        bos: None,
        separator: None,
        split: "train".to_owned(),
        documents: lengths.len() as u64,
        tokens: ids.len() as u64,
        sequences: lengths.len() as u64,
    };
    Tokens { meta, offsets, mask: vec![true; ids.len()], ids }
}

fn training() -> Training {
    Training {
        seed: 3,
        batch: 2,
        accumulate: 1,
        schedule: Schedule::WarmupCosine { lr: 1e-2, floor: 1e-3, warmup: 2, steps: 20 },
        adam: Adam { betas: (0.9, 0.95), weight_decay: 0.1, decoupled: true, ..Adam::default() },
        clip: Some(1.0),
        dropout: 0.0,
    }
}

fn trainer(training: Training, tokens: &Tokens) -> Trainer<'_, Flex> {
    Trainer::from_scratch(config(true), START, training, tokens, Default::default()).unwrap()
}

fn train(training: Training, tokens: &Tokens, steps: u64) -> Trainer<'_, Flex> {
    let mut trainer = trainer(training, tokens);
    for _ in 0..steps {
        trainer.step().unwrap();
    }
    trainer
}

/// Every parameter's bits.
fn bits(trainer: &Trainer<'_, Flex>) -> Vec<u32> {
    let parameters = trainer.model().unwrap().parameters();
    parameters.into_iter().flat_map(|(_, parameter)| parameter.into_values()).map(f32::to_bits).collect()
}

type A = Autodiff<Flex>;

/// GPT-2's mean cross-entropy in burn's own operations, one sequence at a time; parameters in the order of the slots.
fn plain_loss(config: &LmConfig, parameters: &[(Slot, Tensor<A, 2>)], rows: &[&[i32]]) -> Tensor<A, 1> {
    let device = Default::default();
    let get = |slot: Slot| parameters.iter().find(|(s, _)| *s == slot).unwrap().1.clone();
    let ints = |ids: &[i32]| Tensor::<A, 1, Int>::from_data(TensorData::from(ids), &device);
    let norm = |x: Tensor<A, 2>, gain: Slot, bias: Slot| {
        let centered = x.clone() - x.mean_dim(1);
        let variance = centered.clone().powi_scalar(2).mean_dim(1);
        centered / (variance + 1e-5).sqrt() * get(gain) + get(bias)
    };
    let unembed = if config.tied { get(Slot::Embed) } else { get(Slot::Unembed) };
    let mut total = Tensor::<A, 1>::zeros([1], &device);
    for ids in rows {
        let n = ids.len();
        let places: Vec<i32> = (0..n as i32).collect();
        let mut x = get(Slot::Embed).select(0, ints(ids)) + get(Slot::PosEmbed).select(0, ints(&places));
        for layer in 0..config.n_layers {
            let at = |slot| Slot::Block(layer, slot);
            let normed = norm(x.clone(), at(BlockSlot::Norm1Weight), at(BlockSlot::Norm1Bias));
            let qkv = normed.matmul(get(at(BlockSlot::QkvWeight))) + get(at(BlockSlot::QkvBias));
            let later = Tensor::<A, 2, Bool>::tril_mask([n, n], 0, &device);
            let heads = (0..config.n_heads).map(|head| {
                let part = |i: usize| qkv.clone().narrow(1, i * config.d_model + head * config.d_head, config.d_head);
                let scores = part(0).matmul(part(1).transpose()) / (config.d_head as f32).sqrt();
                softmax(scores.mask_fill(later.clone(), f32::NEG_INFINITY), 1).matmul(part(2))
            });
            let z = Tensor::cat(heads.collect(), 1);
            x = x + z.matmul(get(at(BlockSlot::OutWeight))) + get(at(BlockSlot::OutBias));
            let normed = norm(x.clone(), at(BlockSlot::Norm2Weight), at(BlockSlot::Norm2Bias));
            let u = normed.matmul(get(at(BlockSlot::UpWeight))) + get(at(BlockSlot::UpBias));
            let inner =
                (u.clone() + u.clone() * u.clone() * u.clone() * 0.044_715) * (2.0 / std::f64::consts::PI).sqrt();
            let hidden = u * (inner.tanh() + 1.0) * 0.5;
            x = x + hidden.matmul(get(at(BlockSlot::DownWeight))) + get(at(BlockSlot::DownBias));
        }
        let x = norm(x, Slot::FinalNormWeight, Slot::FinalNormBias);
        let logits = x.matmul(unembed.clone().transpose()).narrow(0, 0, n - 1);
        let targets: Tensor<A, 2, Int> = ints(&ids[1..]).unsqueeze_dim(1);
        total = total - log_softmax(logits, 1).gather(1, targets).sum();
    }
    total / rows.iter().map(|ids| ids.len() as f32 - 1.0).sum::<f32>()
}

#[test]
fn two_steps_are_those_of_a_plain_computation() {
    for tied in [true, false] {
        let (config, tokens) = (config(tied), tokens(&[12, 9, 12, 4, 12]));
        // With so large an eps an update is nearly proportional to its gradient, and roundings stay small.
        let mut training = Training { batch: 3, clip: Some(0.5), ..training() };
        training.adam.eps = 1e-2;
        let mut trainer =
            Trainer::<Flex>::from_scratch(config.clone(), START, training.clone(), &tokens, Default::default())
                .unwrap();

        let device = Default::default();
        let mut parameters: Vec<(Slot, Vec<f32>, Moments)> = config
            .slots()
            .into_iter()
            .map(|slot| {
                let values = initial(&config, slot, START, training.seed);
                let moments = Moments::zeros(values.len());
                (slot, values, moments)
            })
            .collect();
        let passes = [0, 1].map(|pass| permutation(&mut stream(training.seed, &format!("order/{pass}")), 5)).concat();
        for step in 1..=2u64 {
            let rows: Vec<&[i32]> =
                passes[(step as usize - 1) * 3..][..3].iter().map(|&i| tokens.sequence(i)).collect();
            let leaves: Vec<(Slot, Tensor<A, 2>)> = parameters
                .iter()
                .map(|(slot, values, _)| {
                    let shape = slot.shape(&config);
                    let shape = if shape.len() == 2 { [shape[0], shape[1]] } else { [1, shape[0]] };
                    (*slot, Tensor::from_data(TensorData::new(values.clone(), shape), &device).require_grad())
                })
                .collect();
            let loss = plain_loss(&config, &leaves, &rows);
            let expected_loss = f64::from(loss.clone().into_scalar());
            let grads = loss.backward();
            let grads: Vec<Vec<f32>> =
                leaves.iter().map(|(_, leaf)| leaf.grad(&grads).unwrap().into_data().into_vec().unwrap()).collect();
            let norm = global_norm(grads.iter().map(|g| &g[..]));
            let lr = 1e-2 * step as f64 / 3.0;
            for ((slot, values, moments), grad) in parameters.iter_mut().zip(&grads) {
                let weight_decay = if slot.shape(&config).len() == 2 { 0.1 } else { 0.0 };
                Adam { weight_decay, ..training.adam }.step(step, lr, values, grad, clip_factor(norm, 0.5), moments);
            }
            let report = trainer.step().unwrap();
            assert!((report.loss - expected_loss).abs() < 1e-5, "loss {} is not {expected_loss}", report.loss);
            // f32 gradients summed in another order.
            assert!((report.grad_norm / norm - 1.0).abs() < 1e-4, "norm {} is not {norm}", report.grad_norm);
            assert!((report.lr / lr - 1.0).abs() < 1e-12);
        }
        let trained = trainer.model().unwrap().parameters();
        for ((slot, values, _), (same, parameter)) in parameters.iter().zip(trained) {
            assert_eq!(*slot, same);
            for (a, b) in values.iter().zip(parameter.into_values()) {
                // Two updates of at most lr each, with gradients equal to about 1e-4.
                assert!((a - b).abs() < 5e-6, "{slot}: {b} is not {a}");
            }
        }
    }
}

#[test]
fn a_training_resumed_after_any_step_has_the_bits_of_an_undisturbed_one() {
    let tokens = tokens(&[12, 7, 12, 12, 5, 12, 12]);
    let training = Training { accumulate: 2, dropout: 0.1, ..training() };
    let expected = bits(&train(training.clone(), &tokens, 6));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    for stop in 0..6 {
        train(training.clone(), &tokens, stop).save(&path, &[("curve", &[stop, 7])]).unwrap();
        let mut resumed = trainer(training.clone(), &tokens);
        assert_eq!(resumed.resume(&path, &["curve"]).unwrap(), [[stop, 7]]);
        assert_eq!(resumed.done(), stop);
        for _ in stop..6 {
            resumed.step().unwrap();
        }
        assert!(bits(&resumed) == expected, "stopped after {stop}");
    }
    // Not the state of another training.
    let mut other = Trainer::<Flex>::from_scratch(config(false), START, training, &tokens, Default::default()).unwrap();
    assert!(other.resume(&path, &["curve"]).unwrap_err().to_string().contains("`parameter/unembed.weight` is missing"));
}

#[test]
fn a_snapshot_is_the_model_of_its_step() {
    let tokens = tokens(&[12; 4]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("snapshot");
    let mut trainer = train(training(), &tokens, 1);
    trainer.save_snapshot(&path).unwrap();
    let loss = held_out_loss(&trainer.model().unwrap(), &tokens).unwrap();
    trainer.step().unwrap();
    let snapshot = trainer.load_snapshot(&path).unwrap();
    assert_eq!(held_out_loss(&snapshot, &tokens).unwrap().to_bits(), loss.to_bits());
    assert_ne!(held_out_loss(&trainer.model().unwrap(), &tokens).unwrap(), loss);
}

#[test]
fn bits_do_not_depend_on_threads_and_do_on_the_seed() {
    let tokens = tokens(&[12, 12, 9, 12, 12, 3]);
    let run = |threads, seed| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let training = Training { seed, batch: 4, dropout: 0.2, ..training() };
        pool.install(|| bits(&train(training, &tokens, 3)))
    };
    let one = run(1, 0);
    assert!(run(2, 0) == one && run(3, 0) == one);
    assert!(run(1, 1) != one);
}

#[test]
fn accumulated_passes_are_one_large_batch() {
    let tokens = tokens(&[12, 7, 12, 4]);
    let step = |batch, accumulate| {
        let training = Training { batch, accumulate, ..training() };
        trainer(training, &tokens).step().unwrap()
    };
    let (whole, parts) = (step(4, 1), step(2, 2));
    assert!((whole.loss - parts.loss).abs() < 1e-6);
    assert!((whole.grad_norm / parts.grad_norm - 1.0).abs() < 1e-5);
    assert_eq!(whole.tokens, 35);
    assert_eq!(parts.tokens, 35);
}

#[test]
fn what_is_masked_is_not_predicted_and_the_rest_is_as_held_out() {
    let mut tokens = tokens(&[12, 7, 12, 4]);
    // Tokens 3 of sequence 0, and all of sequence 1.
    tokens.mask[3] = false;
    tokens.mask[12..19].fill(false);
    let mut trainer = trainer(Training { batch: 4, ..training() }, &tokens);
    let held_out = held_out_loss(&trainer.model().unwrap(), &tokens).unwrap();
    let loss = trainer.step().unwrap().loss;
    // One sum in f32, the other in f64.
    assert!((loss - held_out).abs() < 1e-5, "{loss} is not {held_out}");
}

#[test]
fn a_repeated_pattern_is_learned_to_the_end() {
    let mut tokens = tokens(&[CONTEXT; 8]);
    tokens
        .ids
        .iter_mut()
        .enumerate()
        .for_each(|(i, id)| *id = [3, 14, 15, 9, 26, 5, 35, 8][(i % CONTEXT + i / CONTEXT) % 8]);
    let schedule = Schedule::WarmupCosine { lr: 1e-2, floor: 1e-3, warmup: 10, steps: 150 };
    let training = Training { batch: 8, schedule, ..training() };
    let trainer = train(training, &tokens, 150);
    let loss = held_out_loss(&trainer.model().unwrap(), &tokens).unwrap();
    // Every token follows from the one before it.
    assert!(loss < 0.02, "{loss}");
}

#[test]
fn a_training_that_diverges_says_where_and_keeps_its_parameters() {
    let tokens = tokens(&[12; 4]);
    let training = Training { schedule: Schedule::Constant { lr: 1e30 }, clip: None, ..training() };
    let mut trainer = train(training, &tokens, 1);
    let before = bits(&trainer);
    let error = trainer.step().unwrap_err();
    assert!(matches!(error, Error::Diverged { step: 2, .. }), "{error}");
    assert!(error.to_string().contains("at step 2"));
    assert!(bits(&trainer) == before);
    assert_eq!(trainer.done(), 1);
}

#[test]
fn tokens_that_teach_nothing_or_do_not_fit_are_refused() {
    let refusal = |tokens: &Tokens| {
        let training = training();
        Trainer::<Flex>::from_scratch(config(true), START, training, tokens, Default::default())
            .err()
            .unwrap()
            .to_string()
    };
    assert!(refusal(&tokens(&[1, 1])).contains("no token to predict"));
    let mut masked = tokens(&[5]);
    masked.mask.fill(false);
    assert!(refusal(&masked).contains("no token to predict"));
    let mut long = tokens(&[5]);
    long.meta.context = CONTEXT + 1;
    assert!(refusal(&long).contains("the model's context is 12"));
}

#[test]
fn the_curve_survives_a_checkpoint() {
    let report = StepReport {
        step: 3,
        loss: 0.1,
        auxiliary: 0.02,
        live_loss: None,
        lr: 1e-3,
        grad_norm: f64::MIN_POSITIVE,
        tokens: 99,
    };
    let other = StepReport { live_loss: Some(7.0), ..report };
    let curve = [CurvePoint { report: other, test_loss: None }, CurvePoint { report, test_loss: Some(-0.0) }];
    assert_eq!(curve_from_words(&curve_to_words(&curve)), curve);
}

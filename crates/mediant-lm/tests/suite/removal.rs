//! Training from a model, with norms frozen on the way: gradients, scales, schedules, resuming, refusals.

use std::collections::BTreeMap;

use mediant_artifact::{Processing, Tokens, TokensMeta};
use mediant_lm::train::{AuxiliaryWeight, Group, Removal, RemovalSchedule, StepReport, Trainer, Training};
use mediant_lm::train::{CurvePoint, LossAround};
use mediant_lm::{Batch, BlockNorm, Hooks, LmConfig, Model, NormKind, NormSite, Parameter, Slot, scale_statistics};
use mediant_tensor::optim::Adam;
use mediant_tensor::random::{fill_normal, permutation, stream};
use mediant_tensor::schedule::Schedule;
use mediant_tensor::{Flex, Tensor};

use super::support::{freeze, gemma2_json, gpt2_json, llama_json, neox_json, random_ids, random_model};

const VOCABULARY: usize = 60;
const MLP: BlockNorm = BlockNorm::Mlp;
const QUERY_KEY: BlockNorm = BlockNorm::QueryKey;
const VALUE: BlockNorm = BlockNorm::Value;

fn tokens(lengths: &[usize]) -> Tokens {
    let ids: Vec<i32> =
        lengths.iter().enumerate().flat_map(|(i, len)| random_ids(VOCABULARY, *len, i as u64)).collect();
    let mut offsets = vec![0];
    lengths.iter().for_each(|len| offsets.push(offsets[offsets.len() - 1] + len));
    let meta = TokensMeta {
        tokenizer: None,
        vocab_size: VOCABULARY,
        context: 20,
        packed: false,
        prepend_bos: false,
        bos: None,
        separator: Some(3),
        split: "train".to_owned(),
        documents: lengths.len() as u64,
        tokens: ids.len() as u64,
        sequences: lengths.len() as u64,
    };
    Tokens { meta, offsets, mask: vec![true; ids.len()], ids }
}

/// Every sequence in every step.
fn training(sequences: usize) -> Training {
    Training {
        seed: 3,
        batch: sequences,
        accumulate: 1,
        schedule: Schedule::Constant { lr: 1e-2 },
        adam: Adam { decoupled: true, ..Adam::default() },
        clip: Some(1.0),
        dropout: 0.0,
    }
}

/// An update that takes its gradient from each parameter.
fn plain_descent(sequences: usize) -> Training {
    let adam = Adam { betas: (0.0, 0.0), eps: 1e8, weight_decay: 0.0, decoupled: true };
    Training { schedule: Schedule::Constant { lr: 1e8 }, adam, clip: None, ..training(sequences) }
}

fn removal(sites: Vec<(NormSite, u64)>) -> Removal {
    Removal { sites, momentum: 0.9, first_position: true, auxiliary: AuxiliaryWeight::Fixed(0.3) }
}

fn values(model: &Model<Flex>) -> BTreeMap<Slot, Vec<f32>> {
    model.parameters().into_iter().map(|(slot, parameter)| (slot, parameter.into_values())).collect()
}

/// Loss and auxiliary loss of whole sequences, in f64 from activations in f32, with a given τ or, if none is given, that of
/// these sequences; and the τ.
fn losses(model: &Model<Flex>, tokens: &Tokens, weight: f64, tau: Option<f64>) -> (f64, f64) {
    let config = model.config();
    let sequences: Vec<&[i32]> = (0..tokens.len()).map(|i| tokens.sequence(i)).collect();
    let batch = Batch::new(config, &sequences, &model.device()).unwrap();
    let all = model.losses(&batch, Hooks::none()).unwrap();
    let loss = all.iter().map(|loss| f64::from(*loss)).sum::<f64>() / all.len() as f64;
    if weight == 0.0 {
        return (loss, 0.0);
    }
    let mut sigma = Vec::new();
    let mut take = |_, x: Tensor<Flex, 3>| {
        let x: Vec<f32> = x.into_data().into_vec().unwrap();
        sigma = x.chunks(config.d_model).map(|row| scale(config, row)).collect();
        Ok(())
    };
    model.read(&batch, Hooks::none().read([NormSite::Final.input(config)], &mut take)).unwrap();
    let firsts = sequences.iter().flat_map(|ids| (0..ids.len()).map(|position| position == 0));
    let ids = sequences.iter().flat_map(|ids| ids.iter());
    let ordinary = sigma.iter().zip(firsts.zip(ids)).filter(|(_, (first, id))| !first && **id != 3);
    let ordinary: Vec<f64> = ordinary.map(|(sigma, _)| *sigma).collect();
    let tau = tau.unwrap_or(ordinary.iter().sum::<f64>() / ordinary.len() as f64);
    let mean = sigma.iter().map(|sigma| (sigma - tau).powi(2)).sum::<f64>() / sigma.len() as f64;
    (loss + weight * mean, tau)
}

fn scale(config: &LmConfig, row: &[f32]) -> f64 {
    let n = row.len() as f64;
    let mean = match config.norm {
        NormKind::Layer => row.iter().map(|x| f64::from(*x)).sum::<f64>() / n,
        NormKind::Rms => 0.0,
    };
    (row.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n + config.norm_eps).sqrt()
}

#[test]
fn gradients_of_a_step_are_those_of_central_differences_for_every_parameter() {
    let site = NormSite::Block;
    // Before the removal, during it, and with nothing live.
    let some = BTreeMap::from([
        (site(0, MLP), 1.3),
        (site(0, QUERY_KEY), 0.8),
        (site(1, QUERY_KEY), 0.7),
        (site(1, VALUE), 1.1),
    ]);
    let models = [
        (random_model(&gpt2_json(2, 16, 2, VOCABULARY, 20), 1), 0.3),
        (freeze(&random_model(&gpt2_json(2, 16, 2, VOCABULARY, 20), 1), some.clone()), 0.3),
        (freeze(&random_model(&llama_json(2, 16, 4, 2, VOCABULARY, 20), 1), some.clone()), 0.3),
        (freeze(&random_model(&neox_json(2, 16, 2, VOCABULARY, 20), 1), some), 0.3),
        // Its logits are capped; its norms after each part cannot be removed.
        (random_model(&gemma2_json(2, 32, 2, 1, VOCABULARY, 20), 1), 0.0),
    ];
    let tokens = tokens(&[13, 7, 13]);
    for (model, weight) in models {
        let mut trainer = Trainer::from_model(&model, plain_descent(3), &tokens).unwrap();
        if weight > 0.0 {
            let removal = Removal { auxiliary: AuxiliaryWeight::Fixed(weight), ..removal(vec![(NormSite::Final, 9)]) };
            trainer = trainer.removing(removal).unwrap();
        }
        let report = trainer.step().unwrap();
        let (expected, tau) = losses(&model, &tokens, weight, None);
        assert!((report.loss + report.auxiliary - expected).abs() < 1e-5, "{report:?} is not {expected}");
        assert_eq!(report.auxiliary > 0.0, weight > 0.0);
        let (before, after) = (values(&model), values(&trainer.model().unwrap()));
        for (slot, at) in &before {
            let name = format!("{}, {slot}", model.config().architecture.model_type);
            let gradient: Vec<f32> = at.iter().zip(&after[slot]).map(|(a, b)| a - b).collect();
            let norm = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            assert!(norm > 1e-3, "{name}: a gradient of {norm}");
            let mut random = vec![0.0; at.len()];
            fill_normal(&mut stream(1, &name), &mut random, 0.0, 1.0 / (at.len() as f32).sqrt());
            let along: Vec<f32> = gradient.iter().map(|g| g / norm as f32).collect();
            for direction in [along, random] {
                let step = 5e-3;
                let loss_at = |by: f32| {
                    let moved = before.iter().map(|(other, values)| {
                        let mut values = values.clone();
                        if other == slot {
                            values.iter_mut().zip(&direction).for_each(|(x, d)| *x += by * d);
                        }
                        (*other, Parameter::new(values, &other.shape(model.config()), &Default::default()).unwrap())
                    });
                    let moved = Model::new(model.config().clone(), moved.collect::<Vec<_>>()).unwrap();
                    losses(&moved, &tokens, weight, Some(tau)).0
                };
                let slope = (loss_at(step) - loss_at(-step)) / (2.0 * f64::from(step));
                let expected: f64 = gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
                // The third derivative times step²/6, and roundings of 1e-7 of the loss over the step.
                assert!(
                    (slope - expected).abs() < 4e-3 * norm.max(0.05),
                    "{name}: {slope} is not {expected} of {norm}"
                );
            }
        }
    }
}

#[test]
fn a_scale_is_the_running_mean_of_what_its_norm_computes_in_each_step() {
    let model = random_model(&gpt2_json(2, 16, 2, VOCABULARY, 20), 1);
    let tokens = tokens(&[13, 7]);
    // What it learns must not matter: it learns nothing.
    let still =
        |batch, accumulate| Training { batch, accumulate, schedule: Schedule::Constant { lr: 0.0 }, ..training(1) };
    let sites = vec![
        (NormSite::Block(1, QUERY_KEY), 1),
        (NormSite::Block(1, VALUE), 2),
        (NormSite::Block(0, MLP), 2),
        (NormSite::Final, 2),
    ];
    let scales = |training: Training, first_position: bool| {
        let removal = Removal { momentum: 0.7, first_position, ..removal(sites.clone()) };
        let mut trainer = Trainer::from_model(&model, training, &tokens).unwrap().removing(removal).unwrap();
        trainer.step().unwrap();
        let live = trainer.model().unwrap().config().live_sites().len();
        assert_eq!((live, trainer.frozen().len()), (6, 1));
        trainer.step().unwrap();
        let frozen = trainer.frozen();
        assert_eq!(frozen.iter().map(|(site, step, _)| (*site, *step)).collect::<Vec<_>>(), sites);
        frozen.into_iter().map(|(_, _, scale)| f64::from(scale)).collect::<Vec<_>>()
    };
    // The statistics of the model before anything is frozen; only the query-key path of the last layer is when the second
    // step sees it, and the last norm reads what that leads to.
    let statistics = |only: Option<usize>, norm: &str, first: Option<bool>| {
        let mut part = tokens.clone();
        if let Some(index) = only {
            let range = tokens.offsets[index]..tokens.offsets[index + 1];
            part.ids = tokens.ids[range.clone()].to_vec();
            part.mask = tokens.mask[range.clone()].to_vec();
            part.offsets = vec![0, range.len()];
        }
        let all = scale_statistics(&model, &part, &[], |_, _| Ok::<_, mediant_lm::Error>(())).unwrap();
        let rows = all.iter().filter(|row| row.norm == norm);
        let rows = rows.filter(|row| row.first == first && (first.is_some() || row.special.is_none()));
        let (sum, n) = rows.fold((0.0, 0.0), |(sum, n), row| (sum + row.mean * row.n as f64, n + row.n as f64));
        sum / n
    };
    let near = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-6, "{found} is not {expected}");

    // Both sequences in each step, in one pass or two: every step shows the same.
    for training in [still(2, 1), still(1, 2)] {
        let found = scales(training, true);
        near(found[0], statistics(None, "blocks.1.ln1", None));
        near(found[1], statistics(None, "blocks.1.ln1", None));
        near(found[2], statistics(None, "blocks.0.ln2", None));
    }
    let found = scales(still(2, 1), false);
    near(found[0], statistics(None, "blocks.1.ln1", Some(false)));
    // One sequence a step, in the order of the training.
    let order = permutation(&mut stream(3, "order/0"), 2);
    let found = scales(still(1, 1), true);
    let of = |index: usize| statistics(Some(index), "blocks.1.ln1", None);
    near(found[0], of(order[0]));
    near(found[1], 0.7 * of(order[0]) + 0.3 * of(order[1]));
}

#[test]
fn a_scaled_weight_is_measured_against_the_first_pass() {
    let model = random_model(&gpt2_json(2, 16, 2, VOCABULARY, 20), 1);
    let tokens = tokens(&[13, 7]);
    let (_, tau) = losses(&model, &tokens, 1.0, None);
    let auxiliary = |weight: AuxiliaryWeight| {
        let removal = Removal { auxiliary: weight, ..removal(vec![(NormSite::Final, 9)]) };
        let mut trainer = Trainer::from_model(&model, training(2), &tokens).unwrap().removing(removal).unwrap();
        [trainer.step().unwrap().auxiliary, trainer.step().unwrap().auxiliary]
    };
    let fixed = 0.1 * (16.5 / tau).powi(2);
    let (scaled, fixed) = (auxiliary(AuxiliaryWeight::Scaled(0.1)), auxiliary(AuxiliaryWeight::Fixed(fixed)));
    for (a, b) in scaled.iter().zip(fixed) {
        // The second step is after an update by gradients that agree to f32.
        assert!((a / b - 1.0).abs() < 1e-4, "{a} is not {b}");
    }
    assert_eq!(auxiliary(AuxiliaryWeight::Fixed(0.0)), [0.0, 0.0]);
}

fn short_removal() -> Removal {
    let sites = [
        (NormSite::Block(0, MLP), 1),
        (NormSite::Block(0, QUERY_KEY), 2),
        (NormSite::Block(0, VALUE), 3),
        (NormSite::Final, 4),
    ];
    Removal { auxiliary: AuxiliaryWeight::Scaled(0.1), ..removal(sites.into()) }
}

fn bits(trainer: &Trainer<'_, Flex>) -> (Vec<u32>, Vec<(NormSite, u64, u32)>) {
    let model = trainer.model().unwrap();
    let bits = values(&model).into_values().flatten().map(f32::to_bits).collect();
    (bits, trainer.frozen().into_iter().map(|(site, step, scale)| (site, step, scale.to_bits())).collect())
}

#[test]
fn a_removal_resumed_after_any_step_has_the_bits_of_an_undisturbed_one() {
    let model = random_model(&gpt2_json(1, 16, 2, VOCABULARY, 20), 1);
    let tokens = tokens(&[13, 7, 13, 20, 5]);
    let training = Training { batch: 2, accumulate: 2, dropout: 0.1, ..training(2) };
    let start = || Trainer::from_model(&model, training.clone(), &tokens).unwrap().removing(short_removal()).unwrap();
    let run = |steps: u64| {
        let mut trainer = start();
        for _ in 0..steps {
            trainer.step().unwrap();
        }
        trainer
    };
    let expected = bits(&run(6));
    assert_eq!(expected.1.len(), 4);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    for stop in 0..6 {
        run(stop).save(&path, &[]).unwrap();
        let mut resumed = start();
        resumed.resume(&path, &[]).unwrap();
        assert_eq!(resumed.frozen().len() as u64, stop.min(4));
        for _ in stop..6 {
            resumed.step().unwrap();
        }
        assert!(bits(&resumed) == expected, "stopped after {stop}");
    }
    // The state of a training that removes nothing is another's.
    let mut plain = Trainer::from_model(&model, training.clone(), &tokens).unwrap();
    assert!(plain.resume(&path, &[]).is_err());
}

#[test]
fn a_snapshot_has_the_norms_of_its_step() {
    let model = random_model(&gpt2_json(1, 16, 2, VOCABULARY, 20), 1);
    let tokens = tokens(&[13, 7]);
    let folder = tempfile::tempdir().unwrap();
    let mut trainer = Trainer::from_model(&model, training(2), &tokens).unwrap().removing(short_removal()).unwrap();
    let mut kept = Vec::new();
    for step in 0..5 {
        trainer.save_snapshot(&folder.path().join(step.to_string())).unwrap();
        kept.push(trainer.model().unwrap());
        trainer.step().unwrap();
    }
    for (step, kept) in kept.iter().enumerate() {
        let model = trainer.load_snapshot(&folder.path().join(step.to_string())).unwrap();
        assert_eq!(model.config(), kept.config(), "step {step}");
        assert_eq!(values(&model), values(kept));
        assert_eq!(model.config().live_sites().len(), 4 - step);
    }
}

#[test]
fn a_model_learns_with_its_norms_removed() {
    let model = random_model(&gpt2_json(1, 32, 2, VOCABULARY, 20), 1);
    let mut tokens = tokens(&[20; 8]);
    tokens.ids.iter_mut().enumerate().for_each(|(i, id)| *id = [3, 14, 15, 9, 26, 5, 35, 8][(i % 20 + i / 20) % 8]);
    let schedule = Schedule::WarmupCosine { lr: 1e-2, floor: 1e-3, warmup: 10, steps: 150 };
    let removal = Removal {
        sites: short_removal().sites.iter().map(|(site, step)| (*site, step * 20)).collect(),
        ..short_removal()
    };
    let mut trainer =
        Trainer::from_model(&model, Training { schedule, ..training(8) }, &tokens).unwrap().removing(removal).unwrap();
    let loss = (0..150).map(|_| trainer.step().unwrap().loss).last().unwrap();
    assert_eq!(trainer.model().unwrap().config().live_sites(), []);
    // Every token follows from the one before it.
    assert!(loss < 0.05, "{loss}");
}

#[test]
fn the_scaled_schedule_is_the_published_one_where_that_is_known() {
    let group = |start, gap| Group { start, gap };
    let small = RemovalSchedule { ln2: group(20, 2), ln1_qk: group(44, 2), ln1_v: group(68, 3), ln_final: 104 };
    assert_eq!(RemovalSchedule::scaled(12, 300), small);
    let medium = RemovalSchedule::scaled(24, 500);
    assert_eq!((medium.ln2.gap, medium.ln1_qk.gap, medium.ln1_v.gap), (2, 2, 3));
    assert_eq!(small.step(NormSite::Block(3, VALUE)), 77);
    assert_eq!(small.step(NormSite::Final), 104);
    // Few steps: one norm a step.
    let short = RemovalSchedule::scaled(2, 10);
    assert_eq!(short.ln2, group(1, 1));
    assert_eq!(short.ln_final, 7);
}

#[test]
fn what_cannot_be_removed_or_trained_is_refused() {
    let tokens = tokens(&[13, 7]);
    let refusal = |model: &Model<Flex>, removal: Removal| {
        Trainer::from_model(model, training(2), &tokens).unwrap().removing(removal).err().unwrap().to_string()
    };
    let gpt2 = random_model(&gpt2_json(2, 16, 2, VOCABULARY, 20), 1);
    let gemma = random_model(&gemma2_json(2, 32, 2, 1, VOCABULARY, 20), 1);
    assert!(refusal(&gemma, removal(vec![(NormSite::Final, 1)])).contains("a norm stands after each part"));
    let partly = freeze(&gpt2, BTreeMap::from([(NormSite::Final, 1.0)]));
    assert!(refusal(&partly, removal(vec![(NormSite::Final, 1)])).contains("`ln_final` cannot be frozen"));
    assert!(refusal(&gpt2, removal(vec![(NormSite::Block(2, MLP), 1)])).contains("`blocks.2.ln2` cannot be frozen"));
    assert!(refusal(&gpt2, removal(vec![(NormSite::Final, 0)])).contains("before a step has shown its scale"));
    let steps = Processing { fold_value_biases: true, ..Processing::default() };
    let processed = Model::new(LmConfig { processing: steps, ..gpt2.config().clone() }, gpt2.parameters()).unwrap();
    let error = Trainer::from_model(&processed, training(2), &tokens).err().unwrap().to_string();
    assert!(error.contains("were processed"), "{error}");
}

#[test]
fn the_loss_around_a_removal_tells_how_long_it_took() {
    let curve = |losses: &[f64]| -> Vec<CurvePoint> {
        let point = |(i, &loss): (usize, &f64)| {
            let (step, live_loss) = (i as u64 + 1, Some(loss - 0.25));
            let report = StepReport { step, loss, auxiliary: 0.0, live_loss, lr: 0.1, grad_norm: 1.0, tokens: 1 };
            CurvePoint { report, test_loss: None }
        };
        losses.iter().enumerate().map(point).collect()
    };
    // Ten steps at 2, then a jump of 1 that fades by a 20th a step: a mean of ten is below 0.1 from the 16th on.
    let fading: Vec<f64> =
        [2.0; 10].into_iter().chain((0..60).map(|i| 2.0 + (1.0 - 0.05 * f64::from(i)).max(0.0))).collect();
    let around = LossAround::of(&curve(&fading), 10).unwrap();
    assert_eq!((around.before, around.live, around.frozen), (2.0, 2.75, 3.0));
    // From step k on the mean is (1 − k/20 + … ) / 10: 0.105 at 14, 0.075 at 15.
    assert_eq!(around.recovered_after, Some(15));
    assert_eq!(LossAround::of(&curve(&[2.0; 12]), 11).unwrap().recovered_after, Some(0));
    let lasting: Vec<f64> = [2.0; 10].into_iter().chain([2.2; 70]).collect();
    assert_eq!(LossAround::of(&curve(&lasting), 10).unwrap().recovered_after, None);
    assert_eq!(LossAround::of(&curve(&[2.0; 12]), 12), None);
    assert_eq!(LossAround::of(&curve(&[2.0; 12]), 0), None);
}

#[test]
fn the_loss_had_a_norm_stayed_live_is_that_of_the_model_before() {
    let model = random_model(&gpt2_json(1, 16, 2, VOCABULARY, 20), 1);
    let tokens = tokens(&[13, 7, 13]);
    let mut trainer = Trainer::from_model(&model, training(3), &tokens).unwrap().removing(short_removal()).unwrap();
    assert_eq!(trainer.step().unwrap().live_loss, None);
    let frozen = trainer.model().unwrap();
    let live = freeze(&frozen, BTreeMap::new());
    let report = trainer.step().unwrap();
    let expected = [&live, &frozen].map(|model| losses(model, &tokens, 0.0, None).0);
    // Sums in f32 beside sums in f64.
    assert!((report.live_loss.unwrap() - expected[0]).abs() < 1e-5, "{report:?} is not {expected:?}");
    assert!((report.loss - expected[1]).abs() < 1e-5 && (expected[0] - expected[1]).abs() > 1e-3, "{expected:?}");
}

//! The three experiments on what LayerNorm does, against slow computations of the same.

use std::path::Path;

use mediant_artifact::{Artifact, ArtifactWriter, Contrast, HookFact, Kind, Tokens};
use mediant_lm::{
    Batch, BlockSlot, HfFolder, HookPoint, Hooks, LmConfig, Model, NormSite, NormStates, Parameter, Positions, Site,
    Slot, fold_norms, import, load, predicted, save,
};
use mediant_methods::direct_effect::direct_effects;
use mediant_methods::entropy_neurons::{Activity, LastLayer, Measure, Write, ablate_neurons};
use mediant_methods::linearity::{Scale, linearity};
use mediant_methods::{
    By, Direction, Error, Metric, Pairs, Reference, Slope, Target, attribute, beginning, patch, targets,
};
use mediant_tensor::{Flex, Tensor};
use tempfile::TempDir;

use super::prompts::{fixture_model, hook, random_pairs, recorded};
use super::support::{model, tokens};

/// The shipped model.
fn tiny_gpt2() -> Model<Flex> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/models/tiny-gpt2");
    let folder = TempDir::new().unwrap();
    let writer = ArtifactWriter::create(folder.path(), Kind::Model).unwrap();
    import(&HfFolder::open(&source).unwrap(), Default::default(), writer, |_, _| Ok::<_, mediant_lm::Error>(()))
        .unwrap();
    load(&Artifact::open(folder.path()).unwrap(), &Default::default()).unwrap()
}

/// A document a sequence.
fn documents(tokens: &Tokens) -> Vec<u32> {
    let lengths = tokens.offsets.windows(2).map(|pair| pair[1] - pair[0]).enumerate();
    lengths.flat_map(|(i, length)| vec![i as u32; length]).collect()
}

fn nothing(_: u64, _: u64) -> Result<(), Error> {
    Ok(())
}

fn targets_of(hooks: &[HookFact], by: &[By], pairs: &Pairs) -> Vec<Target> {
    targets(hooks, Some(by), &Positions::All, &[], pairs).unwrap()
}

fn vector(model: &Model<Flex>, slot: Slot) -> Vec<f32> {
    let (_, found) = model.parameters().into_iter().find(|(of, _)| *of == slot).unwrap();
    Parameter::into_values(found)
}

/// The residual stream after the last block and the last MLP's activations, of one sequence.
fn last_block(model: &Model<Flex>, ids: &[i32]) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let batch = Batch::new(model.config(), &[ids], &model.device()).unwrap();
    let mut read = Vec::new();
    let mut take = |_, x: Tensor<Flex, 3>| {
        let width = x.dims()[2];
        let rows = x.into_data().into_vec::<f32>().unwrap();
        read.push(rows.chunks(width).map(|row| row.iter().map(|x| f64::from(*x)).collect()).collect());
        Ok(())
    };
    let last = model.config().n_layers - 1;
    let points = [Site::MlpPost, Site::ResidPost].map(|site| HookPoint::Block(last, site));
    model.read(&batch, Hooks::none().read(points, &mut take)).unwrap();
    let resid = read.pop().unwrap();
    (resid, read.pop().unwrap())
}

/// A last LayerNorm and an unembedding, written out in f64.
struct Slow {
    gain: Vec<f64>,
    bias: Vec<f64>,
    unembedding: Vec<f64>,
    eps: f64,
}

impl Slow {
    fn of(model: &Model<Flex>) -> Self {
        let wide = |x: Vec<f32>| x.into_iter().map(f64::from).collect();
        Self {
            gain: wide(vector(model, Slot::FinalNormWeight)),
            bias: wide(vector(model, Slot::FinalNormBias)),
            unembedding: wide(model.unembedding().into_data().into_vec().unwrap()),
            eps: model.config().norm_eps,
        }
    }

    fn centered(x: &[f64]) -> Vec<f64> {
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        x.iter().map(|x| x - mean).collect()
    }

    fn scale(&self, x: &[f64]) -> f64 {
        (Self::centered(x).iter().map(|x| x * x).sum::<f64>() / x.len() as f64 + self.eps).sqrt()
    }

    fn logits(&self, x: &[f64], scale: f64) -> Vec<f64> {
        let normed = Self::centered(x).into_iter().zip(self.gain.iter().zip(&self.bias));
        let normed: Vec<f64> = normed.map(|(x, (gain, bias))| x / scale * gain + bias).collect();
        self.unembedding.chunks(x.len()).map(|row| row.iter().zip(&normed).map(|(w, x)| w * x).sum()).collect()
    }

    /// Loss and entropy.
    fn measures(&self, x: &[f64], scale: f64, token: usize) -> [f64; 2] {
        let logits = self.logits(x, scale);
        let total = logits.iter().map(|x| x.exp()).sum::<f64>().ln();
        [total - logits[token], -logits.iter().map(|x| (x - total).exp() * (x - total)).sum::<f64>()]
    }
}

#[test]
fn direct_effects_are_differences_of_logits() {
    let (model, tokens) = (model(), tokens(12));
    let documents = documents(&tokens);
    let found = direct_effects(&model, &tokens, &documents, nothing).unwrap();
    assert_eq!(found.sequences(), 12);
    let slow = Slow::of(&model);
    let (mut attributed, mut direct, mut error, mut size) = ([0.0; 4], [0.0; 4], [0.0; 4], [0.0; 4]);
    for i in 0..tokens.len() {
        let ids = tokens.sequence(i);
        let token = ids[ids.len() - 1] as usize;
        let batch = Batch::new(model.config(), &[ids], &model.device()).unwrap();
        let (mut of_heads, mut resid) = (Vec::new(), Vec::new());
        let mut take = |point: HookPoint, x: Tensor<Flex, 3>| {
            let [rows, units, width] = x.dims();
            let x = x.into_data().into_vec::<f32>().unwrap();
            let last = x[(rows - 1) * units * width..].chunks(width).map(|x| x.iter().map(|x| f64::from(*x)).collect());
            if point.site() == Some(Site::Result) {
                of_heads.extend(last);
            } else {
                resid.extend(last);
            }
            Ok::<_, mediant_lm::Error>(())
        };
        let points = [(0, Site::Result), (1, Site::Result), (1, Site::ResidPost)];
        let points = points.map(|(layer, site)| HookPoint::Block(layer, site));
        model.read(&batch, Hooks::none().read(points, &mut take)).unwrap();
        let of_heads: Vec<Vec<f64>> = of_heads;
        let resid: Vec<f64> = resid.pop().unwrap();
        // A logit relative to the mean of all.
        let logit = |x: &[f64], scale: f64| {
            let logits = slow.logits(x, scale);
            logits[token] - logits.iter().sum::<f64>() / logits.len() as f64
        };
        let zero = vec![0.0; resid.len()];
        for (head, added) in of_heads.iter().enumerate() {
            let scale = slow.scale(&resid);
            let dla = logit(added, scale) - logit(&zero, scale);
            let rest: Vec<f64> = resid.iter().zip(added).map(|(r, a)| r - a).collect();
            let de = logit(&resid, scale) - logit(&rest, slow.scale(&rest));
            attributed[head] += dla / 12.0;
            direct[head] += de / 12.0;
            error[head] += (dla - de).abs() / 12.0;
            size[head] += de.abs() / 12.0;
        }
    }
    // Activations and scales are in f32.
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-5 * b.abs().max(1.0), "{a} {b}");
    for (head, of) in found.of_heads(0).iter().enumerate() {
        assert_eq!((of.layer, of.head), (head / 2, head % 2));
        close(of.attributed, attributed[head]);
        close(of.direct, direct[head]);
        close(of.error, error[head]);
        close(of.size, size[head]);
        close(of.nmae.value, 100.0 * error[head] / size[head]);
    }
    let (overall, mean_error, mean_size) = found.overall(0);
    close(mean_error, error.iter().sum::<f64>() / 4.0);
    close(overall.value, 100.0 * mean_error / mean_size);
    let (low, high) = overall.interval.unwrap();
    assert!(low < overall.value && overall.value < high);
    assert_eq!(found.overall(0), found.overall(0));
    assert_ne!(found.overall(0).0.interval, found.overall(1).0.interval);
}

#[test]
fn a_live_norm_makes_attribution_wrong() {
    let tiny = tiny_gpt2();
    let mut tokens = tokens(40);
    tokens.meta.vocab_size = tiny.config().vocab_size;
    let documents = documents(&tokens);
    let (nmae, _, _) = direct_effects(&tiny, &tokens, &documents, nothing).unwrap().overall(0);
    assert!(nmae.interval.unwrap().0 > 1.0, "{nmae:?}");
    // A model whose heads write nothing has nothing to be wrong about.
    let heads = (0..2).map(|layer| Slot::Block(layer, BlockSlot::OutWeight));
    let idle = without(&model(), &heads.collect::<Vec<_>>());
    let small = super::support::tokens(5);
    let (nmae, error, size) = direct_effects(&idle, &small, &documents, nothing).unwrap().overall(0);
    assert_eq!((nmae.value, error, size), (0.0, 0.0, 0.0));
}

/// The model with zeros in some parameters.
fn without(model: &Model<Flex>, slots: &[Slot]) -> Model<Flex> {
    let parameters = model.parameters().into_iter().map(|(slot, parameter)| {
        let shape = parameter.shape();
        let mut values = parameter.into_values();
        if slots.contains(&slot) {
            values.fill(0.0);
        }
        (slot, Parameter::new(values, &shape, &model.device()).unwrap())
    });
    Model::new(model.config().clone(), parameters.collect::<Vec<_>>()).unwrap()
}

#[test]
fn linearity_compares_what_the_two_methods_record() {
    let model = fixture_model("gpt2");
    let pairs = random_pairs(211, &[7, 12, 12, 5]);
    let hooks = ["blocks.0.hook_resid_pre", "blocks.1.attn.hook_z"].map(|name| hook(&model, name));
    let targets = targets_of(&hooks, &[By::Position], &pairs);
    let metric = Metric::LogitDiff;
    let found = linearity(&model, &pairs, &targets, metric, |_, _| Ok::<_, Error>(())).unwrap();
    let exact = recorded(&pairs, &targets, Contrast::Restored, |recorder| {
        patch(&model, &pairs, &targets, Direction::Denoising, metric, recorder, |_, _| Ok::<_, Error>(())).unwrap();
    });
    let linear = recorded(&pairs, &targets, Contrast::Restored, |recorder| {
        let slope = Slope::At(Reference::Counterfactual);
        attribute(&model, &pairs, &targets, slope, metric, recorder, |_, _| Ok::<_, Error>(())).unwrap();
    });
    let (in_units, shares) = (found.of_mediators(Scale::Metric, 0), found.of_mediators(Scale::Difference, 0));
    assert_eq!((in_units.len(), found.undivided()), (targets.len(), 0));
    let (mut errors, mut sizes) = (Vec::new(), (0.0, 0.0));
    for (mediator, (of, share)) in in_units.iter().zip(&shares).enumerate() {
        let both: Vec<(f64, f64, f64)> = exact.effects[mediator]
            .iter()
            .zip(&linear.effects[mediator])
            .map(|((clean, other, patched), (_, _, predicted))| {
                let other = other.unwrap();
                (clean - other, patched - other, predicted - other)
            })
            .collect();
        let n = both.len() as f64;
        let mean = |of: fn(&(f64, f64, f64)) -> f64| both.iter().map(of).sum::<f64>() / n;
        assert_eq!(of.n, both.len() as u64);
        for (found, expected) in [
            (of.exact, mean(|(_, exact, _)| *exact)),
            (of.linear, mean(|(_, _, linear)| *linear)),
            (of.error, mean(|(_, exact, linear)| linear - exact)),
            (share.exact, mean(|(total, exact, _)| exact / total)),
            (share.linear, mean(|(total, _, linear)| linear / total)),
        ] {
            assert!((found.value - expected).abs() < 1e-9 * expected.abs().max(1.0), "{found:?} {expected}");
        }
        errors.push(of.error.value);
        sizes.0 += both.iter().map(|(_, exact, linear)| (linear - exact).abs()).sum::<f64>();
        sizes.1 += both.iter().map(|(_, exact, _)| exact.abs()).sum::<f64>();
    }
    let agreement = found.agreement(Scale::Metric, 0);
    let mean = errors.iter().sum::<f64>() / errors.len() as f64;
    let sd = (errors.iter().map(|error| (error - mean).powi(2)).sum::<f64>() / (errors.len() - 1) as f64).sqrt();
    assert!((agreement.mean_error.value - mean).abs() < 1e-12 && (agreement.sd_error.value - sd).abs() < 1e-12);
    assert!((agreement.nmae.value - 100.0 * sizes.0 / sizes.1).abs() < 1e-9);
    assert!(agreement.pearson.value > 0.5 && agreement.nmae.value > 1.0, "{agreement:?}");
    assert!(found.smallest_difference() > 0.0);
}

#[test]
fn prompts_that_are_their_own_counterfactual_have_no_shares() {
    let model = fixture_model("gpt2");
    let mut prompts = random_pairs(211, &[7, 12, 5]).prompts().to_vec();
    prompts[1].counterfactuals[0].ids = prompts[1].clean.ids.clone();
    let pairs = Pairs::new(prompts, Some(0)).unwrap();
    let targets = targets_of(&[hook(&model, "blocks.0.hook_resid_pre")], &[], &pairs);
    let found = linearity(&model, &pairs, &targets, Metric::LogitDiff, |_, _| Ok::<_, Error>(())).unwrap();
    assert_eq!(found.undivided(), 1);
    let shares = found.of_mediators(Scale::Difference, 0)[0];
    assert_eq!((shares.n, found.of_mediators(Scale::Metric, 0)[0].n), (2, 3));
    // The whole residual stream before the first block is all of the difference.
    assert!((shares.exact.value - 1.0).abs() < 1e-4, "{shares:?}");
}

/// One neuron's ablation, by hand.
fn slow_changes(model: &Model<Flex>, tokens: &Tokens, mean: f64, write: &Write) -> [[f64; 3]; 2] {
    let slow = Slow::of(model);
    let mut sums = [[0.0; 3]; 2];
    let mut n = 0.0;
    for i in 0..tokens.len() {
        let (resid, active) = last_block(model, tokens.sequence(i));
        for (token, position) in predicted(tokens, i..i + 1) {
            let (x, a) = (&resid[position - 1], active[position - 1][write.neuron]);
            let left: Vec<f64> = x.iter().zip(&write.vector).map(|(x, w)| x - (a - mean) * f64::from(*w)).collect();
            let token = tokens.ids[token] as usize;
            let before = slow.measures(x, slow.scale(x), token);
            let held = slow.measures(&left, slow.scale(x), token);
            let after = slow.measures(&left, slow.scale(&left), token);
            for measure in 0..2 {
                sums[measure][0] += after[measure] - before[measure];
                sums[measure][1] += held[measure] - before[measure];
                sums[measure][2] += after[measure] - held[measure];
            }
            n += 1.0;
        }
    }
    sums.map(|parts| parts.map(|part| part / n))
}

#[test]
fn what_neurons_change_is_what_a_slow_computation_finds() {
    let (model, tokens) = (model(), tokens(10));
    let documents = documents(&tokens);
    let layer = LastLayer::of(&model).unwrap();
    let activity = Activity::of(&model, &tokens, nothing).unwrap();
    let neuron = 5;
    let (mut mean, mut n) = (0.0, 0.0);
    for i in 0..tokens.len() {
        let (_, active) = last_block(&model, tokens.sequence(i));
        for (_, position) in predicted(&tokens, i..i + 1) {
            mean += active[position - 1][neuron];
            n += 1.0;
        }
    }
    assert!((activity.mean[neuron] - mean / n).abs() < 1e-6);
    let sets = [vec![layer.write(neuron)], vec![layer.write(neuron), layer.write(9)]];
    let found = ablate_neurons(&model, &tokens, &documents, &activity, &sets, None, nothing).unwrap();
    assert_eq!(found.predictions() as f64, n);
    let expected = slow_changes(&model, &tokens, mean / n, &sets[0][0]);
    for (measure, expected) in Measure::ALL.into_iter().zip(expected) {
        let changes = found.changes(measure, 0);
        for (found, expected) in changes[0].mean.iter().zip(expected) {
            // The model computes logits in f32.
            assert!((found.value - expected).abs() < 2e-6, "{measure:?}: {} {expected}", found.value);
        }
        for change in &changes {
            let [total, direct, through] = change.mean.map(|part| part.value);
            assert!((total - direct - through).abs() < 1e-12, "the parts sum to the whole");
            assert!(through.abs() > 1e-6, "a live norm passes something on: {through}");
            let before = found.before(measure, 0).value;
            assert!((change.relative.value - 100.0 * total / before).abs() < 1e-9);
            assert!(change.quartiles[0] <= change.quartiles[1] && change.quartiles[1] <= change.quartiles[2]);
        }
    }
}

#[test]
fn the_spectrum_is_that_of_the_unembedding() {
    let model = model();
    let layer = LastLayer::of(&model).unwrap();
    let spectrum = layer.spectrum();
    // Without the direction of the mean.
    assert_eq!(spectrum.directions.len(), model.config().d_model - 1);
    let slow = Slow::of(&model);
    let zero = slow.logits(&vec![0.0; model.config().d_model], 1.0);
    for (value, direction) in spectrum.values.iter().zip(&spectrum.directions) {
        assert!(direction.iter().sum::<f64>().abs() < 1e-6);
        let logits = slow.logits(direction, 1.0);
        let moved: Vec<f64> = logits.iter().zip(&zero).map(|(a, b)| a - b).collect();
        let moved = Slow::centered(&moved);
        let length = moved.iter().map(|x| x * x).sum::<f64>().sqrt();
        // Rows of the unembedding are kept in f32.
        assert!((length - value).abs() < 1e-6 * spectrum.values[0], "{length} {value}");
    }
    let profile = layer.profile(3, &spectrum);
    assert!((profile.iter().sum::<f64>() - 1.0).abs() < 1e-9);
}

#[test]
fn candidates_are_ordered_by_the_variance_of_their_cosines() {
    let model = model();
    let layer = LastLayer::of(&model).unwrap();
    let found = layer.candidates::<Flex>(&model.device()).unwrap();
    assert_eq!(found.len(), model.config().d_mlp);
    assert!(found.windows(2).all(|pair| pair[0].ratio() >= pair[1].ratio()));
    let slow = Slow::of(&model);
    let width = model.config().d_model;
    let vocabulary = model.config().vocab_size as f64;
    let rows: Vec<Vec<f64>> = slow
        .unembedding
        .chunks(width)
        .map(|row| Slow::centered(&row.iter().zip(&slow.gain).map(|(w, gain)| w * gain).collect::<Vec<_>>()))
        .collect();
    let mean: Vec<f64> = (0..width).map(|i| rows.iter().map(|row| row[i]).sum::<f64>() / vocabulary).collect();
    let rows: Vec<Vec<f64>> =
        rows.iter().map(|row| row.iter().zip(&mean).map(|(x, mean)| x - mean).collect()).collect();
    let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    for one in found.iter().take(5) {
        let write = layer.write(one.neuron).vector;
        let write = Slow::centered(&write.iter().map(|x| f64::from(*x)).collect::<Vec<_>>());
        let cosines: Vec<f64> = rows
            .iter()
            .map(|row| row.iter().zip(&write).map(|(a, b)| a * b).sum::<f64>() / norm(row) / norm(&write))
            .collect();
        let mean = cosines.iter().sum::<f64>() / vocabulary;
        let variance = cosines.iter().map(|cosine| (cosine - mean).powi(2)).sum::<f64>() / (vocabulary - 1.0);
        assert!((one.norm - norm(&write)).abs() < 1e-9);
        assert!((one.logit_var - variance).abs() < 1e-6 * variance, "{} {variance}", one.logit_var);
    }
}

#[test]
fn a_planted_neuron_is_found_first_and_acts_through_the_scale() {
    let tiny = tiny_gpt2();
    let mut tokens = tokens(60);
    tokens.meta.vocab_size = tiny.config().vocab_size;
    let documents = documents(&tokens);
    let layer = LastLayer::of(&tiny).unwrap();
    let spectrum = layer.spectrum();
    let activity = Activity::of(&tiny, &tokens, nothing).unwrap();
    let planted = activity.planted(&layer, &spectrum).unwrap();
    let own = layer.write(planted.neuron);
    let vector = planted.vector.iter().zip(&own.vector).map(|(a, b)| a - b).collect();
    let added = Write { neuron: planted.neuron, vector };
    let with = LastLayer::of(&tiny).unwrap().with(&planted);
    let first = with.candidates::<Flex>(&tiny.device()).unwrap()[0];
    assert_eq!(first.neuron, planted.neuron);
    let mass = with.profile(planted.neuron, &spectrum).pop().unwrap();
    assert!((mass - 1.0).abs() < 1e-6, "all that it writes is in the last direction: {mass}");
    // Of the model's own neurons none is like that.
    let best = layer.candidates::<Flex>(&tiny.device()).unwrap()[0];
    assert!(first.ratio() > 10.0 * best.ratio(), "{first:?} {best:?}");

    // The model with the planted weights is the model with what is added.
    let changed = with_write(&tiny, &planted);
    let sets = [vec![planted.clone()]];
    let found = ablate_neurons(&tiny, &tokens, &documents, &activity, &sets, Some(&added), nothing).unwrap();
    let there = ablate_neurons(&changed, &tokens, &documents, &activity, &sets, None, nothing).unwrap();
    for measure in Measure::ALL {
        assert!((found.before(measure, 0).value - there.before(measure, 0).value).abs() < 1e-5);
    }
    let change = &found.changes(Measure::Entropy, 0)[0];
    let [total, direct, through] = change.size.map(|part| part.value);
    // The last singular value is small, not 0, so that something is direct.
    assert!(through > 0.05 && direct < 0.25 * total, "{total} {direct} {through}");
}

/// The model with what a neuron of the last MLP writes.
fn with_write(model: &Model<Flex>, write: &Write) -> Model<Flex> {
    let place = Slot::Block(model.config().n_layers - 1, BlockSlot::DownWeight);
    let parameters = model.parameters().into_iter().map(|(slot, parameter)| {
        let shape = parameter.shape();
        let mut values = parameter.into_values();
        if slot == place {
            values[write.neuron * shape[1]..][..shape[1]].copy_from_slice(&write.vector);
        }
        (slot, Parameter::new(values, &shape, &model.device()).unwrap())
    });
    Model::new(model.config().clone(), parameters.collect::<Vec<_>>()).unwrap()
}

#[test]
fn the_beginning_of_a_corpus_is_whole_sequences_cut() {
    let tokens = tokens(6);
    let documents = documents(&tokens);
    let (kept, of) = beginning(&tokens, &documents, 4, 6);
    assert_eq!((kept.len(), kept.meta.sequences, kept.meta.tokens), (4, 4, kept.ids.len() as u64));
    for i in 0..4 {
        let whole = tokens.sequence(i);
        assert_eq!(kept.sequence(i), &whole[..whole.len().min(6)]);
        assert!(of[kept.offsets[i]..kept.offsets[i + 1]].iter().all(|document| *document == i as u32));
    }
    assert_eq!(beginning(&tokens, &documents, 100, 100), (tokens.clone(), documents.clone()));
    assert_eq!(beginning(&tokens, &documents, usize::MAX, usize::MAX), (tokens.clone(), documents));
}

/// A model that is linear above its last block.
pub(crate) fn with_frozen_norms() -> Model<Flex> {
    frozen(&model(), true)
}

/// A model with norms frozen: all, or the last alone.
pub(crate) fn frozen(model: &Model<Flex>, all: bool) -> Model<Flex> {
    let sites = model.config().norm_sites().into_iter().enumerate();
    // Scales of different sizes, about those that the models compute.
    let scales = sites.map(|(place, site)| (site, 0.3 + 0.05 * place as f32));
    let norms = NormStates::Present(scales.filter(|(site, _)| all || *site == NormSite::Final).collect());
    Model::new(LmConfig { norms, ..model.config().clone() }, model.parameters()).unwrap()
}

/// The same with its frozen norms in the weights.
pub(crate) fn absent(frozen: &Model<Flex>, json: &serde_json::Value) -> Model<Flex> {
    let folder = TempDir::new().unwrap();
    let writer = |name: &str| {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        ArtifactWriter::create(&folder.path().join(name), Kind::Model).unwrap()
    };
    save(frozen, json, &[], writer("frozen")).unwrap();
    fold_norms(&Artifact::open(&folder.path().join("frozen")).unwrap(), writer("absent")).unwrap();
    load(&Artifact::open(&folder.path().join("absent")).unwrap(), &Default::default()).unwrap()
}

/// Models whose last norm is frozen or absent, by what they are.
fn without_live_last_norm() -> Vec<(&'static str, Model<Flex>)> {
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(super::prompts::fixture("gpt2").join("config.json")).unwrap()).unwrap();
    let (small, rms) = (fixture_model("gpt2"), fixture_model("llama"));
    vec![
        ("LayerNorms frozen", frozen(&small, true)),
        ("the last LayerNorm frozen", frozen(&small, false)),
        ("RMSNorms frozen", frozen(&rms, true)),
        ("no norms", absent(&frozen(&small, true), &json)),
    ]
}

#[test]
fn without_a_live_norm_attribution_is_the_direct_effect() {
    let tokens = tokens(12);
    for (name, model) in without_live_last_norm() {
        let found = direct_effects(&model, &tokens, &documents(&tokens), nothing).unwrap();
        let (nmae, _, size) = found.overall(0);
        assert!(nmae.value <= 1e-6 && size > 1e-3, "{name}: {nmae:?} of {size}");
        assert!(found.of_heads(0).iter().all(|head| head.nmae.value <= 1e-6), "{name}");
    }
    for live in [fixture_model("gpt2"), fixture_model("llama")] {
        let (nmae, ..) = direct_effects(&live, &tokens, &documents(&tokens), nothing).unwrap().overall(0);
        assert!(nmae.value > 0.1, "{nmae:?}");
    }
}

#[test]
fn without_a_live_norm_nothing_goes_through_the_scale() {
    let tokens = tokens(12);
    for (name, model) in without_live_last_norm() {
        let layer = LastLayer::of(&model).unwrap();
        let spectrum = layer.spectrum();
        let activity = Activity::of(&model, &tokens, nothing).unwrap();
        let planted = activity.planted(&layer, &spectrum).unwrap();
        let own = layer.write(planted.neuron);
        let vector = planted.vector.iter().zip(&own.vector).map(|(a, b)| a - b).collect();
        let added = Write { neuron: planted.neuron, vector };
        let neurons = [vec![layer.write(5)], vec![layer.write(5), layer.write(9)]];
        for (sets, added) in [(&neurons[..], None), (&[vec![planted.clone()]][..], Some(&added))] {
            let found = ablate_neurons(&model, &tokens, &documents(&tokens), &activity, sets, added, nothing).unwrap();
            for measure in Measure::ALL {
                for change in found.changes(measure, 0) {
                    let [total, direct, through] = change.size.map(|part| part.value);
                    assert!(through <= 1e-6, "{name}: {through}");
                    assert!((total - direct).abs() <= 1e-6, "{name}: {total} {direct}");
                    assert!(added.is_some() || total > 1e-4, "{name}: an ablation that does something: {total}");
                }
            }
        }
    }
}

#[test]
fn frozen_norms_and_those_in_the_weights_give_the_same_experiments() {
    let models = without_live_last_norm();
    let (frozen, absent) = (&models[0].1, &models[3].1);
    let tokens = tokens(12);
    let documents = documents(&tokens);
    let effects = |model: &Model<Flex>| {
        let layer = LastLayer::of(model).unwrap();
        let activity = Activity::of(model, &tokens, nothing).unwrap();
        let sets = [vec![layer.write(5)]];
        let found = ablate_neurons(model, &tokens, &documents, &activity, &sets, None, nothing).unwrap();
        Measure::ALL.map(|measure| found.changes(measure, 0)[0].mean[0].value)
    };
    for (a, b) in effects(frozen).into_iter().zip(effects(absent)) {
        // Of logits in f32 from weights that were rounded on the way.
        assert!((a - b).abs() < 1e-3 * a.abs().max(1e-2), "{a} {b}");
    }
    let of_heads = |model: &Model<Flex>| direct_effects(model, &tokens, &documents, nothing).unwrap().of_heads(0);
    for (a, b) in of_heads(frozen).iter().zip(of_heads(absent)) {
        assert!((a.attributed - b.attributed).abs() < 1e-4 * a.size.max(1.0), "{a:?} {b:?}");
    }
}

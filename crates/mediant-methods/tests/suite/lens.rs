//! Direct logit attribution and the logit lens against TransformerLens; what steering must leave alone.

use mediant_artifact::{Contrast, Mediator};
use mediant_lm::{HookPoint, Hooks, Model, Positions, ProjectOut, Select};
use mediant_methods::{
    Change, Component, ComponentKind, Error, Lens, Metric, Pairs, Reading, Steering, at_hook, attribute_logits,
    components, difference_of_means, lens_logits, steer, unembedding_difference,
};
use mediant_tensor::{Flex, Tensor};

use super::prompts::{Recorded, Reference, fixture_model, random_pairs, recorded_of};

const ALL: [ComponentKind; 4] =
    [ComponentKind::Heads, ComponentKind::Mlps, ComponentKind::Embeddings, ComponentKind::Bias];

fn attributed(model: &Model<Flex>, pairs: &Pairs, components: &[Component]) -> Recorded {
    let mediators: Vec<Mediator> = components.iter().map(|component| component.mediator()).collect();
    recorded_of(pairs, mediators, Contrast::Share, |recorder| {
        attribute_logits(model, pairs, components, recorder, |_, _| Ok::<_, Error>(())).unwrap();
    })
}

#[test]
fn attribution_is_that_of_transformer_lens() {
    let reference = Reference::read();
    let pairs = reference.pairs();
    let found = components(reference.model.config(), &ALL, &[]);
    // TransformerLens has no row for what the bias of the last norm adds.
    let found: Vec<_> = found.into_iter().filter(|component| *component != Component::NormBias).collect();
    let result = attributed(&reference.model, &pairs, &found);
    let flat: Vec<f64> = result.effects.iter().flatten().map(|effect| effect.2).collect();
    reference.assert_close("dla.components", &flat);
    let clean: Vec<f64> = result.effects[0].iter().map(|effect| effect.0).collect();
    reference.assert_close("clean_metric", &clean);
}

#[test]
fn contributions_sum_to_the_logit_difference() {
    for name in ["gpt2", "llama", "gpt_neo", "gpt_neox", "qwen2", "gemma2"] {
        let model = fixture_model(name);
        let pairs = random_pairs(211, &[7, 12, 12, 5]);
        let result = attributed(&model, &pairs, &components(model.config(), &ALL, &[]));
        for example in 0..4 {
            let sum: f64 = result.effects.iter().map(|of| of[example].2).sum();
            let whole = result.effects[0][example].0;
            assert!((sum - whole).abs() < 1e-4, "{name}: {sum} of {whole}");
        }
        if model.config().logit_softcap.is_none() {
            let batch = pairs.batch::<Flex>(0..4, model.config(), &model.device()).unwrap();
            let logits = lens_logits(&model, &batch.clean, &[], &mut |_, _, _| Ok(())).unwrap();
            for (metric, effect) in
                Metric::LogitDiff.values(logits, &batch.answers).unwrap().iter().zip(&result.effects[0])
            {
                assert!((metric - effect.0).abs() < 1e-4, "{name}: {metric} and {effect:?}");
            }
        }
    }
}

#[test]
fn neurons_and_their_bias_are_their_mlp() {
    for name in ["gpt2", "llama", "gemma2"] {
        let model = fixture_model(name);
        let pairs = random_pairs(211, &[7, 12]);
        let mlps = attributed(&model, &pairs, &components(model.config(), &[ComponentKind::Mlps], &[]));
        let neurons = attributed(&model, &pairs, &components(model.config(), &[ComponentKind::Neurons], &[1]));
        for example in 0..2 {
            let sum: f64 = neurons.effects.iter().map(|of| of[example].2).sum();
            assert!((sum - mlps.effects[1][example].2).abs() < 1e-4, "{name}");
        }
    }
}

#[test]
fn the_lens_is_that_of_transformer_lens() {
    let reference = Reference::read();
    let model = &reference.model;
    let pairs = reference.pairs();
    let batch = pairs.batch::<Flex>(0..4, model.config(), &model.device()).unwrap().clean;
    let rows: Vec<usize> = (0..batch.rows()).collect();
    let mut found = Vec::new();
    lens_logits(model, &batch, &rows, &mut |_, _, logits| {
        found.extend(logits.into_data().into_vec::<f32>().unwrap().into_iter().map(f64::from));
        Ok(())
    })
    .unwrap();
    reference.assert_close("logit_lens", &found);
}

fn looked(model: &Model<Flex>, pairs: &Pairs, lens: &Lens) -> (Recorded, Vec<Reading>) {
    let mut readings = Vec::new();
    let mediators = lens.mediators(model.config().n_layers, pairs);
    let result = recorded_of(pairs, mediators, Contrast::Share, |recorder| {
        let each = |some: Vec<Reading>| {
            readings.extend(some);
            Ok::<_, Error>(())
        };
        lens.look(model, pairs, recorder, each, |_, _| Ok(())).unwrap();
    });
    (result, readings)
}

#[test]
fn after_the_last_layer_the_lens_shows_the_answer() {
    for name in ["gpt2", "gpt_neox", "gemma2"] {
        let model = fixture_model(name);
        let pairs = random_pairs(211, &[7, 12, 5]);
        let lens = Lens { positions: Positions::Last, metric: Metric::LogitDiff, top: 3 };
        let (result, readings) = looked(&model, &pairs, &lens);
        let last = result.effects.last().unwrap();
        assert!(last.iter().all(|effect| (effect.0 - effect.2).abs() < 1e-4), "{name}: {last:?}");
        assert_eq!(readings.len(), 3 * model.config().n_layers);
        let first = &readings[0];
        assert_eq!((first.layer, first.position, first.top.len()), (0, 6, 3));
        assert!(first.top[0].1 >= first.top[1].1 && first.top[1].1 >= first.top[2].1);
        assert!((1..=211).contains(&first.rank));

        // The same rows, found among those of all positions.
        let (_, all) = looked(&model, &pairs, &Lens { positions: Positions::ExcludeFirst(1), ..lens });
        assert_eq!(all.len(), (6 + 11 + 4) * model.config().n_layers);
        for reading in &readings {
            let same = |other: &&Reading| {
                (other.example, other.layer, other.position) == (reading.example, reading.layer, reading.position)
            };
            let other = all.iter().find(same).unwrap();
            assert!((other.metric - reading.metric).abs() < 1e-4 && other.top[0].0 == reading.top[0].0);
        }
    }
}

fn steered(model: &Model<Flex>, pairs: &Pairs, steering: &Steering) -> Recorded {
    recorded_of(pairs, steering.mediators(), Contrast::LostOfClean, |recorder| {
        steer(model, pairs, steering, Metric::LogitDiff, recorder, |_, _| Ok::<_, Error>(())).unwrap();
    })
}

#[test]
fn strength_zero_changes_nothing_and_any_other_something() {
    for (name, hook) in
        [("gpt2", "blocks.1.hook_resid_post"), ("llama", "blocks.0.attn.hook_z"), ("gpt2", "hook_embed")]
    {
        let model = fixture_model(name);
        let pairs = random_pairs(211, &[7, 12, 5]);
        let point: HookPoint = hook.parse().unwrap();
        let direction = difference_of_means(&model, &pairs, point, &Positions::All).unwrap();
        let change = Change::Add(vec![-1.0, 0.0, 2.0]);
        let steering = Steering { point, positions: Positions::All, direction, change };
        let result = steered(&model, &pairs, &steering);
        assert!(result.effects[1].iter().all(|effect| effect.0 == effect.2), "{name}: {:?}", result.effects[1]);
        for of in [&result.effects[0], &result.effects[2]] {
            assert!(of.iter().all(|effect| (effect.0 - effect.2).abs() > 1e-6), "{name}: {of:?}");
        }
        assert_eq!(steering.mediators()[0].name, format!("{hook}-1"));
    }
}

#[test]
fn adding_the_difference_of_means_moves_the_mean() {
    let model = fixture_model("gpt2");
    let pairs = random_pairs(211, &[7, 12, 5]);
    let point: HookPoint = "blocks.1.hook_resid_pre".parse().unwrap();
    let direction = difference_of_means(&model, &pairs, point, &Positions::Last).unwrap();
    let mut mean = vec![0.0_f64; direction.len()];
    let batch = pairs.batch::<Flex>(0..3, model.config(), &model.device()).unwrap();
    for (batch, sign) in [(&batch.clean, 1.0), (batch.corrupted().unwrap(), -1.0)] {
        let mut take = |_, x: Tensor<Flex, 3>| {
            let x = x.into_data().into_vec::<f32>().unwrap();
            for row in [6, 18, 23] {
                let row = &x[row * mean.len()..][..mean.len()];
                mean.iter_mut().zip(row).for_each(|(mean, x)| *mean += sign * f64::from(*x) / 3.0);
            }
            Ok(())
        };
        model.read(batch, Hooks::none().read([point], &mut take)).unwrap();
    }
    assert!(mean.iter().zip(&direction).all(|(a, b)| (*a as f32 - b).abs() < 1e-5));
}

#[test]
fn what_is_projected_out_is_gone() {
    let model = fixture_model("llama");
    let pairs = random_pairs(211, &[7, 12, 5]);
    let point: HookPoint = "blocks.2.hook_resid_post".parse().unwrap();
    let direction = unembedding_difference(&model, 3, 8).unwrap();
    let length = direction.iter().map(|x| x * x).sum::<f32>().sqrt();
    let unit: Vec<f32> = direction.iter().map(|x| x / length).collect();
    let batch = pairs.batch::<Flex>(0..3, model.config(), &model.device()).unwrap().clean;
    let edit = ProjectOut { direction: at_hook(&model, point, unit.clone()).unwrap(), select: Select::default() };
    let mut along = Vec::new();
    let mut take = |_, x: Tensor<Flex, 3>| {
        let x = x.into_data().into_vec::<f32>().unwrap();
        along.extend(x.chunks(unit.len()).map(|row| row.iter().zip(&unit).map(|(a, b)| a * b).sum::<f32>()));
        Ok(())
    };
    model.read(&batch, Hooks::none().edit(point, &edit).read([point], &mut take)).unwrap();
    assert_eq!(along.len(), 24);
    assert!(along.iter().all(|along| along.abs() < 1e-5), "{along:?}");

    let steering = Steering { point, positions: Positions::Last, direction, change: Change::ProjectOut };
    let result = steered(&model, &pairs, &steering);
    assert!(result.effects[0].iter().all(|effect| (effect.0 - effect.2).abs() > 1e-6));
    let nothing = Steering { direction: vec![0.0; unit.len()], ..steering };
    recorded_of(&pairs, nothing.mediators(), Contrast::LostOfClean, |recorder| {
        let error = steer(&model, &pairs, &nothing, Metric::LogitDiff, recorder, |_, _| Ok(())).unwrap_err();
        assert!(matches!(error, Error::Data(why) if why.contains("points nowhere")));
    });
}

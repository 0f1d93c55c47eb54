//! Trained subspaces and masks: what must hold, and what they have to find where it is known.

use mediant_dict::{Activation, InputNorm, Sae, Weights};
use mediant_lm::Positions;
use mediant_methods::Error;
use mediant_methods::align::{Das, Loss, Mask, Training, train_das, train_mask};
use mediant_methods::interchange::Featuriser;
use mediant_methods::subspace::Basis;
use mediant_tensor::kernels::sparse::Codes;
use mediant_tensor::random::{fill_normal, stream};

use super::interchange::{pairs, site};
use super::prompts::fixture_model;

const TRAINING: Training =
    Training { epochs: 12, batch: 7, lr: 0.02, loss: Loss::LogitDiff, shuffle_labels: false, seed: 3 };

const POINT: &str = "blocks.1.hook_resid_post";

fn quiet(_: usize, _: usize) -> Result<(), Error> {
    Ok(())
}

#[test]
fn a_subspace_learns_and_stays_orthonormal_and_the_seed_says_all() {
    let model = fixture_model("gpt2");
    let pairs = pairs(24);
    let wanted = [1, 3, 48].map(|rank| Das { positions: Positions::Last, rank });
    let point = site(POINT, Positions::Last).point;
    for loss in [Loss::LogitDiff, Loss::CrossEntropy] {
        let training = Training { loss, ..TRAINING };
        let mut steps = Vec::new();
        let progress = |done, total| {
            steps.push((done, total));
            Ok::<_, Error>(())
        };
        let (found, passes) = train_das(&model, &pairs, point, &wanted, &training, progress).unwrap();
        assert_eq!(steps.last(), Some(&(3 * 12 * 4, 3 * 12 * 4)));
        // Behind the middle of block 1 of three lie 5/9 of the blocks, forward and backward, three subspaces, twelve epochs.
        assert!((passes - (2.0 * 4.0 / 9.0 + 72.0 * 5.0 / 9.0)).abs() < 1e-9, "{passes}");
        for trained in &found {
            Basis::new(&trained.vectors).unwrap();
        }
        for trained in &found[..2] {
            let (first, last) = (trained.losses[0], trained.losses[11]);
            assert!(last < first - 0.01, "{loss:?} {:?}", trained.losses);
        }
        // All dimensions are exchanged whatever the basis.
        let whole = &found[2].losses;
        assert!(whole.iter().all(|loss| (loss - whole[0]).abs() < 1e-3), "{whole:?}");
        let (again, _) = train_das(&model, &pairs, point, &wanted[..1], &training, quiet).unwrap();
        assert_eq!(again[0], found[0], "a subspace does not depend on those beside it");
        let other = Training { seed: 4, ..training };
        assert_ne!(train_das(&model, &pairs, point, &wanted[..1], &other, quiet).unwrap().0[0], found[0]);
        let shuffled = Training { shuffle_labels: true, ..training };
        assert_ne!(train_das(&model, &pairs, point, &wanted[..1], &shuffled, quiet).unwrap().0[0], found[0]);
    }
    let wide = [Das { positions: Positions::Last, rank: 49 }];
    assert!(train_das(&model, &pairs, point, &wide, &TRAINING, quiet).is_err());
}

#[test]
fn a_step_of_a_mask_goes_down_the_loss() {
    let model = fixture_model("gpt2");
    let pairs = pairs(21);
    let sae = Sae::new(
        Weights::init(48, 96, Some(1.0), 0),
        Activation::TopK { k: 9, rescale_acts_by_decoder_norm: true },
        true,
    );
    let unit = |i: usize| -> Vec<f32> { (0..48).map(|j| if i == j { 1.0 } else { 0.0 }).collect() };
    let standard = Featuriser::Directions(Basis::new(&(0..48).map(unit).collect::<Vec<_>>()).unwrap());
    let kinds = [Featuriser::Dimensions, standard, Featuriser::Latents(Box::new(sae.unwrap()))];
    let at = site(POINT, Positions::Span("end".to_owned()));
    let sites: Vec<_> = kinds.iter().map(|kind| (at.clone(), kind)).collect();
    let mask = Mask { temperatures: (1.0, 0.1), l1: 0.0 };
    let training = Training { lr: 0.1, ..TRAINING };
    let (found, _) = train_mask(&model, &pairs, &sites, mask, &training, quiet).unwrap();
    for masked in &found {
        assert!(masked.losses[11] < masked.losses[0] - 0.01, "{:?}", masked.losses);
        assert!(masked.shares().iter().any(|share| *share > 0.6) && masked.shares().iter().any(|share| *share < 0.4));
    }
    // Directions of the standard basis are the dimensions.
    let off = found[0].logits.iter().zip(&found[1].logits).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off < 0.05, "{off}");
    assert!((found[0].losses[0] - found[1].losses[0]).abs() < 1e-4);
    let dear = Mask { temperatures: (1.0, 0.1), l1: 10.0 };
    let (none, _) = train_mask(&model, &pairs, &sites[..1], dear, &training, quiet).unwrap();
    assert!(none[0].shares().iter().all(|share| *share < 0.5), "nothing is worth its price");
}

#[test]
fn what_cannot_be_trained_is_said() {
    let model = fixture_model("gpt2");
    let narrow = Featuriser::Directions(Basis::new(&[[1.0f32, 0.0]]).unwrap());
    let at = site(POINT, Positions::Last);
    let mask = Mask { temperatures: (1.0, 0.01), l1: 0.0 };
    let error = train_mask(&model, &pairs(4), &[(at, &narrow)], mask, &TRAINING, quiet).unwrap_err();
    assert!(error.to_string().contains("has vectors of 2 numbers, the activations have 48"), "{error}");
    let stop = |done: usize, _: usize| if done < 3 { Ok(()) } else { Err(Error::Data("stopped".to_owned())) };
    let wanted = [Das { positions: Positions::Last, rank: 1 }];
    let point = site(POINT, Positions::Last).point;
    let error = train_das(&model, &pairs(30), point, &wanted, &TRAINING, stop).unwrap_err();
    assert_eq!(error.to_string(), "stopped");
    let nowhere = Positions::Span("nowhere".to_owned());
    let wanted = [Das { positions: nowhere.clone(), rank: 1 }];
    let subspace = train_das(&model, &pairs(4), point, &wanted, &TRAINING, quiet).unwrap_err();
    let at = (site(POINT, nowhere), &Featuriser::Dimensions);
    let masked = train_mask(&model, &pairs(4), &[at], mask, &TRAINING, quiet).unwrap_err();
    for error in [subspace, masked] {
        assert_eq!(error.to_string(), format!("no prompt has a position of {POINT}@nowhere"));
    }
}

#[test]
fn what_a_latent_adds_is_what_decoding_without_it_lacks() {
    let mut x = vec![0f32; 3 * 48];
    fill_normal(&mut stream(0, "x"), &mut x, 1.0, 2.0);
    let rules = [Activation::TopK { k: 9, rescale_acts_by_decoder_norm: true }, Activation::Relu];
    for (rule, norm) in rules.into_iter().zip([InputNorm::LayerNorm, InputNorm::ConstantNormRescale]) {
        let mut weights = Weights::init(48, 96, Some(1.0), 0);
        weights.w_dec.iter_mut().enumerate().for_each(|(i, w)| *w *= 1.0 + (i / 48) as f32 / 50.0);
        let sae = Sae::new(weights, rule, true).unwrap().with_input_norm(norm).unwrap();
        let codes = sae.encode(&x);
        let (latents, values) = codes.row(1);
        let (latent, value) = (latents[2], values[2]);
        let mut without = Codes::default();
        for row in 0..3 {
            let (latents, values) = codes.row(row);
            let entries = latents.iter().copied().zip(values.iter().copied());
            without.push_row(entries.filter(|(other, _)| row != 1 || *other != latent));
        }
        let (effects, factors) = sae.effects(&[latent as usize], &x);
        let (whole, part) = (sae.decode(&codes, &x), sae.decode(&without, &x));
        for i in 0..48 {
            let (lacks, adds) = (whole[48 + i] - part[48 + i], value * factors[1] * effects[i]);
            assert!((lacks - adds).abs() < 1e-4 * (1.0 + adds.abs()), "{norm:?} {lacks} {adds}");
        }
    }
}

//! The table of features against plain loops over dense codes.

use mediant_dict::{Activation, Sae, Weights};
use mediant_lm::{Capture, Positions};
use mediant_methods::Error;
use mediant_methods::features::{Contexts, Features, features, logit_weights};
use mediant_tensor::random::{fill_normal, stream};

use super::support::{D, VOCAB, model, tokens};

const HOOK: &str = "blocks.0.hook_resid_post";
const H: usize = 40;

fn sae() -> Sae {
    let mut weights = Weights::init(D, H, Some(1.0), 5);
    // Latents that are always, sometimes and never active.
    fill_normal(&mut stream(5, "bias"), &mut weights.b_enc, -1.0, 1.0);
    weights.b_enc[7] = -1e6;
    Sae::new(weights, Activation::TopK { k: 6, rescale_acts_by_decoder_norm: false }, true).unwrap()
}

fn found(contexts: Contexts) -> Features {
    features::<_, Error>(&model(), &sae(), HOOK.parse().unwrap(), &tokens(40), contexts, |_, _| Ok(())).unwrap()
}

#[test]
fn latents_are_as_dense_codes_say() {
    let contexts = Contexts { count: 4, before: 3, after: 2 };
    let found = found(contexts);
    let (model, tokens) = (model(), tokens(40));
    let capture = Capture { hooks: vec![HOOK.parse().unwrap()], positions: Positions::All };
    // By sequence: the position of each row, and the dense codes.
    let dense: Vec<(Vec<usize>, Vec<f32>)> = (0..tokens.len())
        .map(|i| {
            let x = capture.vectors(&model, &tokens, &[i], 24).unwrap().remove(0);
            (capture.kept(&tokens, i).collect(), sae().encode(&x).to_dense(H))
        })
        .collect();
    assert_eq!(found.positions, dense.iter().map(|(kept, _)| kept.len() as u64).sum::<u64>());
    for (latent, about) in found.latents.iter().enumerate() {
        let column = |codes: &[f32]| codes.iter().skip(latent).step_by(H).copied().collect::<Vec<f32>>();
        let all: Vec<f32> = dense.iter().flat_map(|(_, codes)| column(codes)).filter(|x| *x > 0.0).collect();
        assert_eq!(about.active, all.len() as u64);
        assert!((about.sum - all.iter().map(|x| f64::from(*x)).sum::<f64>()).abs() < 1e-6);
        assert_eq!(about.max, all.iter().copied().fold(0.0, f32::max));
        // The best of each sequence, sorted.
        let mut best: Vec<(f32, usize, usize)> = dense
            .iter()
            .enumerate()
            .filter_map(|(example, (kept, codes))| {
                let column = column(codes);
                let (row, value) = column.iter().enumerate().rev().max_by(|a, b| a.1.total_cmp(b.1))?;
                (*value > 0.0).then_some((*value, example, kept[row]))
            })
            .collect();
        best.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        best.truncate(4);
        let top: Vec<(f32, usize, usize)> =
            about.top.iter().map(|one| (one.value, one.example as usize, one.position as usize)).collect();
        assert_eq!(top, best, "latent {latent}");
        for context in &about.top {
            let (kept, codes) = &dense[context.example as usize];
            let (position, len) = (context.position as usize, tokens.sequence(context.example as usize).len());
            let window: Vec<f32> = (position.saturating_sub(3)..len.min(position + 3))
                .map(|at| kept.iter().position(|kept| *kept == at).map_or(0.0, |row| codes[row * H + latent]))
                .collect();
            assert_eq!((context.first as usize, &context.values), (position.saturating_sub(3), &window));
        }
    }
    assert_eq!((found.latents[7].active, found.latents[7].top.len()), (0, 0));
    assert!(found.latents.iter().any(|latent| latent.top.len() == 4));
}

#[test]
fn logit_weights_are_the_products() {
    let (model, sae) = (model(), sae());
    let unembedding = model.unembedding().into_data().into_vec::<f32>().unwrap();
    let found = logit_weights(&model, &sae, 3..9, 5).unwrap();
    assert_eq!(found.len(), 6);
    for (latent, weights) in (3..9).zip(&found) {
        let row = &sae.weights().w_dec[latent * D..(latent + 1) * D];
        let weight = |token: usize| -> f64 {
            row.iter().zip(&unembedding[token * D..]).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let mut order: Vec<usize> = (0..VOCAB).collect();
        order.sort_by(|a, b| weight(*b).total_cmp(&weight(*a)));
        let promoted: Vec<usize> = weights.promoted.iter().map(|(token, _)| *token as usize).collect();
        let suppressed: Vec<usize> = weights.suppressed.iter().map(|(token, _)| *token as usize).collect();
        assert_eq!(promoted, order[..5]);
        order.reverse();
        assert_eq!(suppressed, order[..5]);
        let all = weights.promoted.iter().chain(&weights.suppressed);
        assert!(all.into_iter().all(|(token, found)| (f64::from(*found) - weight(*token as usize)).abs() < 1e-5));
    }
}

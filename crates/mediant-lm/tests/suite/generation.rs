//! Continuing texts with cached keys and values.

use mediant_lm::{Batch, Error, Hooks, Model, Sampling, Until, generate};
use mediant_tensor::Flex;

use super::support::{gpt2_json, llama_json, random_ids, random_model};

fn models() -> [Model<Flex>; 2] {
    [random_model(&gpt2_json(2, 32, 4, 60, 40), 1), random_model(&llama_json(2, 32, 4, 2, 60, 40), 2)]
}

fn nothing(_: usize) -> Result<(), Error> {
    Ok(())
}

/// Greedy continuation without a cache: the whole text through the model for each token.
fn slowly(model: &Model<Flex>, prompt: &[i32], tokens: usize) -> Vec<i32> {
    let mut text = prompt.to_vec();
    for _ in 0..tokens.min(model.config().context - prompt.len()) {
        let batch = Batch::new(model.config(), &[&text], &model.device()).unwrap();
        let logits = model.logits(model.hidden(&batch, Hooks::none()).unwrap());
        let last = logits.narrow(0, text.len() - 1, 1).into_data().into_vec::<f32>().unwrap();
        let best = last.iter().enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best });
        text.push(best.unwrap().0 as i32);
    }
    text.split_off(prompt.len())
}

#[test]
fn greedy_with_a_cache_is_greedy_without() {
    let until = Until { tokens: 20, stop: None };
    for model in models() {
        // Of several lengths, more than go through the model together, one of which reaches the context of 40.
        let prompts: Vec<_> = (0..19).map(|i| random_ids(60, 1 + (i * 7) % 33, i as u64)).collect();
        let mut heard = Vec::new();
        let added = generate(&model, &prompts, &Sampling::default(), &until, 0, |done| {
            heard.push(done);
            nothing(done)
        })
        .unwrap();
        for (prompt, added) in prompts.iter().zip(&added) {
            assert_eq!(*added, slowly(&model, prompt, 20), "{} tokens before", prompt.len());
        }
        assert!(added.iter().any(|added| added.len() < 20));
        assert_eq!(heard, [16, 19]);
    }
}

#[test]
fn a_draw_depends_on_seed_and_prompt_alone() {
    let [model, _] = models();
    let until = Until { tokens: 10, stop: None };
    let sampling = Sampling { temperature: 0.8, top_k: Some(30), top_p: Some(0.95) };
    let prompts: Vec<_> = (0..5).map(|i| random_ids(60, 3 + i, i as u64)).collect();
    let run = |prompts: &[Vec<i32>], seed| generate(&model, prompts, &sampling, &until, seed, nothing).unwrap();
    let all = run(&prompts, 7);
    assert_eq!(run(&prompts[..2], 7), all[..2]);
    assert_ne!(run(&prompts, 8), all);
}

#[test]
fn a_stop_token_ends_a_text() {
    let [model, _] = models();
    let prompt = random_ids(60, 5, 3);
    let free = generate(
        &model,
        std::slice::from_ref(&prompt),
        &Sampling::default(),
        &Until { tokens: 12, stop: None },
        0,
        nothing,
    )
    .unwrap();
    let stop = free[0][4];
    let first = free[0].iter().position(|id| *id == stop).unwrap();
    let until = Until { tokens: 12, stop: Some(stop) };
    let stopped = generate(&model, &[prompt], &Sampling::default(), &until, 0, nothing).unwrap();
    assert_eq!(stopped[0], free[0][..=first]);
}

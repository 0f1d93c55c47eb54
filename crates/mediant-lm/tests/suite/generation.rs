//! Continuing texts with cached keys and values.

use mediant_lm::{
    Add, Batch, Edit, Error, HookPoint, Hooks, KnockOut, Model, Noise, Positions, Replace, Sampling, Select, Splice,
    Until, generate,
};
use mediant_tensor::{Flex, Tensor};

use super::support::{gpt2_json, llama_json, random_ids, random_model};

fn models() -> [Model<Flex>; 2] {
    [random_model(&gpt2_json(2, 32, 4, 60, 40), 1), random_model(&llama_json(2, 32, 4, 2, 60, 40), 2)]
}

fn nothing(_: usize) -> Result<(), Error> {
    Ok(())
}

/// Greedy continuation without a cache: the whole text through the model for each token.
fn slowly(model: &Model<Flex>, prompt: &[i32], tokens: usize) -> Vec<i32> {
    slowly_under(model, prompt, tokens, 0, Hooks::none)
}

/// [`slowly`] under edits, the prompt being the example of that number.
fn slowly_under<'e>(
    model: &Model<Flex>,
    prompt: &[i32],
    tokens: usize,
    example: u64,
    hooks: impl Fn() -> Hooks<'e, Flex>,
) -> Vec<i32> {
    let mut text = prompt.to_vec();
    for _ in 0..tokens.min(model.config().context - prompt.len()) {
        let batch = Batch::new(model.config(), &[&text], &model.device()).unwrap().with_examples(vec![example]);
        let logits = model.logits(model.hidden(&batch, hooks()).unwrap());
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
        let added = generate(&model, &prompts, &Sampling::default(), &until, 0, Hooks::none, |done| {
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
    let run =
        |prompts: &[Vec<i32>], seed| generate(&model, prompts, &sampling, &until, seed, Hooks::none, nothing).unwrap();
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
        Hooks::none,
        nothing,
    )
    .unwrap();
    let stop = free[0][4];
    let first = free[0].iter().position(|id| *id == stop).unwrap();
    let until = Until { tokens: 12, stop: Some(stop) };
    let stopped = generate(&model, &[prompt], &Sampling::default(), &until, 0, Hooks::none, nothing).unwrap();
    assert_eq!(stopped[0], free[0][..=first]);
}

/// Edits at several places, of every kind that makes sense as a text grows.
fn edits() -> Vec<(&'static str, Box<dyn Edit<Flex>>)> {
    let vector = Tensor::<Flex, 3>::from_floats([[[0.7; 32]]], &Default::default());
    let later = Select::at(Positions::ExcludeFirst(2));
    let halve = |x: Tensor<Flex, 2>| Ok(x * 0.5);
    vec![
        ("blocks.0.hook_resid_post", Box::new(Add { vector, select: later.clone() })),
        ("blocks.1.attn.hook_z", Box::new(Replace { with: mediant_lm::Values::Zero, select: Select::head(2) })),
        ("hook_embed", Box::new(Noise { std: 0.3, seed: 5, sample: 0, select: later })),
        (
            "blocks.1.attn.hook_attn_scores",
            Box::new(KnockOut { queries: Positions::ExcludeFirst(1), keys: Positions::At(vec![0]), heads: None }),
        ),
        ("blocks.0.attn.hook_k", Box::new(Replace::zero(Positions::At(vec![1, 3, 9])))),
        ("blocks.1.hook_mlp_out", Box::new(Splice { positions: Positions::Range(3, 20), function: halve })),
        (
            "ln_final.hook_normalized",
            Box::new(Replace {
                with: mediant_lm::Values::Zero,
                select: Select { numbers: Some(vec![0, 5]), ..Select::default() },
            }),
        ),
    ]
}

#[test]
fn a_cache_changes_nothing_under_interventions() {
    let until = Until { tokens: 12, stop: None };
    let prompts: Vec<_> = (0..18).map(|i| random_ids(60, 1 + (i * 7) % 13, i as u64)).collect();
    for model in models() {
        let plain = generate(&model, &prompts, &Sampling::default(), &until, 0, Hooks::none, nothing).unwrap();
        let edits = edits();
        let hooks = |only: Option<usize>| {
            let chosen = edits.iter().enumerate().filter(|(i, _)| only.is_none_or(|only| only == *i));
            chosen.fold(Hooks::none(), |hooks, (_, (at, edit))| {
                hooks.edit(at.parse::<HookPoint>().unwrap(), edit.as_ref())
            })
        };
        for only in (0..edits.len()).map(Some).chain([None]) {
            let hooks = || hooks(only);
            let added = generate(&model, &prompts, &Sampling::default(), &until, 0, hooks, nothing).unwrap();
            for (i, (prompt, added)) in prompts.iter().zip(&added).enumerate() {
                assert_eq!(*added, slowly_under(&model, prompt, 12, i as u64, hooks), "{only:?}, prompt {i}");
            }
            assert!(only.is_some() || added != plain, "all edits together change something");
        }
        let sampling = Sampling { temperature: 1.0, ..Sampling::default() };
        let plain = generate(&model, &prompts, &sampling, &until, 3, Hooks::none, nothing).unwrap();
        let steered = generate(&model, &prompts, &sampling, &until, 3, || hooks(None), nothing).unwrap();
        assert_ne!(steered, plain);
    }
}

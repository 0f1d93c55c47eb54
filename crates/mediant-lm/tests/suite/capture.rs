//! Activations streamed into an artifact: which rows, which numbers, resuming.

use std::path::Path;

use mediant_artifact::{
    ActivationsMeta, ActivationsReader, ActivationsWriter, Artifact, ArtifactWriter, DType, Digest, HookFact, Kind,
    Processing, Tokens, TokensMeta,
};
use mediant_lm::{Batch, Capture, Error, HookPoint, Hooks, Model, Positions, Site};
use mediant_tensor::{Flex, Tensor};
use tempfile::TempDir;

use super::support::{gpt2_json, llama_json, new_writer, random_ids, random_model};

fn tokens(lengths: &[usize], context: usize) -> Tokens {
    let mut tokens = Tokens {
        meta: TokensMeta {
            tokenizer: None,
            vocab_size: 60,
            context,
            packed: false,
            prepend_bos: false,
            bos: None,
            separator: None,
            split: "test".to_owned(),
            documents: 0,
            tokens: 0,
            sequences: 0,
        },
        offsets: vec![0],
        ids: Vec::new(),
        mask: Vec::new(),
    };
    for (i, &len) in lengths.iter().enumerate() {
        tokens.ids.extend(random_ids(60, len, i as u64));
        tokens.offsets.push(tokens.ids.len());
    }
    tokens.mask = (0..tokens.ids.len()).map(|i| i % 7 != 3).collect();
    tokens.meta.tokens = tokens.ids.len() as u64;
    tokens
}

fn facts(capture: &Capture, model: &Model<Flex>, context: usize) -> Vec<HookFact> {
    let fact = |hook: &HookPoint| HookFact { name: hook.to_string(), shape: hook.shape(model.config(), context) };
    capture.hooks.iter().map(fact).collect()
}

fn finish(writer: ActivationsWriter, capture: &Capture, hooks: Vec<HookFact>, dtype: DType, tokens: &Tokens) {
    let meta = ActivationsMeta {
        model: Digest::of(b"m"),
        tokens: Digest::of(b"t"),
        hooks,
        dtype,
        positions: capture.positions.to_string(),
        prepend_bos: false,
        context: tokens.meta.context,
        rows: writer.rows(),
        processing: Processing::default(),
    };
    writer.finish(&meta).unwrap();
}

fn run(capture: &Capture, model: &Model<Flex>, tokens: &Tokens, dtype: DType, dir: &Path) -> ActivationsReader {
    let hooks = facts(capture, model, tokens.meta.context);
    let writer = ActivationsWriter::new(new_writer(dir, Kind::Activations).unwrap(), &hooks, dtype).unwrap();
    let mut heard = 0;
    let progress = |done, total| {
        assert!(heard < done && total == tokens.meta.tokens);
        heard = done;
        Ok::<_, Error>(())
    };
    let writer = capture.run(model, tokens, Hooks::none, writer, progress, |_| Ok(())).unwrap();
    assert_eq!(heard, tokens.meta.tokens);
    finish(writer, capture, hooks, dtype, tokens);
    ActivationsReader::open(&Artifact::open(dir).unwrap()).unwrap()
}

#[test]
fn rows_are_the_kept_positions_with_the_activations_of_each_sequence_alone() {
    let lengths = [5, 12, 1, 9, 12, 12, 3];
    let tokens = tokens(&lengths, 12);
    let models = [random_model(&gpt2_json(2, 32, 4, 60, 40), 1), random_model(&llama_json(2, 32, 4, 2, 60, 40), 2)];
    let hooks = [
        HookPoint::Block(1, Site::ResidPre),
        HookPoint::Embed,
        HookPoint::Block(0, Site::AttnScores),
        HookPoint::Block(1, Site::Pattern),
        HookPoint::Block(0, Site::K),
        HookPoint::Block(0, Site::Ln2Scale),
    ];
    let positions = [Positions::All, Positions::Last, Positions::ExcludeFirst(2), Positions::At(vec![0, -2])];
    for (model, positions) in models.iter().flat_map(|model| positions.iter().map(move |p| (model, p))) {
        let capture = Capture { hooks: hooks.to_vec(), positions: positions.clone() };
        let dir = TempDir::new().unwrap();
        let reader = run(&capture, model, &tokens, DType::F32, &dir.path().join("a"));
        let index = reader.index().unwrap();
        let mut expected = Vec::new();
        for (i, &len) in lengths.iter().enumerate() {
            let kept = |p: &usize| tokens.mask_of(i)[*p] && positions.includes(*p, len);
            expected.extend((0..len).filter(kept).map(|p| (i as u32, p as u32, tokens.sequence(i)[p])));
        }
        assert_eq!(capture.rows(&tokens), expected.len() as u64);
        let found: Vec<_> =
            (0..index.example.len()).map(|r| (index.example[r], index.position[r], index.token[r])).collect();
        assert_eq!(found, expected, "{positions}");
        for &hook in &hooks {
            let stored = reader.hook(&hook.to_string()).unwrap();
            let mut row = vec![0.0; stored.width()];
            for (r, (example, position, _)) in expected.iter().enumerate() {
                stored.range_f32(r as u64..r as u64 + 1, &mut row).unwrap();
                assert_eq!(
                    row,
                    alone(model, tokens.sequence(*example as usize), hook, *position as usize, 12),
                    "{hook}"
                );
            }
        }
    }
}

/// A hook's activation at one position of a sequence by itself, attention maps filled up to `context` keys.
fn alone(model: &Model<Flex>, sequence: &[i32], hook: HookPoint, position: usize, context: usize) -> Vec<f32> {
    let batch = Batch::new(model.config(), &[sequence], &model.device()).unwrap();
    let mut found = Vec::new();
    let mut take = |point: HookPoint, x: Tensor<Flex, 3>| {
        let [_, units, width] = x.dims();
        let row: Vec<f32> = x.narrow(0, position, 1).into_data().into_vec().unwrap();
        let missing = if point.per_key() { context - width } else { 0 };
        let fill = if point.site() == Some(Site::AttnScores) { f32::NEG_INFINITY } else { 0.0 };
        found = (0..units).flat_map(|u| [&row[u * width..(u + 1) * width], &vec![fill; missing]].concat()).collect();
        Ok(())
    };
    model.read(&batch, Hooks::none().read([hook], &mut take)).unwrap();
    found
}

#[test]
fn half_formats_are_the_rounded_numbers() {
    let tokens = tokens(&[9, 4], 9);
    let model = random_model(&gpt2_json(1, 32, 4, 60, 40), 1);
    let capture = Capture { hooks: vec![HookPoint::Block(0, Site::ResidPost)], positions: Positions::All };
    let read = |dtype| {
        let dir = TempDir::new().unwrap();
        let reader = run(&capture, &model, &tokens, dtype, &dir.path().join("a"));
        let stored = reader.hook("blocks.0.hook_resid_post").unwrap();
        let mut values = vec![0.0; stored.width() * stored.rows() as usize];
        stored.range_f32(0..stored.rows(), &mut values).unwrap();
        values
    };
    let full = read(DType::F32);
    assert_eq!(read(DType::F16), full.iter().map(|x| half::f16::from_f32(*x).to_f32()).collect::<Vec<_>>());
    assert_eq!(read(DType::BF16), full.iter().map(|x| half::bf16::from_f32(*x).to_f32()).collect::<Vec<_>>());
}

#[test]
fn an_interrupted_capture_goes_on_to_the_same_artifact() {
    // 2^16 rows make a part; sequences do not end at its border.
    let lengths: Vec<usize> = (0..1100).map(|i| 120 + i % 17).collect();
    let tokens = tokens(&lengths, 136);
    let model = random_model(&gpt2_json(1, 8, 2, 60, 140), 1);
    let capture =
        Capture { hooks: vec![HookPoint::Block(0, Site::ResidMid), HookPoint::Embed], positions: Positions::All };
    let hooks = facts(&capture, &model, 136);
    let work = TempDir::new().unwrap();
    let whole = run(&capture, &model, &tokens, DType::F16, &work.path().join("whole"));

    let writer = new_writer(&work.path().join("broken"), Kind::Activations).unwrap();
    let writer = ActivationsWriter::new(writer, &hooks, DType::F16).unwrap();
    let checkpoint = work.path().join("checkpoint");
    let broken = capture.run(
        &model,
        &tokens,
        Hooks::none,
        writer,
        |_, _| Ok(()),
        |writer: &ActivationsWriter| {
            if writer.rows() <= 70_000 {
                return Ok(());
            }
            std::fs::create_dir(&checkpoint).unwrap();
            writer.checkpoint(&checkpoint)?;
            Err(Error::Hook("the power fails".to_owned()))
        },
    );
    assert_eq!(broken.err().unwrap().to_string(), "the power fails");

    std::fs::create_dir(work.path().join("resumed")).unwrap();
    let resumed = ArtifactWriter::resume(&work.path().join("resumed"), Kind::Activations, &checkpoint).unwrap();
    let writer = ActivationsWriter::new(resumed, &hooks, DType::F16).unwrap();
    assert_eq!(writer.rows(), 65_536);
    let writer = capture.run(&model, &tokens, Hooks::none, writer, |_, _| Ok::<_, Error>(()), |_| Ok(())).unwrap();
    finish(writer, &capture, hooks, DType::F16, &tokens);
    let resumed = Artifact::open(&work.path().join("resumed")).unwrap();
    assert_eq!(resumed.manifest(), Artifact::open(&work.path().join("whole")).unwrap().manifest());
    assert_eq!(whole.meta.rows, capture.rows(&tokens));
}

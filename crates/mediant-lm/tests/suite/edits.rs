//! Changing activations: identity edits, ablations, splices, and their limits.

use mediant_lm::{
    Batch, Edit, Frozen, HookPoint, Hooks, Model, Place, Positions, Replace, Result, Rows, Site, Splice, State,
};
use mediant_tensor::{Flex, Tensor};

use super::support::{difference, fixture_model, frozen_apart, gpt2_json, llama_json, random_ids, random_model};

fn models() -> [Model<Flex>; 2] {
    [random_model(&gpt2_json(2, 32, 4, 60, 40), 1), random_model(&llama_json(2, 32, 4, 2, 60, 40), 2)]
}

/// One of each architecture.
fn all_models() -> impl Iterator<Item = Model<Flex>> {
    models().into_iter().chain(["gpt_neo", "gpt_neox", "qwen2", "gemma2"].map(fixture_model))
}

fn read(model: &Model<Flex>, batch: &Batch<Flex>, point: HookPoint, hooks: Hooks<'_, Flex>) -> Vec<f32> {
    let mut values = Vec::new();
    let mut take = |_, x: Tensor<Flex, 3>| {
        values = x.into_data().into_vec().unwrap();
        Ok(())
    };
    model.read(batch, hooks.read([point], &mut take)).unwrap();
    values
}

fn logits(
    model: &Model<Flex>,
    batch: &Batch<Flex>,
    state: State<Flex>,
    rows: Rows,
    hooks: Hooks<'_, Flex>,
) -> Vec<f32> {
    model.logits_from(batch, state, rows, hooks).unwrap().into_data().into_vec().unwrap()
}

/// Gives back what it gets.
struct Same;

impl Edit<Flex> for Same {
    fn apply(&self, _: HookPoint, x: Tensor<Flex, 3>, _: &Batch<Flex>) -> Result<Tensor<Flex, 3>> {
        Ok(x)
    }
}

#[test]
fn an_edit_that_changes_nothing_changes_nothing_at_any_point() {
    for model in all_models().chain(models().iter().map(frozen_apart)) {
        let (a, b) = (random_ids(60, 23, 1), random_ids(60, 9, 2));
        let batch = Batch::new(model.config(), &[&a, &b, &b], &model.device()).unwrap();
        let plain = logits(&model, &batch, State::Start, Rows::All, Hooks::none());
        for point in model.config().hooks() {
            let edited = logits(&model, &batch, State::Start, Rows::All, Hooks::none().edit(point, &Same));
            // Inside norms and attention an edit takes the computation apart, which rounds otherwise.
            let off = difference(&plain, &edited);
            assert!(off < 1e-5, "{point}: {off:e}");
        }
    }
}

#[test]
fn a_pass_goes_on_from_any_place() {
    for model in all_models() {
        let (a, b) = (random_ids(60, 23, 1), random_ids(60, 9, 2));
        let batch = Batch::new(model.config(), &[&a, &b, &b], &model.device()).unwrap();
        let layers = model.config().n_layers;
        let plain = logits(&model, &batch, State::Start, Rows::All, Hooks::none());
        let vocabulary = model.config().vocab_size;
        let last: Vec<f32> =
            [22, 31, 40].iter().flat_map(|row| &plain[row * vocabulary..][..vocabulary]).copied().collect();
        let places = (0..layers).flat_map(|layer| [Place::Block(layer), Place::Heads(layer), Place::Mid(layer)]);
        for place in places.chain([Place::Block(layers)]) {
            let state = model.advance(&batch, State::Start, place, Hooks::none()).unwrap();
            assert!(logits(&model, &batch, state.clone(), Rows::All, Hooks::none()) == plain, "{place:?}");
            // Fewer rows take another path through attention and the matrix library.
            let off = difference(&logits(&model, &batch, state, Rows::Last, Hooks::none()), &last);
            assert!(off < 1e-4, "{place:?}: {off:e}");
        }
        for point in model.config().hooks() {
            let mut take = |_, _| Ok(());
            let hooks = Hooks::none().read([point], &mut take);
            let off = difference(&logits(&model, &batch, State::Start, Rows::Last, hooks), &last);
            assert!(off < 1e-4, "{point}: {off:e}");
        }
    }
}

#[test]
fn zero_ablation_silences_a_part_at_the_chosen_positions() {
    for model in models() {
        let (a, b) = (random_ids(60, 6, 1), random_ids(60, 3, 2));
        let batch = Batch::new(model.config(), &[&a, &b], &model.device()).unwrap();
        let (out, mid, pre) = (
            HookPoint::Block(1, Site::AttnOut),
            HookPoint::Block(1, Site::ResidMid),
            HookPoint::Block(1, Site::ResidPre),
        );
        let zero = Replace::zero(Positions::At(vec![0, -1]));
        let ablated = read(&model, &batch, mid, Hooks::none().edit(out, &zero));
        let before = read(&model, &batch, pre, Hooks::none());
        let plain = read(&model, &batch, mid, Hooks::none());
        // Rows 0 and 5 of the first sequence, 6 and 8 of the second, have nothing added to the residual stream.
        for (row, ((ablated, before), plain)) in
            ablated.chunks(32).zip(before.chunks(32)).zip(plain.chunks(32)).enumerate()
        {
            let silenced = [0, 5, 6, 8].contains(&row);
            assert_eq!(ablated, if silenced { before } else { plain }, "row {row}");
        }
    }
}

#[test]
fn a_splice_replaces_heads_as_one_vector_a_row() {
    for model in models() {
        let ids = random_ids(60, 7, 1);
        let batch = Batch::new(model.config(), &[&ids], &model.device()).unwrap();
        let z = HookPoint::Block(0, Site::Z);
        let splice = Splice {
            positions: Positions::ExcludeFirst(1),
            function: |x: Tensor<Flex, 2>| {
                assert_eq!(x.dims(), [7, 32]);
                Ok(x * 0.5 + 1.0)
            },
        };
        let plain = read(&model, &batch, z, Hooks::none());
        let spliced = read(&model, &batch, z, Hooks::none().edit(z, &splice));
        let expected: Vec<f32> =
            plain.iter().enumerate().map(|(i, x)| if i < 32 { *x } else { x * 0.5 + 1.0 }).collect();
        assert_eq!(spliced, expected);
    }
}

#[test]
fn a_pattern_of_zeros_leaves_no_attention() {
    for model in models() {
        let (a, b) = (random_ids(60, 11, 1), random_ids(60, 4, 2));
        let batch = Batch::new(model.config(), &[&a, &b], &model.device()).unwrap();
        let zero = Replace::zero(Positions::All);
        let z = read(
            &model,
            &batch,
            HookPoint::Block(0, Site::Z),
            Hooks::none().edit(HookPoint::Block(0, Site::Pattern), &zero),
        );
        assert!(z.iter().all(|x| *x == 0.0));
        // With all scores equal, each query takes the plain mean over all keys of its sequence, the later ones too: an
        // edit may look ahead, as in TransformerLens.
        let flat = read(
            &model,
            &batch,
            HookPoint::Block(0, Site::Pattern),
            Hooks::none().edit(HookPoint::Block(0, Site::AttnScores), &zero),
        );
        let keys = 11;
        for (row, head) in flat.chunks(keys).enumerate().map(|(i, head)| (i / 4, head)) {
            let own = if row < 11 { 11 } else { 4 };
            assert!(head[..own].iter().all(|p| (p - 1.0 / own as f32).abs() < 1e-6), "row {row}: {head:?}");
            assert!(head[own..].iter().all(|p| *p == 0.0), "row {row}: {head:?}");
        }
    }
}

#[test]
fn what_the_model_does_not_have_is_an_error() {
    let [gpt2, llama] = models();
    let ids = random_ids(60, 4, 0);
    let refuse = |model: &Model<Flex>, point: HookPoint| {
        let batch = Batch::new(model.config(), &[&ids], &model.device()).unwrap();
        let error = model.losses(&batch, Hooks::none().edit(point, &Same)).unwrap_err();
        assert!(error.to_string().contains(&point.to_string()), "{error}");
        let mut take = |_, _| Ok(());
        model.read(&batch, Hooks::none().read([point], &mut take)).unwrap_err();
    };
    refuse(&gpt2, HookPoint::Block(2, Site::ResidPre));
    refuse(&gpt2, HookPoint::Block(0, Site::RotQ));
    refuse(&gpt2, HookPoint::Block(0, Site::MlpPreLinear));
    refuse(&llama, HookPoint::PosEmbed);

    let batch = |sequence: &[i32]| Batch::<Flex>::new(gpt2.config(), &[sequence], &gpt2.device()).map(|_| ());
    assert!(batch(&[0; 41]).unwrap_err().to_string().contains("context is 40"));
    assert!(batch(&[0, 60]).unwrap_err().to_string().contains("token 60"));
    assert!(batch(&[0, -1]).unwrap_err().to_string().contains("token -1"));
    assert!(batch(&[]).unwrap_err().to_string().contains("empty"));
}

#[test]
fn frozen_scales_are_those_of_the_pass_without_edits() {
    for model in all_models() {
        let (a, b) = (random_ids(60, 6, 1), random_ids(60, 3, 2));
        let batch = Batch::new(model.config(), &[&a, &b], &model.device()).unwrap();
        let points = vec![HookPoint::FinalScale, HookPoint::Block(1, Site::Ln1Scale)];
        let frozen = Frozen::new(&model, points.clone(), Positions::All);
        let zero = Replace::zero(Positions::All);
        let hooks = || {
            let hooks = Hooks::none().edit(HookPoint::Block(0, Site::MlpOut), &zero);
            points.iter().fold(hooks, |hooks, &point| hooks.edit(point, &frozen))
        };
        for point in [HookPoint::Block(1, Site::Ln1Scale), HookPoint::FinalScale] {
            let plain = read(&model, &batch, point, Hooks::none());
            // Twice: what one pass leaves behind is not the next one's. The first pass never comes to the last norm.
            for _ in 0..2 {
                assert_eq!(read(&model, &batch, point, hooks()), plain, "{point}");
            }
            let moving = Hooks::none().edit(HookPoint::Block(0, Site::MlpOut), &zero);
            assert_ne!(read(&model, &batch, point, moving), plain, "{point}");
        }
    }
}

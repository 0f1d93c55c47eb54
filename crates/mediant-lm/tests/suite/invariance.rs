//! A sequence's numbers are the same bits whatever else is in the batch, whatever is read, however many threads there are.

use mediant_lm::{Batch, HookPoint, Hooks, Model, Site};
use mediant_tensor::{Flex, Tensor};

use super::support::{gemma2_json, gpt2_json, llama_json, neox_json, random_ids, random_model};

fn models() -> [Model<Flex>; 4] {
    [
        random_model(&gpt2_json(2, 96, 4, 300, 700), 1),
        random_model(&llama_json(2, 96, 6, 2, 300, 700), 2),
        random_model(&neox_json(2, 96, 4, 300, 700), 3),
        random_model(&gemma2_json(2, 96, 6, 2, 300, 700), 4),
    ]
}

/// Bits of the last block's result and of the losses, for each sequence of a batch.
fn bits(model: &Model<Flex>, sequences: &[&[i32]]) -> Vec<(Vec<u32>, Vec<u32>)> {
    let batch = Batch::new(model.config(), sequences, &model.device()).unwrap();
    let width = model.config().d_model;
    let mut resid = Vec::new();
    let mut take = |_, x: Tensor<Flex, 3>| {
        resid = x.into_data().into_vec::<f32>().unwrap();
        Ok(())
    };
    let point = HookPoint::Block(model.config().n_layers - 1, Site::ResidPost);
    model.read(&batch, Hooks::none().read([point], &mut take)).unwrap();
    let losses = model.losses(&batch, Hooks::none()).unwrap();
    let mut losses = losses.iter();
    let bits = |values: &mut dyn Iterator<Item = &f32>| values.map(|x| x.to_bits()).collect::<Vec<_>>();
    batch
        .sequences()
        .iter()
        .map(|s| {
            let rows = &resid[s.start * width..(s.start + s.len) * width];
            (bits(&mut rows.iter()), bits(&mut losses.by_ref().take(s.len - 1)))
        })
        .collect()
}

#[test]
fn a_sequence_gives_the_same_bits_in_any_batch() {
    // Lengths around every boundary that a matrix library may have, from a single token up.
    let lengths = [1, 2, 3, 5, 8, 15, 16, 17, 31, 33, 64, 65, 100, 129, 300, 600];
    for model in models() {
        let sequences: Vec<_> = lengths.iter().map(|&len| random_ids(300, len, len as u64)).collect();
        let together: Vec<&[i32]> = sequences.iter().map(Vec::as_slice).collect();
        let in_one_batch = bits(&model, &together);
        for (sequence, expected) in together.iter().zip(&in_one_batch) {
            let alone = bits(&model, &[sequence]);
            assert!(alone[0] == *expected, "{} tokens alone", sequence.len());
            let beside_its_like = bits(&model, &[sequence, sequence, &sequences[3]]);
            assert!(beside_its_like[1] == *expected, "{} tokens beside another of that length", sequence.len());
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let sequences: Vec<_> = [200, 200, 77, 300, 1].iter().map(|&len| random_ids(300, len, len as u64)).collect();
    let sequences: Vec<&[i32]> = sequences.iter().map(Vec::as_slice).collect();
    for model in models() {
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| bits(&model, &sequences))
        };
        let one = with(1);
        assert!(one == with(2) && one == with(5));
    }
}

#[test]
fn reading_everything_changes_nothing() {
    let ids = random_ids(300, 90, 0);
    for model in models() {
        let batch = Batch::new(model.config(), &[&ids[..50], &ids[50..]], &model.device()).unwrap();
        let plain: Vec<f32> = model.hidden(&batch, Hooks::none()).unwrap().into_data().into_vec().unwrap();
        let to_hidden: Vec<_> =
            model.config().hooks().into_iter().filter(|point| *point != HookPoint::Logits).collect();
        let mut points = Vec::new();
        let mut take = |point, _| {
            points.push(point);
            Ok(())
        };
        let hidden = model.hidden(&batch, Hooks::none().read(to_hidden.clone(), &mut take)).unwrap();
        assert_eq!(points, to_hidden, "points come in the order of the pass");
        let read: Vec<f32> = hidden.into_data().into_vec().unwrap();
        assert!(plain.iter().map(|x| x.to_bits()).eq(read.iter().map(|x| x.to_bits())));
    }
}

#![allow(clippy::unwrap_used)]

use mediant_artifact::Prompt;
use mediant_lm::text::Tokenizer;
use mediant_lm::{Batch, Hooks, Rows, State};
use mediant_tensor::Flex;

use super::*;

const ALL: [CircuitKind; 4] = [
    CircuitKind::Induction,
    CircuitKind::IndirectObject,
    CircuitKind::Compiled { program: Program::Hist },
    CircuitKind::Compiled { program: Program::LookupSum },
];

fn versions(prompts: &[Prompt]) -> Vec<&mediant_artifact::Version> {
    prompts.iter().flat_map(Prompt::versions).collect()
}

#[test]
fn every_model_answers_its_prompts_with_a_margin() {
    for (kind, coldness) in ALL.into_iter().flat_map(|kind| [(kind, 30.0), (kind, 100.0)]) {
        let circuit = KnownCircuit::new(kind, coldness).unwrap();
        let model = circuit.model::<Flex>(&Default::default()).unwrap();
        let prompts = circuit.prompts(100, 3).unwrap();
        let versions = versions(&prompts);
        let ids: Vec<&[i32]> = versions.iter().map(|version| version.ids.as_slice()).collect();
        let batch = Batch::new(circuit.config(), &ids, &Default::default()).unwrap();
        let logits = model.logits_from(&batch, State::Start, Rows::Last, Hooks::none()).unwrap();
        let logits: Vec<f32> = logits.into_data().into_vec().unwrap();
        for (version, logits) in versions.iter().zip(logits.chunks_exact(circuit.config().vocab_size)) {
            let right = version.right[0] as usize;
            let others = logits.iter().enumerate().filter(|(id, _)| *id != right).map(|(_, logit)| *logit);
            let ahead = logits[right] - others.fold(f32::NEG_INFINITY, f32::max);
            assert!((ahead - weights::MARGIN as f32).abs() < 0.05, "{kind:?} {coldness} {}: {ahead}", version.text);
            let words: Vec<usize> = version.ids[1..].iter().map(|id| *id as usize - 1).collect();
            assert_eq!(circuit.wiring.answer(&circuit.wiring.run(&words)), Some(right - 1));
        }
    }
}

#[test]
fn prompts_are_what_the_tokenizer_makes_of_their_text() {
    for kind in ALL {
        let circuit = KnownCircuit::new(kind, 100.0).unwrap();
        let [(_, json), (_, config)] = circuit.tokenizer_files();
        let tokenizer = Tokenizer::new(&json, Some(&config)).unwrap();
        assert_eq!((tokenizer.bos(), tokenizer.vocab_size()), (Some(0), circuit.config().vocab_size));
        let prompts = circuit.prompts(20, 0).unwrap();
        for version in versions(&prompts) {
            let ids: Vec<i32> = tokenizer.encode(&version.text).unwrap().ids.iter().map(|id| *id as i32).collect();
            assert_eq!((version.ids[0], &version.ids[1..]), (0, &ids[..]));
            assert!(version.ids.len() == circuit.longest() && version.right != version.wrong);
            assert_eq!(version.spans.keys().cloned().collect::<Vec<_>>(), circuit.spans());
        }
        assert_eq!(circuit.prompts(20, 0).unwrap(), prompts);
        assert_ne!(circuit.prompts(20, 1).unwrap(), prompts);
    }
}

#[test]
fn the_circuits_are_those_that_were_wired() {
    let edges = |kind| {
        let rows = KnownCircuit::new(kind, 100.0).unwrap().truth(7).unwrap();
        let edges: Vec<String> =
            rows.iter().filter(|row| row.value == 1.0).map(|row| row.mediator.name.clone()).collect();
        (edges.join(" "), rows.len())
    };
    let induction = "input->a0.h2<v> input->a1.h1<q> a0.h2->a1.h1<k> input->a1.h1<v> a1.h1->logits";
    assert_eq!(edges(CircuitKind::Induction), (induction.to_owned(), 110));
    let indirect_object = "input->a0.h1<q> input->a0.h1<k> input->a0.h1<v> a0.h1->a1.h2<v> a1.h2->a2.h0<q> input->a2.h0<k> \
                           input->a2.h0<v> a2.h0->logits";
    assert_eq!(edges(CircuitKind::IndirectObject).0, indirect_object);
    let hist = "input->a0.h1<q> input->a0.h1<k> a0.h1->m0 m0->logits";
    assert_eq!(edges(CircuitKind::Compiled { program: Program::Hist }).0, hist);
    let lookup_sum = "input->a0.h0<v> input->a0.h2<v> input->a1.h2<q> a0.h2->a1.h2<k> input->a1.h2<v> a0.h0->m1 a1.h2->m1 m1->logits";
    assert_eq!(edges(CircuitKind::Compiled { program: Program::LookupSum }).0, lookup_sum);
}

//! A checkpoint of any bytes: see the README for what they mean.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mediant_artifact::Processing;
use mediant_lm::HfFolder;

/// More than the models of the seeds have.
const MOST_VALUES: usize = 1 << 20;

/// The steps that no model refuses.
const FOLDED: Processing =
    Processing { fold_ln: true, center_writing_weights: false, center_unembed: false, fold_value_biases: true };

fuzz_target!(|input: &[u8]| {
    let Some(end) = input.iter().position(|byte| *byte == 0) else { return };
    let (config, rest) = (&input[..end], &input[end + 1..]);
    let weights = match rest {
        [0, file @ ..] => file.to_vec(),
        header => {
            let length = (header.len() as u64).to_le_bytes();
            [&length[..], header, &vec![0; values(header)]].concat()
        }
    };
    if let Ok(folder) = HfFolder::in_memory(config, weights) {
        let plain = folder.facts(Processing::default()).expect("what opens has facts");
        assert_eq!(plain.parameters, folder.config().parameters());
        let folded = folder.facts(FOLDED).expect("what opens can be folded");
        assert!(folded.parameters >= plain.parameters);
    }
});

/// Bytes of values that a header asks for: the largest number in it, within reason.
fn values(header: &[u8]) -> usize {
    let numbers =
        header.split(|byte| !byte.is_ascii_digit()).filter_map(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    numbers.filter(|number| *number <= MOST_VALUES).max().unwrap_or(0)
}

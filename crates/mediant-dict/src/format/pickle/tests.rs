#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::{Described, Number, long, of_state_dict, state_dict};

/// A dict of a [2, 3] tensor as `pickle` would write it, piece by piece.
fn pickled() -> Vec<u8> {
    let mut bytes =
        b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01(X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n"
            .to_vec();
    bytes.extend(b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQ");
    bytes.extend(b"K\x00K\x02K\x03\x86K\x03K\x01\x86\x89h\x00)RtRu}X\x09\x00\x00\x00_metadatah\x01sb.");
    bytes
}

#[test]
fn a_dict_of_tensors() {
    let tensors = state_dict(&pickled()).unwrap();
    let tensor = &tensors["w"];
    assert_eq!((&*tensor.storage, tensor.numbers, tensor.offset), ("0", 6, 0));
    assert_eq!((&tensor.shape[..], &tensor.strides[..]), (&[2, 3][..], &[3, 1][..]));
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        shapes in proptest::collection::btree_map("[a-zA-Z_.]{1,12}", proptest::collection::vec(1usize..100_000, 0..4), 0..6),
    ) {
        let number = |at: usize| [Number::F32, Number::I32, Number::F64][at % 3];
        let all = shapes.iter().enumerate();
        let bytes = of_state_dict(all.clone().map(|(at, (name, shape))| Described { name, number: number(at), shape }));
        let tensors = state_dict(&bytes).unwrap();
        prop_assert_eq!(tensors.len(), shapes.len());
        for (at, (name, shape)) in all {
            let tensor = &tensors[name];
            prop_assert_eq!((&*tensor.storage, tensor.number, tensor.offset), (&*at.to_string(), number(at), 0));
            prop_assert_eq!((&tensor.shape, tensor.numbers), (shape, shape.iter().product::<usize>() as u64));
            prop_assert_eq!(super::super::stored::order(shape, &tensor.strides), Some(super::super::stored::Order::Rows));
        }
    }
}

#[test]
fn nothing_else_is_run() {
    let message = |bytes: &[u8]| state_dict(bytes).unwrap_err();
    let system = message(b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.");
    assert!(system.contains("`posix.system`") && system.contains("nothing was run"), "{system}");
    // Protocol 4 asks for names by STACK_GLOBAL, protocol 0 by INST; neither is known.
    assert!(message(b"\x80\x04\x8c\x05posix\x8c\x06system\x93.").contains("opcode 0x8c"));
    assert!(message(b"(S'true'\niposix\nsystem\n.").contains("opcode 0x53"));
    assert!(message(b"\x80\x02ctorch\nFloatStorage\n)R.").contains("calls something"));
    // A tuple of a tuple of a tuple, each twice, which would be 2^60 values if they were copied.
    let mut bomb = b"\x80\x02)q\x00".to_vec();
    (0..60).for_each(|_| bomb.extend(b"h\x00h\x00\x86q\x00"));
    bomb.push(b'.');
    assert!(message(&bomb).contains("something else"));
}

#[test]
fn long_numbers() {
    assert_eq!(long(&[]), Some(0));
    assert_eq!(long(&[0xff]), Some(-1));
    assert_eq!(long(&[0, 0, 1]), Some(65536));
    assert_eq!(long(&[0; 9]), None);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = state_dict(&bytes);
    }

    #[test]
    fn any_change_is_read_or_refused(at in 0usize..200, byte: u8, cut in 0usize..250) {
        let mut bytes = pickled();
        let length = bytes.len();
        bytes[at % length] = byte;
        bytes.truncate(cut);
        let _ = state_dict(&bytes);
    }
}

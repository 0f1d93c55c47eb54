//! The other way: a dict of tensors as `torch.save` would pickle it, without a memo.

use super::super::stored::Number;

/// A tensor of its own storage, in C order; the storages are numbered as the tensors come.
pub(in crate::format) struct Described<'a> {
    pub(in crate::format) name: &'a str,
    pub(in crate::format) number: Number,
    pub(in crate::format) shape: &'a [usize],
}

/// The pickle; the same tensors give the same bytes.
pub(in crate::format) fn of_state_dict<'a>(tensors: impl IntoIterator<Item = Described<'a>>) -> Vec<u8> {
    let mut out = b"\x80\x02".to_vec();
    ordered_dict(&mut out);
    out.push(b'(');
    for (key, Described { name, number, shape }) in tensors.into_iter().enumerate() {
        text(&mut out, name);
        global(&mut out, "torch._utils", "_rebuild_tensor_v2");
        out.extend(b"((");
        text(&mut out, "storage");
        global(&mut out, "torch", storage(number));
        text(&mut out, &key.to_string());
        text(&mut out, "cpu");
        int(&mut out, shape.iter().product());
        // The storage; offset; shape and strides; no gradient, and no hooks for one.
        out.extend(b"tQ");
        int(&mut out, 0);
        tuple(&mut out, shape.iter().copied());
        tuple(&mut out, (1..=shape.len()).map(|side| shape[side..].iter().product()));
        out.push(0x89);
        ordered_dict(&mut out);
        out.extend(b"tR");
    }
    out.extend(b"u.");
    out
}

fn storage(number: Number) -> &'static str {
    match number {
        Number::F16 => "HalfStorage",
        Number::BF16 => "BFloat16Storage",
        Number::F32 => "FloatStorage",
        Number::F64 => "DoubleStorage",
        Number::U8 => "ByteStorage",
        Number::I32 => "IntStorage",
        Number::I64 => "LongStorage",
    }
}

fn ordered_dict(out: &mut Vec<u8>) {
    global(out, "collections", "OrderedDict");
    out.extend(b")R");
}

fn global(out: &mut Vec<u8>, module: &str, name: &str) {
    out.extend(format!("c{module}\n{name}\n").bytes());
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.bytes());
}

fn tuple(out: &mut Vec<u8>, numbers: impl Iterator<Item = usize>) {
    out.push(b'(');
    numbers.for_each(|number| int(out, number));
    out.push(b't');
}

/// BININT, or LONG1 where that is too narrow.
fn int(out: &mut Vec<u8>, number: usize) {
    match i32::try_from(number) {
        Ok(number) => {
            out.push(b'J');
            out.extend(number.to_le_bytes());
        }
        Err(_) => {
            out.extend([0x8a, 8]);
            out.extend((number as i64).to_le_bytes());
        }
    }
}

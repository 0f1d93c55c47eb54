//! The part of Python's pickle that a `state_dict` of tensors needs, as `torch.save` writes it: protocol 2, an OrderedDict
//! of names to tensors. Nothing is ever called: a name other than the few below is an error, and so is any other opcode.
//!
//! Opcodes: CPython's `pickletools`. Values live in a list and refer to each other by index, so that the memo, through
//! which a value may be used many times, copies nothing.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::stored::Number;

mod write;

pub(super) use write::{Described, of_state_dict};

/// A tensor of a state dict: a view of a storage.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The name of the storage, a file of the archive.
    pub storage: Rc<str>,
    pub(super) number: Number,
    /// Numbers in the storage.
    pub(super) numbers: u64,
    /// Of those, before the first of the tensor.
    pub(super) offset: u64,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

#[derive(Clone, Debug)]
enum Value {
    None,
    Bool,
    Int(i64),
    Text(Rc<str>),
    Tuple(Vec<usize>),
    Dict(Vec<(usize, usize)>),
    Name(Name),
    Storage { number: Number, name: Rc<str>, numbers: i64 },
    Tensor(Tensor),
}

/// Most dimensions of a tensor.
const MOST_SIDES: usize = 8;

/// The names that may be asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Name {
    OrderedDict,
    RebuildTensor,
    Storage(Number),
}

impl Name {
    fn of(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Self::RebuildTensor,
            ("torch", "HalfStorage") => Self::Storage(Number::F16),
            ("torch", "BFloat16Storage") => Self::Storage(Number::BF16),
            ("torch", "FloatStorage") => Self::Storage(Number::F32),
            ("torch", "DoubleStorage") => Self::Storage(Number::F64),
            ("torch", "ByteStorage" | "BoolStorage") => Self::Storage(Number::U8),
            ("torch", "IntStorage") => Self::Storage(Number::I32),
            ("torch", "LongStorage") => Self::Storage(Number::I64),
            _ => return None,
        })
    }
}

/// The tensors of a pickled state dict, by name.
///
/// # Errors
/// In words, if the bytes are anything else.
pub fn state_dict(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, String> {
    let mut machine = Machine { rest: bytes, total: bytes.len(), ..Machine::default() };
    let top = machine.run()?;
    let Value::Dict(items) = machine.value(top)? else {
        return Err("it holds something else than a dict of tensors".to_owned());
    };
    let mut tensors = BTreeMap::new();
    for (key, value) in items {
        let (Value::Text(name), Value::Tensor(tensor)) = (machine.value(*key)?, machine.value(*value)?) else {
            return Err("the dict holds something else than tensors by name".to_owned());
        };
        if tensors.insert(name.to_string(), tensor.clone()).is_some() {
            return Err(format!("the key `{}` stands twice", name.escape_debug()));
        }
    }
    Ok(tensors)
}

#[derive(Default)]
struct Machine<'a> {
    rest: &'a [u8],
    total: usize,
    /// Every value there is; indices into it stand for them.
    values: Vec<Value>,
    stack: Vec<usize>,
    /// Heights of the stack where a MARK is.
    marks: Vec<usize>,
    memo: BTreeMap<u32, usize>,
}

impl<'a> Machine<'a> {
    /// Runs to STOP; gives the value that is then on top.
    fn run(&mut self) -> Result<usize, String> {
        loop {
            let at = self.total - self.rest.len();
            let [code] = self.take::<1>()?;
            match code {
                b'.' => return self.pop(),
                // PROTO
                0x80 => match self.take::<1>()? {
                    [2..=5] => {}
                    [other] => return Err(format!("protocol {other} of pickle is not known")),
                },
                b'(' => self.marks.push(self.stack.len()),
                b'N' => self.push(Value::None),
                0x88 | 0x89 => self.push(Value::Bool),
                b'K' => {
                    let [number] = self.take()?;
                    self.push(Value::Int(number.into()));
                }
                b'M' => {
                    let number = u16::from_le_bytes(self.take()?);
                    self.push(Value::Int(number.into()));
                }
                b'J' => {
                    let number = i32::from_le_bytes(self.take()?);
                    self.push(Value::Int(number.into()));
                }
                // LONG1
                0x8a => {
                    let [length] = self.take()?;
                    let number = long(self.slice(length.into())?);
                    self.push(Value::Int(number.ok_or("a number in it has more than 64 bits")?));
                }
                // BINUNICODE
                b'X' => {
                    let length = u32::from_le_bytes(self.take()?);
                    let text = self.slice(length as usize)?;
                    let text = std::str::from_utf8(text).map_err(|_| "a text in it is not UTF-8".to_owned())?;
                    self.push(Value::Text(text.into()));
                }
                // GLOBAL
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    let known = Name::of(module, name).ok_or_else(|| {
                        let asked = format!("{module}.{name}");
                        format!(
                            "it asks for `{}`, which no dict of tensors needs; nothing was run",
                            asked.escape_debug()
                        )
                    })?;
                    self.push(Value::Name(known));
                }
                b')' => self.push(Value::Tuple(Vec::new())),
                b't' => {
                    let items = self.since_mark()?;
                    self.push(Value::Tuple(items));
                }
                0x85..=0x87 => {
                    let items = self.pop_many(usize::from(code - 0x84))?;
                    self.push(Value::Tuple(items));
                }
                b'}' => self.push(Value::Dict(Vec::new())),
                // SETITEM, SETITEMS
                b's' => {
                    let items = self.pop_many(2)?;
                    self.set_items(&items)?;
                }
                b'u' => {
                    let items = self.since_mark()?;
                    self.set_items(&items)?;
                }
                // BINPUT, LONG_BINPUT
                b'q' => {
                    let [slot] = self.take()?;
                    self.remember(slot.into())?;
                }
                b'r' => {
                    let slot = u32::from_le_bytes(self.take()?);
                    self.remember(slot)?;
                }
                // BINGET, LONG_BINGET
                b'h' => {
                    let [slot] = self.take()?;
                    self.recall(slot.into())?;
                }
                b'j' => {
                    let slot = u32::from_le_bytes(self.take()?);
                    self.recall(slot)?;
                }
                // BINPERSID: a storage
                b'Q' => {
                    let id = self.pop()?;
                    let storage = self.storage(id)?;
                    self.push(storage);
                }
                // REDUCE: a call, of the two that there are
                b'R' => {
                    let (arguments, function) = (self.pop()?, self.pop()?);
                    let made = self.call(function, arguments)?;
                    self.push(made);
                }
                // BUILD: attributes of an OrderedDict, which PyTorch keeps module versions in
                b'b' => {
                    self.pop()?;
                    let target = *self.stack.last().ok_or_else(damaged)?;
                    if !matches!(self.value(target)?, Value::Dict(_)) {
                        return Err("it sets attributes of something else than a dict".to_owned());
                    }
                }
                other => {
                    return Err(format!(
                        "it uses opcode {other:#04x} at byte {at}, which no dict of tensors needs; nothing was run"
                    ));
                }
            }
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (first, rest) = self.rest.split_first_chunk().ok_or("it is cut off")?;
        self.rest = rest;
        Ok(*first)
    }

    fn slice(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (first, rest) = self.rest.split_at_checked(length).ok_or("it is cut off")?;
        self.rest = rest;
        Ok(first)
    }

    /// Up to the next new line.
    fn line(&mut self) -> Result<&'a str, String> {
        let length = self.rest.iter().position(|byte| *byte == b'\n').ok_or("it is cut off")?;
        let line = self.slice(length)?;
        self.take::<1>()?;
        std::str::from_utf8(line).map_err(|_| "a name in it is not UTF-8".to_owned())
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    /// Takes the top of the stack; what lies under a MARK stays.
    fn pop(&mut self) -> Result<usize, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(damaged());
        }
        self.stack.pop().ok_or_else(damaged)
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<usize>, String> {
        let mut items = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        items.reverse();
        Ok(items)
    }

    /// Takes everything above the last MARK, and the MARK.
    fn since_mark(&mut self) -> Result<Vec<usize>, String> {
        let height = self.marks.pop().filter(|height| *height <= self.stack.len()).ok_or_else(damaged)?;
        Ok(self.stack.split_off(height))
    }

    fn value(&self, index: usize) -> Result<&Value, String> {
        self.values.get(index).ok_or_else(damaged)
    }

    fn remember(&mut self, slot: u32) -> Result<(), String> {
        let top = *self.stack.last().ok_or_else(damaged)?;
        self.memo.insert(slot, top);
        Ok(())
    }

    fn recall(&mut self, slot: u32) -> Result<(), String> {
        let value = *self.memo.get(&slot).ok_or_else(damaged)?;
        self.stack.push(value);
        Ok(())
    }

    fn set_items(&mut self, items: &[usize]) -> Result<(), String> {
        let target = *self.stack.last().ok_or_else(damaged)?;
        let (pairs, []) = items.as_chunks::<2>() else { return Err(damaged()) };
        match self.values.get_mut(target) {
            Some(Value::Dict(dict)) => {
                dict.extend(pairs.iter().map(|[key, value]| (*key, *value)));
                Ok(())
            }
            _ => Err("it puts items into something else than a dict".to_owned()),
        }
    }

    fn tuple(&self, index: usize) -> Result<&[usize], String> {
        match self.value(index)? {
            Value::Tuple(items) => Ok(items),
            _ => Err(damaged()),
        }
    }

    fn int(&self, index: usize) -> Result<i64, String> {
        match self.value(index)? {
            Value::Int(number) => Ok(*number),
            _ => Err(damaged()),
        }
    }

    /// Whole numbers that are not negative.
    fn counts(&self, index: usize) -> Result<Vec<usize>, String> {
        let items = self.tuple(index)?;
        if items.len() > MOST_SIDES {
            return Err(format!("a tensor in it has {} dimensions", items.len()));
        }
        items.iter().map(|item| usize::try_from(self.int(*item)?).map_err(|_| damaged())).collect()
    }

    /// The storage of `('storage', torch.FloatStorage, '0', 'cpu', 12)`.
    fn storage(&self, id: usize) -> Result<Value, String> {
        let &[tag, kind, name, _device, numbers] = self.tuple(id)? else { return Err(damaged()) };
        let (Value::Text(tag), Value::Name(Name::Storage(number)), Value::Text(name)) =
            (self.value(tag)?, self.value(kind)?, self.value(name)?)
        else {
            return Err(damaged());
        };
        if **tag != *"storage" {
            return Err(damaged());
        }
        Ok(Value::Storage { number: *number, name: name.clone(), numbers: self.int(numbers)? })
    }

    fn call(&self, function: usize, arguments: usize) -> Result<Value, String> {
        let arguments = self.tuple(arguments)?;
        match (self.value(function)?, arguments) {
            (Value::Name(Name::OrderedDict), []) => Ok(Value::Dict(Vec::new())),
            // Storage, offset, shape, strides; whether a gradient is wanted, its hooks, and perhaps metadata.
            (Value::Name(Name::RebuildTensor), &[storage, offset, shape, strides, _, _, ..]) => {
                let Value::Storage { number, name, numbers } = self.value(storage)? else { return Err(damaged()) };
                Ok(Value::Tensor(Tensor {
                    storage: name.clone(),
                    number: *number,
                    numbers: u64::try_from(*numbers).map_err(|_| damaged())?,
                    offset: u64::try_from(self.int(offset)?).map_err(|_| damaged())?,
                    shape: self.counts(shape)?,
                    strides: self.counts(strides)?,
                }))
            }
            _ => Err("it calls something with what it does not take".to_owned()),
        }
    }
}

fn damaged() -> String {
    "it is damaged".to_owned()
}

/// A little-endian two's complement number of any length.
fn long(bytes: &[u8]) -> Option<i64> {
    let negative = bytes.last().is_some_and(|byte| *byte >= 0x80);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(i64::from_le_bytes(wide))
}

#[cfg(test)]
mod tests;

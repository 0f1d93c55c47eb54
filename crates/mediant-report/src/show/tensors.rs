//! The tensors of a model or dictionary, those of many layers on one line.

use indexmap::IndexMap;
use mediant_artifact::{TensorInfo, Tensors};

use crate::table::{Cell, TextTable};

/// One row a tensor; tensors that differ only in a number within their name share a row, with `*` for the number.
pub(super) fn table(tensors: &Tensors) -> TextTable {
    let mut groups: IndexMap<(String, &str, &[usize]), Vec<&TensorInfo>> = IndexMap::new();
    for info in tensors.infos() {
        groups.entry((pattern(&info.name), info.dtype.name(), &info.shape)).or_default().push(info);
    }
    let mut table = TextTable::new(["tensor", "count", "shape", "dtype", "numbers"]);
    for ((pattern, dtype, shape), members) in groups {
        let name = if members.len() == 1 { members[0].name.clone() } else { pattern };
        let each = shape.iter().map(|&side| side as u64).product::<u64>();
        table.push([
            Cell::text(name),
            Cell::Count(members.len() as u64),
            Cell::text(format!("{shape:?}")),
            Cell::text(dtype),
            Cell::Count(each * members.len() as u64),
        ]);
    }
    table
}

/// `h.3.attn.weight` → `h.*.attn.weight`: parts between dots that are numbers.
pub(super) fn pattern(name: &str) -> String {
    let part = |part: &str| {
        let number = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if number { "*" } else { part }.to_string()
    };
    name.split('.').map(part).collect::<Vec<_>>().join(".")
}

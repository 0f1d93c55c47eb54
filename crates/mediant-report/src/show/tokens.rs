//! Token sequences: how many, how long, the first ones.

use arrow::array::AsArray;
use arrow::datatypes::Int32Type;
use mediant_artifact::{Artifact, TokensMeta};

use super::ShowOptions;
use super::rows::more;
use crate::error::Result;
use crate::page::Page;
use crate::table::{Cell, TextTable};

pub(super) fn show(artifact: &Artifact, options: &ShowOptions<'_>, page: &mut Page) -> Result<()> {
    let meta: TokensMeta = artifact.meta()?;
    let yes = |on: bool| Cell::text(if on { "yes" } else { "no" });
    let id = |id: u32| Cell::Int(id.into());
    let read = read(artifact, options)?;
    page.facts(
        "Tokens",
        [
            ("split", Cell::text(&meta.split)),
            ("documents", Cell::Count(meta.documents)),
            ("sequences", Cell::Count(meta.sequences)),
            ("tokens", Cell::Count(meta.tokens)),
            ("tokens that count", Cell::Count(read.counted)),
            ("length", Cell::text(lengths(read.lengths))),
            ("context", Cell::Count(meta.context as u64)),
            ("packed", yes(meta.packed)),
            ("prepend BOS", yes(meta.prepend_bos)),
            ("BOS", Cell::or_empty(meta.bos, id)),
            ("separator", Cell::or_empty(meta.separator, id)),
            ("vocabulary", Cell::Count(meta.vocab_size as u64)),
            ("tokenizer", Cell::or_empty(meta.tokenizer, |digest| Cell::Digest(digest.to_string()))),
        ],
    );
    let mut first = read.first;
    more(&mut first, meta.sequences, "sequence");
    page.table("First sequences", first);
    Ok(())
}

struct Read {
    lengths: Vec<usize>,
    /// Tokens whose mask is true.
    counted: u64,
    first: TextTable,
}

/// Goes once over the sequences, a batch at a time.
fn read(artifact: &Artifact, options: &ShowOptions<'_>) -> Result<Read> {
    let last_column = if options.decode.is_some() { "text" } else { "ids" };
    let mut read = Read { lengths: Vec::new(), counted: 0, first: TextTable::new(["sequence", "length", last_column]) };
    for batch in artifact.columns("sequences", &["ids", "mask"])? {
        let batch = batch?;
        let (ids, mask) = (batch.column(0).as_list::<i32>(), batch.column(1).as_list::<i32>());
        for row in 0..batch.num_rows() {
            let ids = ids.value(row);
            let ids: &[i32] = ids.as_primitive::<Int32Type>().values();
            read.counted += mask.value(row).as_boolean().true_count() as u64;
            if read.first.len() < options.head {
                let shown = match options.decode {
                    Some(decode) => Cell::text(decode(ids)),
                    None => Cell::Json(ids.into()),
                };
                read.first.push([Cell::Int(read.lengths.len() as i128), Cell::Int(ids.len() as i128), shown]);
            }
            read.lengths.push(ids.len());
        }
    }
    Ok(read)
}

/// `3 to 128, median 128, mean 120.5`.
#[expect(clippy::cast_precision_loss, reason = "a mean shown with four digits")]
fn lengths(mut lengths: Vec<usize>) -> String {
    lengths.sort_unstable();
    let (Some(shortest), Some(longest)) = (lengths.first(), lengths.last()) else {
        return "no sequence".to_string();
    };
    let mean = lengths.iter().sum::<usize>() as f64 / lengths.len() as f64;
    let median = lengths[lengths.len() / 2];
    format!("{shortest} to {longest}, median {median}, mean {}", crate::number::float(mean))
}

//! Tables: their first rows, and the pictures that their columns allow.

use mediant_artifact::TableMeta;

use super::shapes::pictures;
use super::{Member, artifacts};
use crate::error::Result;
use crate::number::count;
use crate::report::document::{Block, Data, Sheet};
use crate::show::rows::read;
use crate::table::{Cell, TextTable};

/// Tables up to this many rows are shown whole, of others the first rows.
const WHOLE: usize = 40;
const HEAD: usize = 10;

pub(super) fn blocks(members: &[Member<'_>]) -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    let Some(first) = members.first() else { return Ok(blocks) };
    let meta: TableMeta = first.artifact.meta()?;
    if !meta.description.is_empty() {
        blocks.push(Block::Text(meta.description.clone()));
    }
    let title = if meta.title.is_empty() { "Rows".to_owned() } else { meta.title };
    let figures = pictures(&title, members)?;
    let drawn = !figures.is_empty();
    if drawn {
        blocks.push(Block::Figures(figures));
    }
    let (sheet, all) = sheet(title, members)?;
    let folded = drawn || all > WHOLE as u64;
    let summary = format!("Table of {} rows", count(all));
    blocks.push(if folded { Block::Folded(summary, vec![Block::Sheet(sheet)]) } else { Block::Sheet(sheet) });
    Ok(blocks)
}

/// The rows of all members, axes first, and how many there are in all.
fn sheet(title: String, members: &[Member<'_>]) -> Result<(Sheet, u64)> {
    let mut all = 0;
    for member in members {
        all += member.artifact.rows("rows")?;
    }
    let most = if all <= WHOLE as u64 { WHOLE } else { HEAD };
    let mut shown: Option<TextTable> = None;
    for member in members {
        let axes = || member.axes.iter();
        let left = most - shown.as_ref().map_or(0, TextTable::len);
        let (columns, rows) = read(member.artifact, "rows", left)?;
        let names = axes().map(|(axis, _)| axis.clone()).chain(columns);
        let shown = shown.get_or_insert_with(|| TextTable::new(names));
        for row in rows {
            shown.push(axes().map(|(_, label)| Cell::text(label)).chain(row));
        }
        if shown.len() >= most {
            break;
        }
    }
    let mut data = shown.unwrap_or_default();
    if (data.len() as u64) < all {
        data.note(format!("the first {} of {} rows", data.len(), count(all)));
    }
    let shown = data.clone().without_empty_columns(&[]);
    Ok((Sheet { title, shown, data: Data::new(data, artifacts(members), "rows") }, all))
}

//! Rows of tokens: documents packed end to end, or one document a row.

use mediant_artifact::{Sequence, TokensWriter};

use super::tokenizer::Encoded;
use crate::Result;

/// How rows are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// Longest row.
    pub(crate) context: usize,
    /// Whether documents share rows.
    pub(crate) pack: bool,
    /// What every row begins with.
    pub(crate) bos: Option<u32>,
    /// What stands between packed documents.
    pub(crate) separator: Option<u32>,
}

/// Cuts documents into rows and writes those that are full.
pub(crate) struct Rows {
    layout: Layout,
    writer: TokensWriter,
    row: Row,
    /// Tokens of documents longer than the context, which unpacked rows have no place for.
    pub(crate) cut: u64,
    pub(crate) documents: u64,
}

#[derive(Default)]
struct Row {
    ids: Vec<i32>,
    mask: Vec<bool>,
    document: Vec<u32>,
    start: Vec<u32>,
    end: Vec<u32>,
}

impl Row {
    fn push(&mut self, id: u32, real: bool, document: u32, span: (u32, u32)) {
        // Ids are below the vocabulary's size, which is far below 2^31.
        self.ids.push(id as i32);
        self.mask.push(real);
        self.document.push(document);
        self.start.push(span.0);
        self.end.push(span.1);
    }
}

impl Rows {
    pub(crate) fn new(layout: Layout, writer: TokensWriter) -> Self {
        Self { layout, writer, row: Row::default(), cut: 0, documents: 0 }
    }

    /// Adds a document with at least one token. Unpacked, its ready-made ids may begin with BOS already.
    pub(crate) fn document(&mut self, document: u32, tokens: &Encoded) -> Result<()> {
        self.documents += 1;
        let Layout { context, pack, bos, separator } = self.layout;
        if let Some(separator) = separator
            && pack
            && self.documents > 1
        {
            self.push(separator, false, document, (0, 0))?;
        }
        let own_bos = !pack && bos.is_some() && tokens.ids.first() == bos.as_ref();
        let own = usize::from(own_bos)..tokens.ids.len();
        let room = if pack { usize::MAX } else { context - usize::from(bos.is_some()) };
        self.cut += own.len().saturating_sub(room) as u64;
        for (&id, &span) in tokens.ids[own.clone()].iter().zip(&tokens.spans[own]).take(room) {
            // Special tokens inside ready-made ids, which have no spans.
            let special = span.0 == span.1 && (Some(id) == bos || Some(id) == separator);
            self.push(id, !special, document, span)?;
        }
        if pack { Ok(()) } else { self.flush() }
    }

    fn push(&mut self, id: u32, real: bool, document: u32, span: (u32, u32)) -> Result<()> {
        if let Some(bos) = self.layout.bos
            && self.row.ids.is_empty()
        {
            self.row.push(bos, false, document, (0, 0));
        }
        self.row.push(id, real, document, span);
        if self.row.ids.len() == self.layout.context { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let Row { ids, mask, document, start, end } = std::mem::take(&mut self.row);
        if !ids.is_empty() {
            let sequence = Sequence { ids: &ids, mask: &mask, document: &document, start: &start, end: &end };
            self.writer.sequence(sequence)?;
        }
        Ok(())
    }

    /// Writes the last row, which may be short.
    pub(crate) fn finish(mut self) -> Result<TokensWriter> {
        self.flush()?;
        Ok(self.writer)
    }
}

//! Sums by document.

use std::collections::BTreeMap;

use mediant_artifact::Tokens;

use crate::bootstrap::Totals;

/// Sums that belong to documents, which are numbered as they come.
#[derive(Default)]
pub(crate) struct ByDocument {
    places: BTreeMap<u32, usize>,
    sums: Vec<Totals>,
}

impl ByDocument {
    /// The sums of a document.
    pub(crate) fn of(&mut self, document: u32) -> &mut Totals {
        let next = self.sums.len();
        let place = *self.places.entry(document).or_insert(next);
        if place == next {
            self.sums.push(Totals::default());
        }
        &mut self.sums[place]
    }

    /// The sums of all documents, in the order in which they came.
    pub(crate) fn sums(&self) -> &[Totals] {
        &self.sums
    }
}

/// The first sequences of a corpus, each up to so many tokens, with the documents of what is left.
pub fn beginning(tokens: &Tokens, documents: &[u32], sequences: usize, length: usize) -> (Tokens, Vec<u32>) {
    let mut kept = Tokens { meta: tokens.meta.clone(), offsets: vec![0], ids: Vec::new(), mask: Vec::new() };
    let mut kept_documents = Vec::new();
    for i in 0..sequences.min(tokens.len()) {
        let range = tokens.offsets[i]..tokens.offsets[i + 1].min(tokens.offsets[i].saturating_add(length));
        kept.ids.extend_from_slice(&tokens.ids[range.clone()]);
        kept.mask.extend_from_slice(&tokens.mask[range.clone()]);
        kept_documents.extend_from_slice(&documents[range]);
        kept.offsets.push(kept.ids.len());
    }
    (kept.meta.sequences, kept.meta.tokens) = (kept.len() as u64, kept.ids.len() as u64);
    (kept, kept_documents)
}

//! What the grammar produces: documents with labels, and the sentence being written into one.

/// A few sentences and the latent variables they were made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// The text: sentences joined by one space.
    pub text: String,
    /// Latent variables, by sentence; those of a whole sentence after those of its words.
    pub labels: Vec<Label>,
}

/// The value of one latent variable over `start..end` (bytes of the document's text).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
    /// Name of the variable: see the crate's table.
    pub variable: &'static str,
    /// Its value.
    pub value: &'static str,
}

/// Where a sentence asks its question: the word at `at` is `right`, and `wrong` would be a mistake.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cloze {
    pub(crate) at: usize,
    pub(crate) right: &'static str,
    pub(crate) wrong: &'static str,
}

/// A sentence under construction at the end of a document.
pub(crate) struct Sentence<'a> {
    document: &'a mut Document,
    start: usize,
    pub(crate) cloze: Option<Cloze>,
    pub(crate) template: &'static str,
    pub(crate) condition: &'static str,
}

impl<'a> Sentence<'a> {
    pub(crate) fn begin(document: &'a mut Document) -> Self {
        if !document.text.is_empty() {
            document.text.push(' ');
        }
        let start = document.text.len();
        Self { document, start, cloze: None, template: "", condition: "" }
    }

    /// Spaces and punctuation: nothing that carries a label.
    pub(crate) fn punctuation(&mut self, text: &str) {
        self.document.text.push_str(text);
    }

    /// One word with the labels of its span.
    pub(crate) fn word(&mut self, text: &str, labels: &[(&'static str, &'static str)]) {
        let start = self.document.text.len();
        self.document.text.push_str(text);
        for &(variable, value) in labels {
            self.label(start, variable, value);
        }
    }

    /// Marks the next word as the answer that a reader must predict. The first mark stands.
    pub(crate) fn ask(&mut self, right: &'static str, wrong: &'static str) {
        let at = self.document.text.len();
        self.cloze.get_or_insert(Cloze { at, right, wrong });
    }

    /// A variable of the whole sentence as written so far.
    pub(crate) fn about(&mut self, variable: &'static str, value: &'static str) {
        self.label(self.start, variable, value);
    }

    fn label(&mut self, start: usize, variable: &'static str, value: &'static str) {
        let end = self.document.text.len();
        // Documents are a few hundred bytes long.
        let (start, end) = (start as u32, end as u32);
        self.document.labels.push(Label { start, end, variable, value });
    }
}

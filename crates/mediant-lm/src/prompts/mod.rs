//! Prompts with counterfactuals: from texts with marked parts to tokens, spans and answers.
//!
//! [`Draft`] is what a prompt is before it is tokenized: made by a generator, or read from a file by [`read_drafts`], whose [`Columns`]
//! say what stands where. [`Assembler`] makes tokens of it and checks what later stages rest on: versions of one length, answers of one
//! token.

mod assemble;
mod columns;
mod draft;
mod records;
mod source;

pub use assemble::{Assembler, Misfit, report_misfits};
pub use columns::{AnswerKind, Columns, CounterfactualColumns, Layout};
pub use draft::{Answer, Draft, DraftMark, DraftVersion};
pub use source::{SourceDraft, check_source, is_source, read_drafts};

//! From text to tokens, spans and answers.

use std::collections::BTreeMap;
use std::fmt;

use mediant_artifact::{Prompt, Version};

use super::draft::{Answer, Draft, DraftMark, DraftVersion};
use crate::text::{Encoded, Tokenizer};

/// Makes prompts of drafts.
pub struct Assembler<'a> {
    /// The tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// The token before every text.
    pub bos: Option<u32>,
    /// Names of the counterfactuals, in the order of [`Draft::counterfactuals`].
    pub counterfactuals: &'a [String],
}

/// Why a draft makes no prompt with this tokenizer, a clause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit(String);

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<crate::Error> for Misfit {
    fn from(error: crate::Error) -> Self {
        Self(error.to_string())
    }
}

/// The span that every version has: its last token, where the answer is predicted.
const LAST: &str = "last";

impl Assembler<'_> {
    /// The prompt of a draft. All versions have as many tokens as the clean one, and the same spans: the marked parts and `last`.
    ///
    /// # Errors
    /// If a version has no token or another number of tokens than the clean one; if a marked part is not where it is in the clean
    /// version, or not one token and has to be; if an answer is not one token, or both right and wrong.
    pub fn assemble(&self, draft: &Draft) -> Result<Prompt, Misfit> {
        let clean = self.version(&draft.clean)?;
        let mut counterfactuals =
            draft.counterfactuals.iter().map(|version| self.version(version)).collect::<Result<Vec<_>, _>>()?;
        let named = || self.counterfactuals.iter().zip(&counterfactuals);
        let tokens = |version: &Version| version.ids.len() - usize::from(self.bos.is_some());
        if named().any(|(_, version)| version.ids.len() != clean.ids.len()) {
            let lengths = named().map(|(name, version)| format!(", `{name}` {}", tokens(version)));
            return Err(Misfit(format!("the clean text has {} tokens{}", tokens(&clean), lengths.collect::<String>())));
        }
        for ((name, version), draft) in
            self.counterfactuals.iter().zip(&mut counterfactuals).zip(&draft.counterfactuals)
        {
            if draft.marks.is_empty() {
                version.spans.clone_from(&clean.spans);
            } else if version.spans != clean.spans {
                return Err(Misfit(format!("the marked parts of `{name}` are not where the clean text has them")));
            }
        }
        let Draft { task, template, group, .. } = draft.clone();
        Ok(Prompt { task, template, group, clean, counterfactuals })
    }

    /// Whether `word` is one token where it follows `before`; a leading space belongs to the word. A text that the tokenizer
    /// cannot take is none.
    pub fn one_token(&self, before: &str, word: &str) -> bool {
        let ids = |text: &str| self.tokenizer.encode(text).map(|encoded| encoded.ids).ok();
        ids(before).zip(ids(&format!("{before}{word}"))).is_some_and(|(before, both)| joined(&before, &both).is_some())
    }

    /// Whether one token says `answer` after `before`.
    pub fn one_answer(&self, before: &str, answer: &str) -> bool {
        self.tokenizer.encode(before).is_ok_and(|encoded| self.answer(before, &encoded.ids, answer).is_ok())
    }

    fn version(&self, draft: &DraftVersion) -> Result<Version, Misfit> {
        let DraftVersion { text, marks, right, wrong, variables } = draft;
        let tokens = self.tokenizer.encode(text)?;
        let before = u32::from(self.bos.is_some());
        let length = before + tokens.ids.len() as u32;
        if tokens.ids.is_empty() {
            return Err(Misfit("there is no token before the answers".to_owned()));
        }
        let mut spans = BTreeMap::from([(LAST.to_owned(), (length - 1, length))]);
        for mark in marks {
            let (first, last) = span(mark, text, &tokens)?;
            spans.insert(mark.name.clone(), (before + first as u32, before + last as u32 + 1));
        }
        let [right, wrong] = [right, wrong].map(|answers| self.answers(text, &tokens.ids, answers));
        let (right, wrong) = (right?, wrong?);
        if let Some(id) = right.iter().find(|id| wrong.contains(id)) {
            let answer = self.tokenizer.decode(&[*id as u32])?;
            return Err(Misfit(format!("the answer {answer:?} is both right and wrong")));
        }
        let ids = self.bos.iter().chain(&tokens.ids).map(|&id| id as i32).collect();
        Ok(Version { text: text.clone(), ids, right, wrong, spans, variables: variables.clone() })
    }

    /// The tokens of a set of answers, each once.
    fn answers(&self, text: &str, ids: &[u32], answers: &[Answer]) -> Result<Vec<i32>, Misfit> {
        let mut found = Vec::with_capacity(answers.len());
        for answer in answers {
            let id = match answer {
                Answer::Text(answer) => self.answer(text, ids, answer)?,
                Answer::Id(id) => self.checked(*id, text)?,
            } as i32;
            if !found.contains(&id) {
                found.push(id);
            }
        }
        Ok(found)
    }

    /// The token that says `answer` after `text`: that with which the tokens go on when both are tokenized together. Where the tokenizer
    /// would join the answer to what stands before (1900 as one token, not 19 and 00), the token that the answer has alone, if the
    /// text decoded with it is the text wanted.
    fn answer(&self, text: &str, ids: &[u32], answer: &str) -> Result<u32, Misfit> {
        if let Some(id) = joined(ids, &self.tokenizer.encode(&format!("{text}{answer}"))?.ids) {
            return Ok(id);
        }
        let alone = self.tokenizer.encode(answer)?.ids;
        if let [id] = alone[..] {
            let with = self.tokenizer.decode(&[ids, &[id]].concat())?;
            if with == format!("{}{answer}", self.tokenizer.decode(ids)?) {
                return Ok(id);
            }
        }
        Err(Misfit(format!("the answer {answer:?} is not one token")))
    }

    /// An id given as such, if it is of this tokenizer.
    fn checked(&self, id: u32, text: &str) -> Result<u32, Misfit> {
        let word = self.tokenizer.decode(&[id])?;
        if word.trim().is_empty() || !text.contains(word.trim()) {
            return Err(Misfit(format!(
                "the token {id} is {word:?} here, which is not in the text: it is of another tokenizer"
            )));
        }
        Ok(id)
    }
}

/// The one token by which the tokens of a text go on.
fn joined(before: &[u32], both: &[u32]) -> Option<u32> {
    match both.strip_prefix(before) {
        Some([id]) => Some(*id),
        _ => None,
    }
}

/// The first and the last token of a marked part. A space before a word may belong to its token, as the tokenizer pleases.
fn span(mark: &DraftMark, text: &str, tokens: &Encoded) -> Result<(usize, usize), Misfit> {
    let part = &text[mark.start..mark.end];
    let found = if part.is_empty() {
        tokens.spans.iter().position(|&(_, end)| end as usize > mark.start).map(|token| (token, token))
    } else {
        let inside = |&(start, end): &(u32, u32)| (start as usize) < mark.end && end as usize > mark.start;
        tokens.spans.iter().position(inside).zip(tokens.spans.iter().rposition(inside))
    };
    let (first, last) = found.ok_or_else(|| Misfit(format!("`{}`, {part:?}, is no token", mark.name)))?;
    let (start, end) = tokens.spans[first];
    let exact = part.is_empty() || text.get(start as usize..end as usize).is_some_and(|token| token.trim() == part);
    if mark.one_token && !(first == last && exact) {
        return Err(Misfit(format!("`{}`, {part:?}, is not one token where it stands", mark.name)));
    }
    Ok((first, last))
}

/// What is wrong with some of many drafts, the first few by their place: `FILE:LINE` or a number.
pub fn report_misfits(misfits: &[(String, Misfit)], of: usize) -> String {
    const SHOWN: usize = 5;
    let shown = misfits.iter().take(SHOWN).map(|(place, misfit)| format!("\n  {place}: {misfit}")).collect::<String>();
    let more = match misfits.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!("\n  and {more} more"),
    };
    format!("{} of {of} prompts do not fit this tokenizer:{shown}{more}", misfits.len())
}

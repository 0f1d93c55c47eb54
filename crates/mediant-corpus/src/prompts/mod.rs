//! Prompts with counterfactuals: a question of the grammar, and the same question with one thing changed.
//!
//! What tells the versions of a prompt apart, and what answers them, are words of one token, so that all versions are equally long and
//! their marked parts stand at the same places.

mod agreement;
mod capitals;
mod greater_than;
mod induction;
mod ioi;
mod pronoun;
mod version;
mod vocabulary;

use crate::Split;
use crate::draw::Draw;

pub use version::{Mark, VersionText};
pub use vocabulary::{TooFew, Vocabulary};

/// A task that prompts can be made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptTask {
    /// Indirect objects (Wang et al. 2022, arXiv:2211.00593).
    Ioi,
    /// Years that are later than another (Hanna et al. 2023, arXiv:2305.00586).
    GreaterThan,
    /// Agreement of subject and verb (Linzen et al. 2016, arXiv:1611.01368; Finlayson et al. 2021, arXiv:2106.06087).
    Agreement,
    /// He or she.
    Pronoun,
    /// Capitals of countries.
    Capitals,
    /// Repeated patterns (Olsson et al. 2022, arXiv:2209.11895).
    Induction,
}

impl PromptTask {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Ioi, Self::GreaterThan, Self::Agreement, Self::Pronoun, Self::Capitals, Self::Induction];

    /// `ioi`, `greater_than`, `agreement`, `pronoun`, `capitals` or `induction`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ioi => "ioi",
            Self::GreaterThan => "greater_than",
            Self::Agreement => "agreement",
            Self::Pronoun => "pronoun",
            Self::Capitals => "capitals",
            Self::Induction => "induction",
        }
    }

    /// The counterfactuals it knows, the usual one first.
    #[must_use]
    pub const fn counterfactuals(self) -> &'static [&'static str] {
        match self {
            Self::Ioi => &ioi::COUNTERFACTUALS,
            Self::GreaterThan => &["start_01"],
            Self::Agreement => &["number"],
            Self::Pronoun => &["gender"],
            Self::Capitals => &["country"],
            Self::Induction => &["copied"],
        }
    }

    /// The parts that are marked in every version of every prompt, in the order of their names.
    #[must_use]
    pub const fn marks(self) -> &'static [&'static str] {
        match self {
            Self::Ioi => &["io", "s1", "s1+1", "s2"],
            Self::GreaterThan => &["event", "start"],
            Self::Agreement => &["attractor", "subject"],
            Self::Pronoun | Self::Capitals => &["subject"],
            Self::Induction => &["copied", "previous"],
        }
    }

    /// Further parts, marked where a sentence has them.
    #[must_use]
    pub const fn further_marks(self) -> &'static [&'static str] {
        match self {
            Self::Agreement => &["attractor_2"],
            Self::Pronoun => &["other"],
            Self::Ioi | Self::GreaterThan | Self::Capitals | Self::Induction => &[],
        }
    }

    /// The causal variables whose values its versions name; some versions lack some.
    #[must_use]
    pub const fn variables(self) -> &'static [&'static str] {
        match self {
            Self::Ioi => &["indirect_object", "order", "subject"],
            Self::GreaterThan => &["century", "event", "start"],
            Self::Agreement => &["attractor_number", "condition", "subject", "subject_number"],
            Self::Pronoun => &["condition", "gender", "subject"],
            Self::Capitals => &["capital", "country"],
            Self::Induction => &["copied", "period", "previous"],
        }
    }

    /// Whether its sentences are of the grammar, so that some of its words and templates are held out.
    #[must_use]
    pub const fn has_splits(self) -> bool {
        !matches!(self, Self::GreaterThan)
    }
}

/// A prompt and its counterfactuals, not yet tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptText {
    /// The template.
    pub template: String,
    /// What makes prompts alike: the template with the words that the question is about.
    pub group: String,
    /// The prompt itself.
    pub clean: VersionText,
    /// Its counterfactuals, in the order they were asked for.
    pub counterfactuals: Vec<VersionText>,
}

/// What prompts are to be made.
#[derive(Clone, Copy, Debug)]
pub struct PromptOptions<'a> {
    /// The task.
    pub task: PromptTask,
    /// Chooses the prompts. The counterfactuals asked for change nothing else.
    pub seed: u64,
    /// Only words and templates of this split of the grammar; all without one.
    pub split: Option<Split>,
    /// Those of [`PromptTask::counterfactuals`] that are wanted.
    pub counterfactuals: &'a [&'a str],
}

/// Draws prompts, one after the other, without end. Equal ones may come again.
pub struct PromptMaker {
    maker: Box<dyn Make + Send>,
    draws: Draws,
}

impl PromptMaker {
    /// Chooses the words.
    ///
    /// # Errors
    /// If too few of the task's words are one token.
    pub fn new(options: PromptOptions<'_>, vocabulary: &dyn Vocabulary) -> Result<Self, TooFew> {
        let maker: Box<dyn Make + Send> = match options.task {
            PromptTask::Ioi => Box::new(ioi::Ioi::new(options, vocabulary)?),
            PromptTask::GreaterThan => Box::new(greater_than::GreaterThan::new(options, vocabulary)?),
            PromptTask::Agreement => Box::new(agreement::Agreement::new(options, vocabulary)?),
            PromptTask::Pronoun => Box::new(pronoun::Pronoun::new(options, vocabulary)?),
            PromptTask::Capitals => Box::new(capitals::Capitals::new(options, vocabulary)?),
            PromptTask::Induction => Box::new(induction::Induction::new(options, vocabulary)?),
        };
        Ok(Self { maker, draws: Draws { seed: options.seed, index: 0 } })
    }

    /// The next prompt; none where the sentence drawn asks nothing.
    pub fn draw(&mut self) -> Option<PromptText> {
        let prompt = self.maker.make(self.draws);
        self.draws.index += 1;
        prompt
    }
}

/// One task.
trait Make {
    fn make(&self, draws: Draws) -> Option<PromptText>;
}

/// The random streams of one prompt, by purpose: what one counterfactual draws moves nothing else.
#[derive(Clone, Copy)]
struct Draws {
    seed: u64,
    index: u64,
}

impl Draws {
    fn stream(self, purpose: &'static str) -> Draw {
        Draw::new(self.seed, purpose, self.index)
    }
}

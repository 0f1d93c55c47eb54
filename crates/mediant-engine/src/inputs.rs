//! What a stage sees of its inputs at plan time.

use std::sync::Arc;

use mediant_artifact::{
    ActivationsFacts, DictionaryFacts, DirectionsFacts, Facts, ModelFacts, PromptsFacts, SearchFacts, TableFacts,
    TokenizerFacts, TokensFacts,
};

/// The facts of everything connected to a stage, by port.
#[derive(Debug, Clone, Default)]
pub struct InputFacts {
    ports: Vec<(String, Vec<MemberFacts>)>,
}

/// One artifact connected to a port.
#[derive(Debug, Clone)]
pub struct MemberFacts {
    /// The axes that the port collected, with this member's labels.
    pub labels: Vec<(String, String)>,
    /// The name given to this member, in `models: { original: a, ln_free: b }`.
    pub name: Option<String>,
    /// What is known of it.
    pub facts: Arc<Facts>,
}

impl InputFacts {
    /// Facts by port, in the declared order of the ports.
    pub fn new(ports: Vec<(String, Vec<MemberFacts>)>) -> Self {
        Self { ports }
    }

    /// The facts of the artifact at a single-valued port; `None` if nothing is connected.
    pub fn one(&self, port: &str) -> Option<&Facts> {
        self.many(port).first().map(|member| &*member.facts)
    }

    /// Everything connected to a port.
    pub fn many(&self, port: &str) -> &[MemberFacts] {
        self.ports.iter().find(|(name, _)| name == port).map_or(&[], |(_, members)| members)
    }

    /// The ports that something is connected to.
    pub fn ports(&self) -> impl Iterator<Item = (&str, &[MemberFacts])> {
        self.ports.iter().map(|(name, members)| (name.as_str(), members.as_slice()))
    }

    /// The model at a port.
    pub fn model(&self, port: &str) -> Option<&ModelFacts> {
        self.one(port)?.model()
    }

    /// The tokenizer at a port.
    pub fn tokenizer(&self, port: &str) -> Option<&TokenizerFacts> {
        self.one(port)?.tokenizer()
    }

    /// The tokens at a port.
    pub fn tokens(&self, port: &str) -> Option<&TokensFacts> {
        self.one(port)?.tokens()
    }

    /// The prompts at a port.
    pub fn prompts(&self, port: &str) -> Option<&PromptsFacts> {
        self.one(port)?.prompts()
    }

    /// The activations at a port.
    pub fn activations(&self, port: &str) -> Option<&ActivationsFacts> {
        self.one(port)?.activations()
    }

    /// The dictionary at a port.
    pub fn dictionary(&self, port: &str) -> Option<&DictionaryFacts> {
        self.one(port)?.dictionary()
    }

    /// The directions at a port.
    pub fn directions(&self, port: &str) -> Option<&DirectionsFacts> {
        self.one(port)?.directions()
    }

    /// The search that scores at a port are of.
    pub fn scores(&self, port: &str) -> Option<&SearchFacts> {
        self.one(port)?.scores()
    }

    /// The table at a port.
    pub fn table(&self, port: &str) -> Option<&TableFacts> {
        self.one(port)?.table()
    }
}

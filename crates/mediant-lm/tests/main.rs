//! Language models, against the numbers of transformers and TransformerLens, against damaged checkpoints, and against
//! themselves: other batches, other numbers of threads, other formats on disk.
#![allow(clippy::unwrap_used)]

mod suite {
    mod allocator;
    mod capture;
    mod configs;
    mod edits;
    mod generation;
    mod hooks_page;
    mod hostile;
    mod hostile_configs;
    mod invariance;
    mod modular_addition;
    mod norms;
    mod processing;
    mod prompts;
    mod reference;
    mod removal;
    mod round_trip;
    mod shards;
    pub(crate) mod support;
    mod tasks;
    mod text;
    mod train;
}

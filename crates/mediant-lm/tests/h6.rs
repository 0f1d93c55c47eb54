#![allow(clippy::unwrap_used, dead_code)]
mod suite {
    pub(crate) mod support;
    mod tasks;
    mod text;
}

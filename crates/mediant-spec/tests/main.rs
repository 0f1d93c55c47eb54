//! The pipeline language as its users meet it: files in, expansions or rendered errors out.

#![allow(clippy::unwrap_used)]

mod suite {
    mod config;
    mod expansion;
    mod hostile;
    mod overrides;
    mod properties;
    mod speed;
    mod support;
    mod wrong_expansion;
    mod wrong_file;
    mod wrong_matrix;
    mod wrong_params;
    mod wrong_yaml;
    mod yaml;
}

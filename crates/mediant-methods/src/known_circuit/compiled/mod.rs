//! Programs compiled into transformers in the manner of tracr (Lindner et al. 2023, arXiv:2301.05062).
//!
//! A program is a list of expressions of RASP (Weiss et al. 2021, arXiv:2106.06981). Each becomes a variable with directions of its own:
//! `aggregate` a head, `map` and `sequence_map` a neuron for every value or pair of values, `selector_width` a head that attends equally to
//! all that is selected and to BOS, so that BOS gets the weight 1/(1 + width), and neurons that tell these weights apart. An expression
//! is computed in the first layer that has all it reads.

mod compile;
mod library;
mod program;

pub use library::Program;

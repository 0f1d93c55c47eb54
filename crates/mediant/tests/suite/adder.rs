//! A model of modular addition that is made by hand: numbers on a circle, attention that copies, a neuron for every two numbers.

use std::f32::consts::TAU;

use serde_json::{Map, json};

use super::project::Project;

/// What it adds modulo.
const C: usize = 11;
const D: usize = 32;
const MLP: usize = 4 * D;

/// The frequency that it adds by, and one that nothing reads, with their amplitudes.
pub(crate) const USED: (usize, f32) = (2, 1.0);
pub(crate) const UNUSED: (usize, f32) = (5, 0.5);

/// Where attention copies both numbers to, and where neurons write the answer.
const COPIED: usize = 4;
const ANSWER: usize = 6;

/// Cosine and sine of a number.
fn circle(k: usize, t: usize) -> [f32; 2] {
    let angle = TAU * ((k * t) % C) as f32 / C as f32;
    [angle.cos(), angle.sin()]
}

/// Rows by columns, filled at some places.
fn matrix(rows: usize, columns: usize, entries: impl IntoIterator<Item = (usize, usize, f32)>) -> Vec<f32> {
    let mut values = vec![0.0; rows * columns];
    entries.into_iter().for_each(|(row, column, value)| values[row * columns + column] = value);
    values
}

/// Writes it to a folder of the project, in the files of Zhong et al. 2023.
pub(crate) fn write_adder(project: &Project, folder: &str) {
    let embedding = (0..C).flat_map(|t| {
        let wave = move |(k, amplitude): (usize, f32), first: usize| {
            circle(k, t).into_iter().enumerate().map(move |(i, x)| (first + i, t, amplitude * x))
        };
        wave(USED, 0).chain(wave(UNUSED, 2))
    });
    // A neuron of a0 and b0 is driven by how near a is to a0 and b to b0; what is copied is a + b, less b.
    let neurons = (0..C * C).flat_map(|neuron| {
        let (a, b) = (circle(USED.0, neuron / C), circle(USED.0, neuron % C));
        (0..2).flat_map(move |i| [(neuron, COPIED + i, a[i]), (neuron, i, b[i] - a[i])])
    });
    let answers = (0..C * C).map(|neuron| (ANSWER + (neuron / C + neuron % C) % C, neuron, 20.0));
    let tensors = [
        ("embed.W_E", vec![D, C], matrix(D, C, embedding)),
        ("pos_embed.W_pos", vec![2, D], vec![0.0; 2 * D]),
        ("unembed.W_U", vec![D, C], matrix(D, C, (0..C).map(|answer| (ANSWER + answer, answer, 1.0)))),
        ("blocks.0.attn.W_Q", vec![1, D, D], vec![0.0; D * D]),
        ("blocks.0.attn.W_K", vec![1, D, D], vec![0.0; D * D]),
        ("blocks.0.attn.W_V", vec![1, D, D], matrix(D, D, [(0, 0, 1.0), (1, 1, 1.0)])),
        ("blocks.0.attn.W_O", vec![D, D], matrix(D, D, [(COPIED, 0, 1.0), (COPIED + 1, 1, 1.0)])),
        ("blocks.0.mlp.W_in", vec![MLP, D], matrix(MLP, D, neurons)),
        ("blocks.0.mlp.b_in", vec![MLP], vec![-0.5; MLP]),
        ("blocks.0.mlp.W_out", vec![D, MLP], matrix(D, MLP, answers)),
        ("blocks.0.mlp.b_out", vec![D], vec![0.0; D]),
    ];
    let (mut header, mut bytes) = (Map::new(), Vec::new());
    for (name, shape, values) in tensors {
        let start = bytes.len();
        values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        let entry = json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, bytes.len()] });
        header.insert(name.to_owned(), entry);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let file = [&(header.len() as u64).to_le_bytes(), &header[..], &bytes].concat();
    // Attention weights of 1 on both positions.
    let config = json!({ "C": C, "n_heads": 1, "d_model": D, "n_layers": 1, "attention_dir": "casual", "act_fn": "ReLU", "attn_coeff": 0.0 });
    std::fs::create_dir(project.path(folder)).unwrap();
    std::fs::write(project.path(folder).join("model.safetensors"), file).unwrap();
    std::fs::write(project.path(folder).join("config.json"), config.to_string()).unwrap();
}

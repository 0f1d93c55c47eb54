//! Vectors in binary columns, as far as they are described rather than computed with.

use mediant_artifact::VectorEntry;

/// `<768 × float32>` if the length is that of a known kind of vector, else `<3072 bytes>`.
pub(crate) fn describe(bytes: usize, known: &[VectorEntry]) -> String {
    let fits = |entry: &&VectorEntry| entry.shape.iter().product::<usize>() * entry.dtype.size() == bytes;
    match known.iter().find(fits) {
        Some(entry) => format!("<{}>", shape(entry)),
        None => format!("<{bytes} bytes>"),
    }
}

/// `768 × float32`.
pub(crate) fn shape(entry: &VectorEntry) -> String {
    let sides: Vec<String> = entry.shape.iter().map(usize::to_string).collect();
    format!("{} × {}", sides.join(" × "), entry.dtype.name())
}

/// The double that prints as this float does: 0.1 and not 0.10000000149011612.
pub(crate) fn widen(x: f32) -> f64 {
    x.to_string().parse().unwrap_or(f64::from(x))
}

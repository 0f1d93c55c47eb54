//! Activations: where they come from, and statistics of each hook over a sample of rows.

use mediant_artifact::{ActivationsReader, Artifact, Vectors};

use super::rows::more;
use crate::error::Result;
use crate::number::{count, float};
use crate::page::Page;
use crate::table::{Cell, TextTable};

/// Rows per hook that statistics are taken from, evenly spaced.
const SAMPLE: u64 = 4096;
/// Hooks whose first numbers are shown.
const SHOWN_HOOKS: usize = 3;
const SHOWN_NUMBERS: usize = 4;

pub(super) fn show(artifact: &Artifact, head: usize, page: &mut Page) -> Result<()> {
    let activations = ActivationsReader::open(artifact)?;
    let meta = &activations.meta;
    page.facts(
        "Activations",
        [
            ("rows", Cell::Count(meta.rows)),
            ("dtype", Cell::text(meta.dtype.name())),
            ("positions", Cell::text(&meta.positions)),
            ("prepend BOS", Cell::text(if meta.prepend_bos { "yes" } else { "no" })),
            ("context", Cell::Count(meta.context as u64)),
            ("model", Cell::Digest(meta.model.to_string())),
            ("tokens", Cell::Digest(meta.tokens.to_string())),
        ],
    );
    let mut table = TextTable::new(["hook", "shape", "mean_norm", "mean", "std", "min", "max", "not_finite"]);
    for hook in &meta.hooks {
        let vectors = activations.hook(&hook.name)?;
        let moments = Moments::of(&vectors)?;
        let number = |x: Option<f64>| Cell::or_empty(x, Cell::Float);
        table.push([
            Cell::text(&hook.name),
            Cell::text(format!("{:?}", hook.shape)),
            number(moments.mean_norm),
            number(moments.mean),
            number(moments.std),
            number(moments.min),
            number(moments.max),
            Cell::Count(moments.not_finite),
        ]);
    }
    table.note(if meta.rows > SAMPLE {
        format!("over {} of {} rows, evenly spaced", count(SAMPLE), count(meta.rows))
    } else {
        "over all rows".to_string()
    });
    page.table("Statistics", table);
    page.table("First rows", first(&activations, head)?);
    Ok(())
}

/// The first rows of the index, beside the first numbers of the first hooks.
fn first(activations: &ActivationsReader, head: usize) -> Result<TextTable> {
    let hooks = &activations.meta.hooks[..activations.meta.hooks.len().min(SHOWN_HOOKS)];
    let columns = ["example", "position", "token"].into_iter().chain(hooks.iter().map(|hook| hook.name.as_str()));
    let mut table = TextTable::new(columns);
    let index = activations.index()?;
    let vectors = hooks.iter().map(|hook| activations.hook(&hook.name)).collect::<Result<Vec<_>, _>>()?;
    for row in 0..head.min(index.example.len()) {
        let ids = [index.example[row].into(), index.position[row].into(), i128::from(index.token[row])];
        let mut cells: Vec<Cell> = ids.into_iter().map(Cell::Int).collect();
        for vectors in &vectors {
            let mut numbers = vec![0.0; vectors.width()];
            vectors.gather_f32(&[row as u64], &mut numbers)?;
            let mut shown: Vec<String> = numbers.iter().take(SHOWN_NUMBERS).map(|&x| float(x.into())).collect();
            if numbers.len() > SHOWN_NUMBERS {
                shown.push("…".to_string());
            }
            cells.push(Cell::text(shown.join(" ")));
        }
        table.push(cells);
    }
    more(&mut table, activations.meta.rows, "row");
    Ok(table)
}

/// Statistics over the numbers of sampled rows; those that are not finite are counted and otherwise left out.
#[derive(Default)]
struct Moments {
    /// Mean Euclidean norm of the rows.
    mean_norm: Option<f64>,
    mean: Option<f64>,
    /// Population standard deviation.
    std: Option<f64>,
    min: Option<f64>,
    max: Option<f64>,
    not_finite: u64,
}

impl Moments {
    #[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
    fn of(vectors: &Vectors) -> Result<Self> {
        let rows = vectors.rows();
        let sample = rows.min(SAMPLE);
        let mut buffer = vec![0.0f32; vectors.width()];
        let (mut n, mut norms, mut sum, mut squares, mut not_finite) = (0u64, 0.0, 0.0, 0.0, 0u64);
        let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
        // Deviations from the first finite number: sums of squares of large, nearly equal numbers would cancel.
        let mut origin = None;
        for i in 0..sample {
            let row = (u128::from(i) * u128::from(rows) / u128::from(sample)) as u64;
            vectors.gather_f32(&[row], &mut buffer)?;
            let mut norm = 0.0;
            for x in buffer.iter().map(|&x| f64::from(x)) {
                if !x.is_finite() {
                    not_finite += 1;
                    continue;
                }
                let d = x - *origin.get_or_insert(x);
                n += 1;
                sum += d;
                squares += d * d;
                norm += x * x;
                min = x.min(min);
                max = x.max(max);
            }
            norms += norm.sqrt();
        }
        let Some(origin) = origin else {
            return Ok(Self { not_finite, ..Self::default() });
        };
        let mean = sum / n as f64;
        Ok(Self {
            mean_norm: Some(norms / sample as f64),
            mean: Some(origin + mean),
            std: Some((squares / n as f64 - mean * mean).max(0.0).sqrt()),
            min: Some(min),
            max: Some(max),
            not_finite,
        })
    }
}

//! What a transformer with a known circuit is made of: variables, each in directions of its own, and the heads and neurons that
//! read some and write others.

/// A variable of a [`Wiring`]: a place in the residual stream, of one direction a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Var(pub(super) usize);

/// A variable's name and number of values. A variable that is a number has one value.
#[derive(Clone, Debug)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) size: usize,
}

/// What a pair of query and key adds to the attention score, in nats.
#[derive(Clone, Debug)]
pub(crate) struct Score {
    /// The variable at the query; every query asks the same without one.
    pub(crate) query: Option<Var>,
    /// The variable at the key.
    pub(crate) key: Var,
    /// By value of the query (one row without a variable) and value of the key.
    pub(crate) nats: Vec<Vec<f64>>,
}

/// A head: the sum of its scores says where it attends, and what stands there is written.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) scores: Vec<Score>,
    /// What is read where it attends.
    pub(crate) value: Var,
    /// What is written.
    pub(crate) write: Var,
    /// The value written for each value read; none writes nothing.
    pub(crate) table: Vec<Option<usize>>,
}

/// One direction of a variable, and a weight.
pub(crate) type Weighted = (Var, usize, f64);

/// A neuron of an MLP: `max(0, Σ reads + bias)` times what it writes.
#[derive(Clone, Debug)]
pub(crate) struct Neuron {
    pub(crate) reads: Vec<Weighted>,
    pub(crate) bias: f64,
    pub(crate) writes: Vec<Weighted>,
}

/// Attention and MLP of one layer. A head that is absent is idle.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layer {
    pub(crate) heads: Vec<Option<Head>>,
    pub(crate) neurons: Vec<Neuron>,
}

/// A transformer without norms: GPT-2's blocks. Tokens enter as `token` (and the first, BOS, as `bos`), positions as `position`; the
/// unembedding reads `answer` alone.
#[derive(Clone, Debug)]
pub(crate) struct Wiring {
    /// The words of the vocabulary, BOS not among them: token i + 1 is word i.
    pub(crate) words: Vec<String>,
    /// Tokens of a prompt, BOS included.
    pub(crate) context: usize,
    pub(crate) variables: Vec<Variable>,
    pub(crate) token: Var,
    pub(crate) bos: Var,
    pub(crate) position: Var,
    pub(crate) layers: Vec<Layer>,
    pub(crate) answer: Var,
    /// The word that each value of `answer` stands for.
    pub(crate) answers: Vec<usize>,
    /// By how many nats a head prefers what it looks for.
    pub(crate) coldness: f64,
}

impl Wiring {
    /// Without layers.
    pub(crate) fn new(words: Vec<String>, context: usize, coldness: f64) -> Self {
        let variables = vec![
            Variable { name: "token".to_owned(), size: words.len() },
            Variable { name: "bos".to_owned(), size: 1 },
            Variable { name: "position".to_owned(), size: context },
        ];
        Self {
            words,
            context,
            variables,
            token: Var(0),
            bos: Var(1),
            position: Var(2),
            layers: Vec::new(),
            answer: Var(0),
            answers: Vec::new(),
            coldness,
        }
    }

    /// A new variable.
    pub(crate) fn variable(&mut self, name: &str, size: usize) -> Var {
        self.variables.push(Variable { name: name.to_owned(), size });
        Var(self.variables.len() - 1)
    }

    pub(crate) fn name(&self, var: Var) -> &str {
        &self.variables[var.0].name
    }

    pub(crate) fn size(&self, var: Var) -> usize {
        self.variables[var.0].size
    }

    /// The first direction of a variable.
    pub(crate) fn offset(&self, var: Var) -> usize {
        self.variables[..var.0].iter().map(|variable| variable.size).sum()
    }

    /// Directions of all variables together.
    pub(crate) fn width(&self) -> usize {
        self.variables.iter().map(|variable| variable.size).sum()
    }

    /// A head that looks for keys whose value `wanted` says yes to, by the value of the query. Where there is none it attends to BOS,
    /// which is preferred by half of the coldness to what is not wanted.
    pub(crate) fn select(&self, query: Option<Var>, key: Var, wanted: impl Fn(usize, usize) -> bool) -> Vec<Score> {
        let rows = query.map_or(1, |query| self.size(query));
        let nats = |q, k| if wanted(q, k) { self.coldness } else { 0.0 };
        let nats = (0..rows).map(|q| (0..self.size(key)).map(|k| nats(q, k)).collect()).collect();
        vec![Score { query, key, nats }, self.otherwise_bos()]
    }

    fn otherwise_bos(&self) -> Score {
        Score { query: None, key: self.bos, nats: vec![vec![self.coldness / 2.0]] }
    }

    /// What keeps a query from its own position.
    pub(crate) fn not_itself(&self) -> Score {
        let nats = |q, k| if q == k { -self.coldness } else { 0.0 };
        let row = |q| (0..self.context).map(|k| nats(q, k)).collect();
        Score { query: Some(self.position), key: self.position, nats: (0..self.context).map(row).collect() }
    }

    /// A head that copies the variable it reads.
    pub(crate) fn copying(&self, scores: Vec<Score>, value: Var, write: Var) -> Head {
        Head { scores, value, write, table: (0..self.size(value)).map(Some).collect() }
    }

    /// One neuron for each value of a variable that `to` gives a value of `write`.
    pub(crate) fn map(&self, of: Var, write: Var, to: impl Fn(usize) -> usize) -> Vec<Neuron> {
        (0..self.size(of)).map(|value| detector(vec![(of, value, 1.0)], (write, to(value)))).collect()
    }

    /// One neuron for each pair of values.
    pub(crate) fn map_two(&self, a: Var, b: Var, write: Var, to: impl Fn(usize, usize) -> usize) -> Vec<Neuron> {
        let pairs = (0..self.size(a)).flat_map(|x| (0..self.size(b)).map(move |y| (x, y)));
        pairs.map(|(x, y)| detector(vec![(a, x, 1.0), (b, y, 1.0)], (write, to(x, y)))).collect()
    }
}

/// Slope of detectors: what they are fed is 10 away from 0, where GELU is a ReLU to the last bit.
const SLOPE: f64 = 20.0;

/// A neuron that writes a value where all it reads is there: 1 each.
fn detector(reads: Vec<Weighted>, (write, value): (Var, usize)) -> Neuron {
    let threshold = reads.len() as f64 - 0.5;
    let reads = reads.into_iter().map(|(var, value, weight)| (var, value, SLOPE * weight)).collect();
    Neuron { reads, bias: -SLOPE * threshold, writes: vec![(write, value, 2.0 / SLOPE)] }
}

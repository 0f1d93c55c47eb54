//! From expressions to heads and neurons.

use super::super::wiring::{Head, Layer, Neuron, Score, Var, Wiring};
use super::program::{Expression, Op, Select, Source};

/// Heads of a layer: more where a program needs them, and one of every layer is idle.
const HEADS: usize = 4;

/// A program on its way into a wiring.
struct Compiler {
    wiring: Wiring,
    /// By expression, its variable and when it is there: 2ℓ before layer ℓ, 2ℓ + 1 after its attention.
    done: Vec<(Var, usize)>,
}

/// Compiles a program whose last expression answers, with the words that its values stand for.
pub(super) fn compile(
    source: &Source,
    words: Vec<String>,
    context: usize,
    answers: Vec<usize>,
    coldness: f64,
) -> Wiring {
    let mut compiler = Compiler { wiring: Wiring::new(words, context, coldness), done: Vec::new() };
    for (name, expression) in &source.ops {
        let done = compiler.expression(name, expression);
        compiler.done.push(done);
    }
    let answer = compiler.done.last().map_or(compiler.wiring.token, |(var, _)| *var);
    let mut wiring = Wiring { answer, answers, ..compiler.wiring };
    let most = wiring.layers.iter().map(|layer| layer.heads.len() + 1).max().unwrap_or(1).max(HEADS);
    wiring.layers.iter_mut().for_each(|layer| layer.heads.resize_with(most, || None));
    wiring
}

impl Compiler {
    fn var(&self, op: Op) -> Var {
        self.done[op.0].0
    }

    /// When the last of some expressions is there.
    fn ready(&self, ops: &[Op]) -> usize {
        ops.iter().map(|op| self.done[op.0].1).max().unwrap_or(0)
    }

    fn layer(&mut self, at: usize) -> &mut Layer {
        if self.wiring.layers.len() <= at {
            self.wiring.layers.resize_with(at + 1, Layer::default);
        }
        &mut self.wiring.layers[at]
    }

    fn expression(&mut self, name: &str, expression: &Expression) -> (Var, usize) {
        match *expression {
            Expression::Tokens => (self.wiring.token, 0),
            Expression::Indices => (self.wiring.position, 0),
            Expression::Aggregate(select, value) => {
                let (of, ready) = (self.var(value), self.ready(&[select.query, select.key, value]));
                let write = self.wiring.variable(name, self.wiring.size(of));
                let scores = self.select(select);
                let head = self.wiring.copying(scores, of, write);
                (write, self.head(ready, head))
            }
            Expression::SelectorWidth(select) => self.selector_width(name, select),
            Expression::Map(of, results, to) => {
                let (of, ready) = (self.var(of), self.ready(&[of]));
                let write = self.wiring.variable(name, results);
                let neurons = self.wiring.map(of, write, to);
                (write, self.neurons(ready, neurons))
            }
            Expression::SequenceMap(a, b, results, to) => {
                let (ready, a, b) = (self.ready(&[a, b]), self.var(a), self.var(b));
                let write = self.wiring.variable(name, results);
                let neurons = self.wiring.map_two(a, b, write, to);
                (write, self.neurons(ready, neurons))
            }
        }
    }

    fn select(&self, Select { query, key, wanted }: Select) -> Vec<Score> {
        self.wiring.select(Some(self.var(query)), self.var(key), wanted)
    }

    /// Puts a head into the first layer where what it reads is there; when what it writes is.
    fn head(&mut self, ready: usize, head: Head) -> usize {
        let at = ready.div_ceil(2);
        self.layer(at).heads.push(Some(head));
        2 * at + 1
    }

    /// Puts neurons into the first MLP after what they read.
    fn neurons(&mut self, ready: usize, neurons: Vec<Neuron>) -> usize {
        let at = ready / 2;
        self.layer(at).neurons.extend(neurons);
        2 * at + 2
    }

    fn selector_width(&mut self, name: &str, select: Select) -> (Var, usize) {
        let ready = self.ready(&[select.query, select.key]);
        let (bos, coldness, counts) = (self.wiring.bos, self.wiring.coldness, self.wiring.context);
        let weight = self.wiring.variable(&format!("{name}_weight"), 1);
        let mut scores = self.select(select);
        // BOS counts as selected, as one more.
        scores.push(Score { query: None, key: bos, nats: vec![vec![coldness / 2.0]] });
        let head = self.wiring.copying(scores, bos, weight);
        let ready = self.head(ready, head);
        let width = self.wiring.variable(name, counts);
        (width, self.neurons(ready, tell_apart(weight, width, counts)))
    }
}

/// Neurons that write which of 1, 1/2, … 1/`counts` a number is: value i for 1/(1 + i).
///
/// A step at t is `(max(0, s(x − t) + h) − max(0, s(x − t) − h)) / 2h`: 0 below, 1 above. Between two neighbouring steps stands one number.
fn tell_apart(number: Var, write: Var, counts: usize) -> Vec<Neuron> {
    // Where GELU is a ReLU to the last bit, and half of the way that a step takes.
    const FAR: f64 = 10.0;
    const HALF: f64 = 1.0;
    let last = counts as f64;
    let narrowest = (1.0 / (last - 1.0) - 1.0 / last) / 2.0;
    let slope = (FAR + HALF) / narrowest;
    let step = |i: usize| {
        let between = (1.0 / (1.0 + i as f64) + 1.0 / (2.0 + i as f64)) / 2.0;
        let writes = |sign: f64| {
            // Above the step the count is at most i; below it, at least i + 1.
            let weight = sign / (2.0 * HALF);
            vec![(write, i, weight), (write, i + 1, -weight)]
        };
        [HALF, -HALF].map(|shift| Neuron {
            reads: vec![(number, 0, slope)],
            bias: -slope * between + shift,
            writes: writes(shift / HALF),
        })
    };
    // What is below every step is the largest count: there is nothing to take it from, so it is always written.
    let always = Neuron { reads: Vec::new(), bias: 1.0, writes: vec![(write, counts - 1, 1.0)] };
    (0..counts - 1).flat_map(step).chain([always]).collect()
}

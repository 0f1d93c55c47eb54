//! Expressions of RASP, over a causal sequence with BOS before it.

/// An expression of a [`Source`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Op(pub(super) usize);

/// Which pairs of positions are selected: by the value at the query and that at the key.
#[derive(Clone, Copy)]
pub(super) struct Select {
    pub(super) query: Op,
    pub(super) key: Op,
    pub(super) wanted: fn(usize, usize) -> bool,
}

/// What an expression is.
pub(super) enum Expression {
    /// The word at each position.
    Tokens,
    /// The position.
    Indices,
    /// The value at the one position that is selected.
    Aggregate(Select, Op),
    /// How many positions are selected.
    SelectorWidth(Select),
    /// A function of a value, with so many results.
    Map(Op, usize, fn(usize) -> usize),
    /// A function of two values.
    SequenceMap(Op, Op, usize, fn(usize, usize) -> usize),
}

/// A program: expressions in an order in which they can be computed.
#[derive(Default)]
pub(super) struct Source {
    pub(super) ops: Vec<(&'static str, Expression)>,
}

impl Source {
    fn add(&mut self, name: &'static str, expression: Expression) -> Op {
        self.ops.push((name, expression));
        Op(self.ops.len() - 1)
    }

    pub(super) fn tokens(&mut self) -> Op {
        self.add("token", Expression::Tokens)
    }

    pub(super) fn indices(&mut self) -> Op {
        self.add("position", Expression::Indices)
    }

    pub(super) fn aggregate(&mut self, name: &'static str, select: Select, value: Op) -> Op {
        self.add(name, Expression::Aggregate(select, value))
    }

    pub(super) fn selector_width(&mut self, name: &'static str, select: Select) -> Op {
        self.add(name, Expression::SelectorWidth(select))
    }

    pub(super) fn map(&mut self, name: &'static str, of: Op, results: usize, to: fn(usize) -> usize) -> Op {
        self.add(name, Expression::Map(of, results, to))
    }

    pub(super) fn sequence_map(
        &mut self,
        name: &'static str,
        (a, b): (Op, Op),
        results: usize,
        to: fn(usize, usize) -> usize,
    ) -> Op {
        self.add(name, Expression::SequenceMap(a, b, results, to))
    }
}

/// Equal values are selected.
pub(super) fn equal(query: Op, key: Op) -> Select {
    Select { query, key, wanted: |q, k| q == k }
}

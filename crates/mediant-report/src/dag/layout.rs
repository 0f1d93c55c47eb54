//! Ranks and order: which row each stage stands in, and where in that row.

use super::Graph;

/// What occupies a place in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A stage.
    Node(usize),
    /// A net passing through on its way further down.
    Bend,
}

/// A place in a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) rank: usize,
    pub(super) what: What,
}

/// A piece of a net between two neighbouring rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) net: usize,
    pub(super) upper: usize,
    pub(super) lower: usize,
    /// The edge that ends at `lower`, if `lower` is a stage.
    pub(super) edge: Option<usize>,
}

/// Edges that leave a stage together and are drawn as one line that forks.
#[derive(Clone, Debug)]
pub(super) struct Net {
    pub(super) from: usize,
    pub(super) edges: Vec<usize>,
}

/// Rows of slots, top to bottom and left to right.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) slots: Vec<Slot>,
    pub(super) links: Vec<Link>,
    pub(super) rows: Vec<Vec<usize>>,
}

const SWEEPS: usize = 24;

/// Lays out a graph whose edges are grouped into nets.
pub(super) fn layout(graph: &Graph, nets: &[Net]) -> Layout {
    let ranks = ranks(graph);
    let height = ranks.iter().max().map_or(0, |r| r + 1);
    let mut slots: Vec<Slot> = ranks.iter().enumerate().map(|(i, &rank)| Slot { rank, what: What::Node(i) }).collect();
    let mut links = Vec::new();
    for (n, net) in nets.iter().enumerate() {
        let deepest = net.edges.iter().map(|&e| ranks[graph.edges[e].to]).max().unwrap_or(0);
        // The trunk: the stage itself, then a bend in every row on the way to the deepest consumer.
        let mut trunk = net.from;
        for rank in ranks[net.from] + 1..=deepest {
            for &e in net.edges.iter().filter(|&&e| ranks[graph.edges[e].to] == rank) {
                links.push(Link { net: n, upper: trunk, lower: graph.edges[e].to, edge: Some(e) });
            }
            if rank < deepest {
                slots.push(Slot { rank, what: What::Bend });
                links.push(Link { net: n, upper: trunk, lower: slots.len() - 1, edge: None });
                trunk = slots.len() - 1;
            }
        }
    }
    let mut rows = vec![Vec::new(); height];
    for (s, slot) in slots.iter().enumerate() {
        rows[slot.rank].push(s);
    }
    let mut layout = Layout { slots, links, rows };
    layout.order();
    layout
}

/// Ranks by longest path; a stage without inputs then moves down to just above its first consumer.
fn ranks(graph: &Graph) -> Vec<usize> {
    let mut ranks = vec![0usize; graph.nodes.len()];
    let order = graph.topological();
    let mut producers = vec![Vec::new(); graph.nodes.len()];
    let mut first_consumer = vec![usize::MAX; graph.nodes.len()];
    for edge in &graph.edges {
        producers[edge.to].push(edge.from);
    }
    for &node in &order {
        ranks[node] = producers[node].iter().map(|&p| ranks[p] + 1).max().unwrap_or(0);
    }
    for edge in &graph.edges {
        first_consumer[edge.from] = first_consumer[edge.from].min(ranks[edge.to]);
    }
    for node in 0..graph.nodes.len() {
        if producers[node].is_empty() && first_consumer[node] != usize::MAX {
            ranks[node] = first_consumer[node] - 1;
        }
    }
    ranks
}

impl Layout {
    /// Neighbours of every slot in the row above and in the row below.
    pub(super) fn neighbours(&self) -> (Vec<Vec<usize>>, Vec<Vec<usize>>) {
        let mut above = vec![Vec::new(); self.slots.len()];
        let mut below = vec![Vec::new(); self.slots.len()];
        for link in &self.links {
            above[link.lower].push(link.upper);
            below[link.upper].push(link.lower);
        }
        (above, below)
    }

    /// Orders every row by barycentres, sweeping down and up, and keeps the order with the fewest crossings.
    fn order(&mut self) {
        let (above, below) = self.neighbours();
        let mut position = vec![0.0; self.slots.len()];
        for row in &self.rows {
            spread(row, &mut position);
        }
        let mut best = self.rows.clone();
        let mut fewest = self.crossings(&position, &below);
        for sweep in 0..SWEEPS {
            if fewest == 0 {
                break;
            }
            let down = sweep % 2 == 0;
            let neighbours = if down { &above } else { &below };
            for r in 0..self.rows.len() {
                let row = if down { r } else { self.rows.len() - 1 - r };
                let key = |&slot: &usize| -> f64 {
                    let near = &neighbours[slot];
                    // A slot with no neighbour there stays where it is.
                    if near.is_empty() {
                        position[slot]
                    } else {
                        near.iter().map(|&n| position[n]).sum::<f64>() / float(near.len())
                    }
                };
                // The sort is stable: equal barycentres keep their order.
                self.rows[row].sort_by(|a, b| key(a).total_cmp(&key(b)));
                spread(&self.rows[row], &mut position);
            }
            self.transpose(&mut position, &above, &below);
            let now = self.crossings(&position, &below);
            if now < fewest {
                fewest = now;
                best.clone_from(&self.rows);
            }
        }
        self.rows = best;
    }

    /// Swaps neighbours in a row where that removes crossings.
    fn transpose(&mut self, position: &mut [f64], above: &[Vec<usize>], below: &[Vec<usize>]) {
        for row in &mut self.rows {
            for i in 1..row.len() {
                let (a, b) = (row[i - 1], row[i]);
                let cost = |left: usize, right: usize| -> usize {
                    [above, below].iter().map(|side| pair_crossings(&side[left], &side[right], position)).sum()
                };
                if cost(b, a) < cost(a, b) {
                    row.swap(i - 1, i);
                    position.swap(a, b);
                }
            }
        }
    }

    /// Crossings between all neighbouring rows: inversions among the lower ends, taken by upper end.
    fn crossings(&self, position: &[f64], below: &[Vec<usize>]) -> usize {
        let row = |row: &Vec<usize>| {
            let ends = |&slot: &usize| {
                let mut ends: Vec<f64> = below[slot].iter().map(|&n| position[n]).collect();
                ends.sort_by(f64::total_cmp);
                ends
            };
            inversions(&mut row.iter().flat_map(ends).collect::<Vec<f64>>())
        };
        self.rows.iter().map(row).sum()
    }
}

/// Positions in a row, scaled to [0, 1], so that rows of different lengths compare.
fn spread(row: &[usize], position: &mut [f64]) {
    for (i, &slot) in row.iter().enumerate() {
        position[slot] = (float(i) + 0.5) / float(row.len());
    }
}

/// Crossings between the links of a slot and of one to its right.
fn pair_crossings(left: &[usize], right: &[usize], position: &[f64]) -> usize {
    left.iter().map(|&l| right.iter().filter(|&&r| position[r] < position[l]).count()).sum()
}

/// Pairs out of order, by merge sort; `values` come back sorted.
fn inversions(values: &mut [f64]) -> usize {
    let middle = values.len() / 2;
    if middle == 0 {
        return 0;
    }
    let (left, right) = values.split_at_mut(middle);
    let mut count = inversions(left) + inversions(right);
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < right.len() {
        if r == right.len() || (l < left.len() && left[l] <= right[r]) {
            merged.push(left[l]);
            l += 1;
        } else {
            count += left.len() - l;
            merged.push(right[r]);
            r += 1;
        }
    }
    values.copy_from_slice(&merged);
    count
}

#[expect(clippy::cast_precision_loss, reason = "a count of slots")]
fn float(n: usize) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inversions_are_crossings() {
        assert_eq!(inversions(&mut []), 0);
        assert_eq!(inversions(&mut [0.1, 0.2, 0.2, 0.3]), 0);
        assert_eq!(inversions(&mut [0.3, 0.2, 0.1]), 3);
        assert_eq!(inversions(&mut [0.2, 0.4, 0.1, 0.3]), 3);
    }
}

//! Channel routing on a character grid: where lines leave and enter boxes, and on which track each runs sideways.

/// A net between two rows: it leaves at `from` and ends at each of `to`, all in columns.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) from: usize,
    pub(super) to: Vec<usize>,
}

impl Piece {
    /// The columns it spans sideways.
    pub(super) fn span(&self) -> (usize, usize) {
        let ends = || self.to.iter().copied().chain([self.from]);
        (ends().min().unwrap_or(self.from), ends().max().unwrap_or(self.from))
    }

    fn is_straight(&self) -> bool {
        self.to.iter().all(|&to| to == self.from)
    }
}

/// The track of every piece, top track first (`None`: it runs straight down), and the number of tracks.
///
/// Tracks are filled greedily; two pieces share one where their spans leave a column free between them. A piece that leaves in
/// the column where another ends must turn above it, else the two lines would lie on each other. Returns nothing when these
/// demands form a circle.
pub(super) fn tracks(pieces: &[Piece]) -> Option<(Vec<Option<usize>>, usize)> {
    let turning: Vec<usize> = (0..pieces.len()).filter(|&p| !pieces[p].is_straight()).collect();
    let above = |a: usize, b: usize| a != b && pieces[b].to.contains(&pieces[a].from);
    let mut track: Vec<Option<usize>> = vec![None; pieces.len()];
    let mut used: Vec<Vec<(usize, usize)>> = Vec::new();
    let mut waiting = turning.clone();
    waiting.sort_by_key(|&p| pieces[p].span());
    while !waiting.is_empty() {
        let next = waiting.iter().position(|&p| !waiting.iter().any(|&other| above(other, p)))?;
        let piece = waiting.remove(next);
        let (low, high) = pieces[piece].span();
        let first =
            turning.iter().filter(|&&other| above(other, piece)).filter_map(|&other| track[other]).map(|t| t + 1).max();
        let mut at = first.unwrap_or(0);
        while used.get(at).is_some_and(|spans| spans.iter().any(|&(l, h)| low <= h + 1 && l <= high + 1)) {
            at += 1;
        }
        if at >= used.len() {
            used.resize_with(at + 1, Vec::new);
        }
        used[at].push((low, high));
        track[piece] = Some(at);
    }
    Some((track, used.len()))
}

/// Columns for the lines that enter a box from above.
///
/// `sources` are the columns they come from, ascending; the columns `low..=high` are free for them. They keep their order, two
/// columns apart, as close to straight as possible, and avoid `taken`, the columns in which other lines leave above.
pub(super) fn entries(sources: &[usize], low: usize, high: usize, taken: impl Fn(usize) -> bool) -> Vec<usize> {
    /// Dearer than any detour within a box.
    const TAKEN: usize = 1000;
    const APART: usize = 2;
    let columns = high + 1 - low;
    let price = |source: usize, column: usize| {
        let away = source.abs_diff(column);
        away + if away > 0 && taken(column) { TAKEN } else { 0 }
    };
    // cost[i][c]: the least cost of lines 0..=i with line i at or left of column c; choice[i][c]: where line i then stands.
    let mut cost: Vec<Vec<Option<usize>>> = Vec::with_capacity(sources.len());
    let mut choice: Vec<Vec<usize>> = Vec::with_capacity(sources.len());
    for (i, &source) in sources.iter().enumerate() {
        let (mut costs, mut choices): (Vec<Option<usize>>, Vec<usize>) = (Vec::new(), Vec::new());
        for c in 0..columns {
            let before = if i == 0 { Some(0) } else { c.checked_sub(APART).and_then(|b| cost[i - 1][b]) };
            let here = before.map(|b| b + price(source, low + c));
            let (left, stood) = if c == 0 { (None, 0) } else { (costs[c - 1], choices[c - 1]) };
            // A later column wins only when it is cheaper.
            match (here, left) {
                (Some(h), Some(l)) if l <= h => (costs.push(Some(l)), choices.push(stood)),
                (Some(h), _) => (costs.push(Some(h)), choices.push(c)),
                (None, l) => (costs.push(l), choices.push(stood)),
            };
        }
        cost.push(costs);
        choice.push(choices);
    }
    let mut found = vec![low; sources.len()];
    let mut limit = columns.saturating_sub(1);
    for i in (0..sources.len()).rev() {
        let column = choice[i].get(limit).copied().unwrap_or(0);
        found[i] = low + column;
        limit = column.saturating_sub(APART);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_above_its_box_enters_straight() {
        assert_eq!(entries(&[7], 3, 20, |_| false), [7]);
        assert_eq!(entries(&[1, 7, 40], 3, 20, |_| false), [3, 7, 20]);
        // Another line leaves above column 3.
        assert_eq!(entries(&[1], 3, 20, |c| c == 3), [4]);
    }

    #[test]
    fn entries_keep_their_distance() {
        assert_eq!(entries(&[5, 5, 5], 3, 9, |_| false), [3, 5, 7]);
    }

    #[test]
    fn lines_do_not_lie_on_each_other() {
        let a = Piece { from: 4, to: vec![10] };
        let b = Piece { from: 10, to: vec![20] };
        // b leaves where a ends: b turns first.
        assert_eq!(tracks(&[a.clone(), b.clone()]), Some((vec![Some(1), Some(0)], 2)));
        let back = Piece { from: 10, to: vec![4] };
        assert_eq!(tracks(&[a, back]), None);
        let far = Piece { from: 40, to: vec![50] };
        assert_eq!(tracks(&[b, far]), Some((vec![Some(0), Some(0)], 1)));
    }
}

//! Trees of features, numbered breadth first.

use std::ops::Range;

use mediant_tensor::random;

use super::config::Hierarchy;

/// The trees. Features that are in no tree come after all that are in one.
#[derive(Clone, Debug, Default)]
pub(super) struct Forest {
    roots: usize,
    branching: usize,
    /// Features in trees.
    size: usize,
    /// By parent: whether at most one of its children fires.
    exclusive: Vec<bool>,
    /// Whether children are multiplied by what their parent fires with.
    pub(super) scale: bool,
}

impl Forest {
    pub(super) fn new(hierarchy: Option<&Hierarchy>, features: usize, seed: u64) -> Self {
        let Some(hierarchy) = hierarchy else { return Self::default() };
        let (roots, branching) = (hierarchy.total_root_nodes, hierarchy.branching_factor);
        let (mut level, mut parents, mut size) = (roots, 0usize, roots.min(features));
        for _ in 0..hierarchy.max_depth {
            if size == features {
                break;
            }
            parents = size;
            level = level.saturating_mul(branching);
            size = size.saturating_add(level).min(features);
        }
        let scale = hierarchy.scale_children_by_parent;
        let mut forest = Self { roots, branching, size, exclusive: vec![false; parents], scale };
        // The last parents have fewer children, or none, where features run out.
        let mut eligible: Vec<usize> = (0..parents).filter(|&parent| forest.children(parent).len() >= 2).collect();
        let count = (eligible.len() as f64 * hierarchy.mutually_exclusive_portion) as usize;
        random::shuffle(&mut random::stream(seed, "synthetic hierarchy"), &mut eligible);
        eligible[..count].iter().for_each(|&parent| forest.exclusive[parent] = true);
        forest
    }

    pub(super) fn roots(&self) -> Range<usize> {
        0..self.roots.min(self.size)
    }

    /// The features in no tree, of so many features.
    pub(super) fn outside(&self, features: usize) -> Range<usize> {
        self.size..features
    }

    pub(super) fn children(&self, feature: usize) -> Range<usize> {
        if feature >= self.exclusive.len() {
            return 0..0;
        }
        let start = (self.roots + feature * self.branching).min(self.size);
        start..(start + self.branching).min(self.size)
    }

    /// Whether at most one of a feature's children fires.
    pub(super) fn is_exclusive(&self, feature: usize) -> bool {
        self.exclusive.get(feature).is_some_and(|exclusive| *exclusive)
    }

    /// Probabilities raised so that features fire about as often as wanted although children fire only with their parents
    /// and exclude each other: `p_i / p_parent · (1 + Σ_{siblings j≠i} p_j / p_parent)`, at most 1.
    pub(super) fn compensate(&self, wanted: &[f64]) -> Vec<f64> {
        let mut raised = wanted.to_vec();
        for parent in 0..self.exclusive.len() {
            let children = self.children(parent);
            let total: f64 = wanted[children.clone()].iter().sum();
            for child in children {
                let others = if self.is_exclusive(parent) { (total - wanted[child]).max(0.0) } else { 0.0 };
                raised[child] = wanted[child] / wanted[parent] * (1.0 + others / wanted[parent]);
            }
        }
        raised.into_iter().map(|p| p.min(1.0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Forest;
    use crate::synth::config::Hierarchy;

    #[test]
    fn features_are_numbered_breadth_first() {
        let published = Forest::new(Some(&Hierarchy::default()), 16_384, 0);
        assert_eq!((published.roots(), published.outside(16_384)), (0..128, 10_880..16_384));
        assert_eq!((published.children(0), published.children(127)), (128..132, 636..640));
        assert_eq!((published.children(128), published.children(2687)), (640..644, 10_876..10_880));
        assert_eq!(published.children(2688), 0..0);
        assert!(published.is_exclusive(2687) && !published.is_exclusive(2688));
    }

    #[test]
    fn features_may_run_out() {
        let hierarchy = Hierarchy { total_root_nodes: 2, branching_factor: 3, ..Hierarchy::default() };
        let forest = Forest::new(Some(&hierarchy), 12, 0);
        // 2 roots, 6 children, and 4 grandchildren: 3 of the first child, 1 of the second.
        assert_eq!((forest.children(2), forest.children(3), forest.children(4)), (8..11, 11..12, 12..12));
        assert!(forest.is_exclusive(2) && !forest.is_exclusive(3));
        assert!(forest.outside(12).is_empty());
    }

    #[test]
    fn a_part_of_the_parents_can_be_exclusive() {
        let hierarchy = Hierarchy { mutually_exclusive_portion: 0.25, ..Hierarchy::default() };
        let forest = Forest::new(Some(&hierarchy), 16_384, 0);
        assert_eq!((0..2688).filter(|&parent| forest.is_exclusive(parent)).count(), 672);
    }

    #[test]
    fn compensation_by_hand() {
        let hierarchy = Hierarchy { total_root_nodes: 1, branching_factor: 2, max_depth: 1, ..Hierarchy::default() };
        let raised = Forest::new(Some(&hierarchy), 4, 0).compensate(&[0.5, 0.2, 0.1, 0.05]);
        let expected = [0.5, 0.4 * 1.2, 0.2 * 1.4, 0.05];
        assert!(raised.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-15), "{raised:?}");
        let free = Hierarchy { mutually_exclusive_portion: 0.0, ..hierarchy };
        let raised = Forest::new(Some(&free), 4, 0).compensate(&[0.5, 0.2, 0.1, 0.05]);
        assert_eq!(raised, [0.5, 0.4, 0.2, 0.05]);
    }
}

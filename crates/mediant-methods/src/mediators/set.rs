//! Sets of a family's items.

/// Which of a family's items are in, by their numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ItemSet {
    words: Vec<u64>,
    of: usize,
}

impl ItemSet {
    /// None of so many items.
    pub fn none(of: usize) -> Self {
        Self { words: vec![0; of.div_ceil(64)], of }
    }

    /// All of so many items.
    pub fn all(of: usize) -> Self {
        Self::from_items(of, 0..of)
    }

    /// These of so many items.
    pub fn from_items(of: usize, items: impl IntoIterator<Item = usize>) -> Self {
        let mut set = Self::none(of);
        items.into_iter().for_each(|item| set.insert(item));
        set
    }

    /// Puts an item in.
    pub fn insert(&mut self, item: usize) {
        self.words[item / 64] |= 1 << (item % 64);
    }

    /// Takes an item out.
    pub fn remove(&mut self, item: usize) {
        self.words[item / 64] &= !(1 << (item % 64));
    }

    /// Whether an item is in.
    pub fn has(&self, item: usize) -> bool {
        self.words[item / 64] >> (item % 64) & 1 == 1
    }

    /// How many are in.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether none is in.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Of how many items it is a set.
    pub fn of(&self) -> usize {
        self.of
    }

    /// Those that are in, in order.
    pub fn items(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.of).filter(|item| self.has(*item))
    }

    /// What is not in.
    #[must_use]
    pub fn complement(&self) -> Self {
        Self::from_items(self.of, (0..self.of).filter(|item| !self.has(*item)))
    }
}

#[cfg(test)]
mod tests {
    use super::ItemSet;

    #[test]
    fn a_set_and_its_complement_are_all() {
        let mut set = ItemSet::from_items(130, [0, 64, 129]);
        assert_eq!(set.items().collect::<Vec<_>>(), [0, 64, 129]);
        assert_eq!((set.len(), set.complement().len()), (3, 127));
        assert_eq!(set.complement().complement(), set);
        set.remove(64);
        assert!(!set.has(64) && set.has(129) && !set.is_empty());
        assert_eq!(ItemSet::all(130).complement(), ItemSet::none(130));
    }
}

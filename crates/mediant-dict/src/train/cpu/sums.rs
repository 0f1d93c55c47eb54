//! Numbers that entries have, such as what pulls on them, and their sums by latent: what families with parameters of their own
//! need, of dense rows and of sparse entries.

use mediant_tensor::kernels::sparse::ByLatent;

/// N numbers of every latent, or of every entry.
pub(super) struct Sums<const N: usize>(pub(super) [Vec<f32>; N]);

impl<const N: usize> Sums<N> {
    /// Of no entry yet, by entry.
    pub(super) fn by_entry() -> Self {
        Self(std::array::from_fn(|_| Vec::new()))
    }

    /// Zeros of `d_sae` latents; what is not `wanted` is not summed.
    pub(super) fn by_latent(d_sae: usize, wanted: [bool; N]) -> Self {
        Self(wanted.map(|wanted| if wanted { vec![0.0; d_sae] } else { Vec::new() }))
    }

    /// The next entry.
    pub(super) fn push(&mut self, entry: [f32; N]) {
        self.0.iter_mut().zip(entry).for_each(|(all, x)| all.push(x));
    }

    /// The next entries.
    pub(super) fn append(&mut self, entries: Self) {
        self.0.iter_mut().zip(entries.0).for_each(|(all, some)| all.extend(some));
    }

    /// Adds an entry of a latent.
    #[inline(always)]
    pub(super) fn add_at(&mut self, latent: usize, entry: [f32; N]) {
        for (sums, x) in self.0.iter_mut().zip(entry) {
            if let Some(sum) = sums.get_mut(latent) {
                *sum += x;
            }
        }
    }

    /// Adds the sums of other rows.
    pub(super) fn add(&mut self, other: &Self) {
        for (to, from) in self.0.iter_mut().zip(&other.0) {
            to.iter_mut().zip(from).for_each(|(to, x)| *to += x);
        }
    }

    /// Adds entries.
    pub(super) fn add_entries(&mut self, by_latent: &ByLatent, entries: &Self) {
        for (to, values) in self.0.iter_mut().zip(&entries.0).filter(|(to, _)| !to.is_empty()) {
            by_latent.add_totals(&by_latent.arrange(values), to);
        }
    }
}

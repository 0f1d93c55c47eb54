use std::mem::MaybeUninit;

#[cfg(target_arch = "x86_64")]
use pulp::x86::{V3, V4};
use pulp::{Scalar, Simd, WithSimd};
use rayon::prelude::*;

/// Runs a closure compiled for the widest vectors that the processor has (AVX-512, AVX2 with FMA, else the target's
/// baseline): `simd(#[inline(always)] || …)`. The closure and what it calls must be `#[inline(always)]`, else a large one
/// stays a function compiled for the baseline.
#[inline]
pub fn simd<R>(f: impl FnOnce() -> R) -> R {
    dispatch(f)
}

/// [`simd`] for an operation that names its vectors.
#[inline]
pub(super) fn dispatch<O: WithSimd>(operation: O) -> O::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(v4) = V4::try_new() {
            return Simd::vectorize(v4, operation);
        }
        if let Some(v3) = V3::try_new() {
            return Simd::vectorize(v3, operation);
        }
    }
    Simd::vectorize(Scalar, operation)
}

/// A vector of `len` elements, filled in blocks of `block` elements in parallel: `fill(i, slice)` gets the i-th block,
/// zeroed. Returns the vector and what the calls returned, in order.
///
/// Zeroing a block just before it is filled costs little, as it stays in the cache; zeroing the whole vector first costs a
/// pass over memory.
pub fn build<R: Send>(len: usize, block: usize, fill: impl Fn(usize, &mut [f32]) -> R + Sync) -> (Vec<f32>, Vec<R>) {
    let block = block.max(1);
    let sizes = (0..len).step_by(block).map(|from| block.min(len - from));
    build_parts(sizes, fill)
}

/// [`build`] in blocks of the given sizes.
pub(super) fn build_parts<R: Send>(
    sizes: impl Iterator<Item = usize> + Clone,
    fill: impl Fn(usize, &mut [f32]) -> R + Sync,
) -> (Vec<f32>, Vec<R>) {
    let len = sizes.clone().sum();
    let mut out: Vec<f32> = Vec::with_capacity(len);
    let mut rest = &mut out.spare_capacity_mut()[..len];
    let parts: Vec<_> = sizes.map(|size| rest.split_off_mut(..size).unwrap_or_default()).collect();
    let returned = parts.into_par_iter().enumerate().map(|(i, part)| fill(i, zeroed(part))).collect();
    // SAFETY: the parts cover the first `len` elements of the capacity, as their sizes sum to `len`, and `zeroed` wrote
    // every one of them; a panic in `fill` leaves before this line.
    #[expect(unsafe_code, reason = "every element was written, part by part")]
    unsafe {
        out.set_len(len);
    }
    (out, returned)
}

fn zeroed(chunk: &mut [MaybeUninit<f32>]) -> &mut [f32] {
    chunk.fill(MaybeUninit::new(0.0));
    // SAFETY: the line above wrote every element.
    #[expect(unsafe_code, reason = "every element was just written")]
    unsafe {
        chunk.assume_init_mut()
    }
}

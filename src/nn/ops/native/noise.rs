//! Dropout whose mask is a hash of seed and place: nothing is stored, and any thread can draw any
//! part of it.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::buffer::in_blocks;

/// Numbers that a thread takes at a time.
const CHUNK: usize = 1 << 14;

/// What is set to zero, and which draw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// Probability that a number is dropped, below 1.
    pub share: f32,
    pub seed: u64,
    /// Rows of the mask before those at hand, where several devices share a batch.
    pub first_row: usize,
}

impl Noise {
    /// For a tensor with so many rows in place of each row of the batch.
    pub fn of_members(self, members: usize) -> Noise {
        Noise { first_row: self.first_row * members, ..self }
    }

    /// What kept numbers are multiplied with, so that the mean stays.
    pub fn scale(&self) -> f32 {
        1.0 / (1.0 - self.share)
    }

    /// What a mask is drawn with, the same for all its places.
    fn draw(&self) -> Draw {
        // SplitMix64 (Steele et al. 2014): seeds that differ in any bit give keys that differ in
        // about half of theirs.
        let mut key = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        key = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        key = (key ^ (key >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        key ^= key >> 31;
        Draw {
            keys: [key as u32, (key >> 32) as u32],
            threshold: (f64::from(self.share) * 2f64.powi(32)) as u32,
            scale: self.scale(),
        }
    }
}

#[derive(Clone, Copy)]
struct Draw {
    keys: [u32; 2],
    threshold: u32,
    scale: f32,
}

impl Draw {
    /// The factor of the number at a place: 0 or the scale. The finaliser of MurmurHash3 mixes
    /// place and keys; a row of factors is the same however it is cut.
    #[inline(always)]
    fn factor(&self, place: usize) -> f32 {
        let mut bits = (place as u32).wrapping_mul(0x9e37_79b9) ^ self.keys[0];
        bits ^= bits >> 16;
        bits = bits.wrapping_mul(0x85eb_ca6b) ^ self.keys[1];
        bits ^= bits >> 13;
        bits = bits.wrapping_mul(0xc2b2_ae35);
        bits ^= bits >> 16;
        if bits >= self.threshold { self.scale } else { 0.0 }
    }
}

/// x `[B, width]` times its factors; the gradient is made in the same way.
pub fn dropout(noise: Noise, width: usize, x: &[f32]) -> Vec<f32> {
    let arch = Arch::new();
    let before = noise.first_row * width;
    in_blocks(x.len(), CHUNK, x.par_chunks(CHUNK), |block, y, x| {
        arch.dispatch(Dropout { noise, first: before + block * CHUNK, x, y });
    })
}

struct Dropout<'a> {
    noise: Noise,
    first: usize,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl WithSimd for Dropout<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let draw = self.noise.draw();
        for (at, (y, x)) in self.y.iter_mut().zip(self.x).enumerate() {
            *y = x * draw.factor(self.first + at);
        }
    }
}

/// relu(states + fixed) with dropout: `states [B, T, W]`, `fixed [B, W]`.
pub fn join(
    (months, width): (usize, usize),
    states: &[f32],
    fixed: &[f32],
    noise: Option<Noise>,
) -> Vec<f32> {
    let arch = Arch::new();
    let before = noise.map_or(0, |noise| noise.first_row);
    let rows = states.par_chunks(months * width).zip(fixed.par_chunks(width));
    in_blocks(states.len(), months * width, rows, |row, y, (states, fixed)| {
        let first = (before + row) * months * width;
        arch.dispatch(Join { noise, first, states, fixed, y });
    })
}

struct Join<'a> {
    noise: Option<Noise>,
    first: usize,
    states: &'a [f32],
    fixed: &'a [f32],
    y: &'a mut [f32],
}

impl WithSimd for Join<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let width = self.fixed.len();
        let months = self.y.chunks_exact_mut(width).zip(self.states.chunks_exact(width));
        for (month, (y, states)) in months.enumerate() {
            let first = self.first + month * width;
            // Not max, which would turn a NaN into 0.
            let relu = |sum: f32| if sum < 0.0 { 0.0 } else { sum };
            let sums = states.iter().zip(self.fixed).map(|(s, f)| relu(s + f));
            match self.noise {
                Some(noise) => {
                    let draw = noise.draw();
                    for (at, (y, sum)) in y.iter_mut().zip(sums).enumerate() {
                        *y = sum * draw.factor(first + at);
                    }
                }
                None => y.iter_mut().zip(sums).for_each(|(y, sum)| *y = sum),
            }
        }
    }
}

/// Gradients by states and fixed. A number passed both relu and dropout where y is above 0.
pub fn join_backward(
    (months, width): (usize, usize),
    y: &[f32],
    gradient: &[f32],
    noise: Option<Noise>,
) -> (Vec<f32>, Vec<f32>) {
    let arch = Arch::new();
    let scale = noise.map_or(1.0, |noise| noise.scale());
    let mut fixed = vec![0.0; y.len() / months];
    let rows = y
        .par_chunks(months * width)
        .zip(gradient.par_chunks(months * width))
        .zip(fixed.par_chunks_mut(width));
    let states =
        in_blocks(y.len(), months * width, rows, |_, d_states, ((y, gradient), d_fixed)| {
            arch.dispatch(JoinBackward { scale, y, gradient, d_states, d_fixed });
        });
    (states, fixed)
}

struct JoinBackward<'a> {
    scale: f32,
    y: &'a [f32],
    gradient: &'a [f32],
    d_states: &'a mut [f32],
    d_fixed: &'a mut [f32],
}

impl WithSimd for JoinBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let width = self.d_fixed.len();
        let months = self.y.chunks_exact(width).zip(self.gradient.chunks_exact(width));
        for (d_states, (y, gradient)) in self.d_states.chunks_exact_mut(width).zip(months) {
            let passed = y.iter().zip(gradient);
            for ((d, sum), (y, g)) in d_states.iter_mut().zip(&mut *self.d_fixed).zip(passed) {
                *d = if *y > 0.0 { g * self.scale } else { 0.0 };
                *sum += *d;
            }
        }
    }
}

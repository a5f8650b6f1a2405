//! Mean and largest value so far, beside the state itself, in one pass forward and one backward.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::buffer::in_blocks;

/// States `[B, T, H]` to `[B, T, 3H]`: the state, the mean and the largest of those up to it.
pub fn forward((months, hidden): (usize, usize), states: &[f32]) -> Vec<f32> {
    let arch = Arch::new();
    let row = months * hidden;
    in_blocks(3 * states.len(), 3 * row, states.par_chunks(row), |_, y, states| {
        arch.dispatch(Forward { hidden, states, y });
    })
}

struct Forward<'a> {
    hidden: usize,
    states: &'a [f32],
    y: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let hidden = self.hidden;
        for (month, state) in self.states.chunks_exact(hidden).enumerate() {
            let (before, now) = self.y.split_at_mut(month * 3 * hidden);
            let (last, pooled) = now[..3 * hidden].split_at_mut(hidden);
            let (mean, most) = pooled.split_at_mut(hidden);
            last.copy_from_slice(state);
            if month == 0 {
                mean.copy_from_slice(state);
                most.copy_from_slice(state);
                continue;
            }
            let before = &before[(3 * month - 2) * hidden..];
            let (mean_before, most_before) = before.split_at(hidden);
            let share = 1.0 / (month + 1) as f32;
            for ((mean, before), x) in mean.iter_mut().zip(mean_before).zip(state) {
                *mean = before + (x - before) * share;
            }
            for ((most, before), x) in most.iter_mut().zip(most_before).zip(state) {
                *most = if x > before { *x } else { *before };
            }
        }
    }
}

/// Gradient of the states `[B, T, H]`, given the result and its gradient `[B, T, 3H]`. Where two
/// months share the largest value, the first has it.
pub fn backward((months, hidden): (usize, usize), y: &[f32], gradient: &[f32]) -> Vec<f32> {
    let arch = Arch::new();
    let row = months * hidden;
    let rows = y.par_chunks(3 * row).zip(gradient.par_chunks(3 * row));
    in_blocks(y.len() / 3, row, rows, |_, d_states, (y, gradient)| {
        arch.dispatch(Backward { hidden, y, gradient, d_states });
    })
}

struct Backward<'a> {
    hidden: usize,
    y: &'a [f32],
    gradient: &'a [f32],
    d_states: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let hidden = self.hidden;
        // What later months ask of the mean, and of the largest value, up to the month at hand.
        let mut later = vec![0.0; 2 * hidden];
        let (of_mean, of_most) = later.split_at_mut(hidden);
        let months = self.d_states.len() / hidden;
        for month in (0..months).rev() {
            let at = month * 3 * hidden;
            let d = &mut self.d_states[month * hidden..][..hidden];
            let (d_last, d_pooled) = self.gradient[at..at + 3 * hidden].split_at(hidden);
            let (d_mean, d_most) = d_pooled.split_at(hidden);
            let share = 1.0 / (month + 1) as f32;
            for (((d, d_last), of_mean), d_mean) in
                d.iter_mut().zip(d_last).zip(&mut *of_mean).zip(d_mean)
            {
                *of_mean += d_mean * share;
                *d = d_last + *of_mean;
            }
            of_most.iter_mut().zip(d_most).for_each(|(sum, d_most)| *sum += d_most);
            if month == 0 {
                d.iter_mut().zip(&*of_most).for_each(|(d, of_most)| *d += of_most);
                continue;
            }
            let most = &self.y[at + 2 * hidden..][..hidden];
            let before = &self.y[at - hidden..at];
            for (((d, of_most), most), before) in
                d.iter_mut().zip(&mut *of_most).zip(most).zip(before)
            {
                let taken = if most > before { *of_most } else { 0.0 };
                *d += taken;
                *of_most -= taken;
            }
        }
    }
}

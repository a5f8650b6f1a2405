//! One row in as many versions as there are members, each times the member's scale, through a
//! layer.
//!
//! The members share the row's zeros, of which a relu made about half its numbers. They are left
//! out: a product with zero adds nothing.

use pulp::{Simd, WithSimd};

use super::super::product::Tile;
use super::pack::panels;
use super::tile::{bias, relu, store};
use super::{Activation, TILE_ROWS};

/// What each of k members multiplies a row of K numbers with: all members' of a number side by
/// side.
#[derive(Debug)]
pub struct Scale {
    members: usize,
    /// `[K, k]`, with a number more where k is odd, see [`Members::panel`].
    numbers: Vec<f32>,
}

impl Scale {
    /// Of `[k, K]`.
    pub fn new(members: usize, scale: &[f32]) -> Self {
        let width = scale.len() / members;
        let stride = members.next_multiple_of(2);
        let mut numbers = vec![0.0; width * stride];
        for (member, scale) in scale.chunks_exact(width).enumerate() {
            let places = numbers.chunks_exact_mut(stride);
            places.zip(scale).for_each(|(place, scale)| place[member] = *scale);
        }
        Scale { members, numbers }
    }

    pub fn members(&self) -> usize {
        self.members
    }

    /// K.
    pub fn width(&self) -> usize {
        self.numbers.len() / self.stride()
    }

    fn stride(&self) -> usize {
        self.members.next_multiple_of(2)
    }

    /// x `[K]` to y `[k, K]`.
    pub fn spread(&self, x: &[f32], y: &mut [f32]) {
        for (member, y) in y.chunks_exact_mut(x.len()).enumerate() {
            let scales = self.numbers.chunks_exact(self.stride());
            y.iter_mut().zip(x).zip(scales).for_each(|((y, x), scale)| *y = x * scale[member]);
        }
    }
}

/// Scratch that one row after the other takes.
#[derive(Debug, Default)]
pub struct Room {
    /// Where the row is not zero.
    places: Vec<u32>,
    /// The row there, times the scales: `[places, k]`, as wide as those of [`Scale`].
    scaled: Vec<f32>,
}

pub(super) struct Members<'a> {
    /// `[K]`.
    pub x: &'a [f32],
    pub scale: &'a Scale,
    /// `[K, N]`, packed.
    pub packed: &'a [f32],
    /// `[N]`.
    pub bias: &'a [f32],
    pub activation: Activation,
    /// `[k, N]`.
    pub y: &'a mut [f32],
    pub room: &'a mut Room,
}

impl WithSimd for Members<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        self.gather();
        let depth = self.x.len();
        for (first, vectors) in panels::<S>(self.bias.len()) {
            let width = vectors * S::F32_LANES;
            let panel = S::as_simd_f32s(&self.packed[first * depth..][..width * depth]).0;
            match vectors {
                4 => self.panel::<S, 4>(simd, first, panel.as_chunks().0),
                2 => self.panel::<S, 2>(simd, first, panel.as_chunks().0),
                _ => self.panel::<S, 1>(simd, first, panel.as_chunks().0),
            }
        }
    }
}

impl Members<'_> {
    #[inline(always)]
    fn gather(&mut self) {
        let Room { places, scaled } = &mut *self.room;
        places.clear();
        scaled.clear();
        let scales = self.scale.numbers.chunks_exact(self.scale.stride());
        for ((place, x), scale) in (0u32..).zip(self.x).zip(scales).filter(|((_, x), _)| **x != 0.0)
        {
            places.push(place);
            scaled.extend(scale.iter().map(|scale| x * scale));
        }
    }

    /// Tiles of six members, then one of no more than has to be; their number may be odd.
    #[inline(always)]
    fn panel<S: Simd, const V: usize>(&mut self, simd: S, first: usize, panel: &[[S::f32s; V]]) {
        let members = self.scale.members;
        let mut member = 0;
        while member < members {
            member += match members - member {
                1..=2 => self.tile::<S, 2, V>(simd, (member, first), panel),
                3..=4 => self.tile::<S, 4, V>(simd, (member, first), panel),
                _ => self.tile::<S, TILE_ROWS, V>(simd, (member, first), panel),
            };
        }
    }

    /// R members, or as many as there are.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const V: usize>(
        &mut self,
        simd: S,
        (member, first): (usize, usize),
        panel: &[[S::f32s; V]],
    ) -> usize {
        let Room { places, scaled } = &*self.room;
        let (columns, left) = (self.bias.len(), self.scale.members - member);
        let mut acc: Tile<S, R, V> = [bias(simd, self.bias, first); R];
        for (place, x) in places.iter().zip(scaled.chunks_exact(self.scale.stride())) {
            let (line, x) = (&panel[*place as usize], &x[member..member + R]);
            for r in 0..R {
                let x = simd.splat_f32s(x[r]);
                for v in 0..V {
                    acc[r][v] = simd.mul_add_e_f32s(x, line[v], acc[r][v]);
                }
            }
        }
        if self.activation == Activation::Relu {
            relu(simd, &mut acc);
        }
        store(simd, acc, (&mut self.y[member * columns..], columns, left), first);
        R
    }
}

//! Small matrix products in registers, generic over the vector unit.
//!
//! A tile is R rows times V vectors of the result, kept in registers while it is summed up. Its
//! right factor is packed: for each k, V vectors side by side.

use pulp::Simd;

/// `[R, V]` vectors.
pub type Tile<S, const R: usize, const V: usize> = [[<S as Simd>::f32s; V]; R];

/// acc += A B for the rows `a` (each of length k) and the packed panel `b` (`[k, V]` vectors).
#[inline(always)]
pub fn rows_times<S: Simd, const R: usize, const V: usize>(
    simd: S,
    mut acc: Tile<S, R, V>,
    a: [&[f32]; R],
    b: &[[S::f32s; V]],
) -> Tile<S, R, V> {
    let a: [&[f32]; R] = std::array::from_fn(|r| &a[r][..b.len()]);
    for (k, b) in b.iter().enumerate() {
        for r in 0..R {
            let x = simd.splat_f32s(a[r][k]);
            for v in 0..V {
                acc[r][v] = simd.mul_add_e_f32s(x, b[v], acc[r][v]);
            }
        }
    }
    acc
}

/// acc += A^T B: for each k, R numbers of `a` from `at_a` on, and V vectors of `b` from the number
/// `at_b` on, both row-major with the given widths.
#[inline(always)]
pub fn columns_times<S: Simd, const R: usize, const V: usize>(
    simd: S,
    mut acc: Tile<S, R, V>,
    (a, width_a, at_a): (&[f32], usize, usize),
    (b, width_b, at_b): (&[f32], usize, usize),
) -> Tile<S, R, V> {
    for (a, b) in a.chunks_exact(width_a).zip(b.chunks_exact(width_b)) {
        let (x, b) = (&a[at_a..at_a + R], &b[at_b..at_b + V * S::F32_LANES]);
        let b = S::as_simd_f32s(b).0;
        for r in 0..R {
            let x = simd.splat_f32s(x[r]);
            for v in 0..V {
                acc[r][v] = simd.mul_add_e_f32s(x, b[v], acc[r][v]);
            }
        }
    }
    acc
}

/// The vector that starts at a number.
#[inline(always)]
pub fn vector<S: Simd>(numbers: &[f32], at: usize) -> S::f32s {
    S::as_simd_f32s(&numbers[at..at + S::F32_LANES]).0[0]
}

#[inline(always)]
pub fn set<S: Simd>(numbers: &mut [f32], at: usize, value: S::f32s) {
    S::as_mut_simd_f32s(&mut numbers[at..at + S::F32_LANES]).0[0] = value;
}

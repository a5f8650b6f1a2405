//! Products by the `gemm` crate, called directly on slices: what this machine's products can reach,
//! for comparison with our kernels (`churn bench`, `scripts/bench/roofline`).

use gemm::Parallelism;

/// A row-major matrix as it lies in memory, or turned.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    numbers: &'a [f32],
    rows: usize,
    columns: usize,
    /// Numbers from a row to the next, and from a column to the next.
    strides: [usize; 2],
}

impl<'a> Matrix<'a> {
    /// `[rows, numbers / rows]`, row-major.
    pub fn new(numbers: &'a [f32], rows: usize) -> Self {
        assert!(rows > 0 && numbers.len().is_multiple_of(rows), "whole rows");
        let columns = numbers.len() / rows;
        Matrix { numbers, rows, columns, strides: [columns, 1] }
    }

    pub fn turned(self) -> Self {
        let [row, column] = self.strides;
        Matrix { rows: self.columns, columns: self.rows, strides: [column, row], ..self }
    }
}

/// `out [a.rows, b.columns]`, row-major, becomes a b; on all threads of the pool.
pub fn product(a: Matrix, b: Matrix, out: &mut [f32]) {
    assert_eq!(a.columns, b.rows, "inner sizes");
    assert_eq!(out.len(), a.rows * b.columns, "the product's size");
    for m in [&a, &b] {
        assert_eq!(m.numbers.len(), m.rows * m.columns, "a matrix fills its numbers");
    }
    let parallelism = match rayon::current_num_threads() {
        1 => Parallelism::None,
        threads => Parallelism::Rayon(threads),
    };
    let [a_row, a_column] = a.strides.map(usize::cast_signed);
    let [b_row, b_column] = b.strides.map(usize::cast_signed);
    #[expect(unsafe_code, reason = "the crate's only interface takes pointers")]
    // SAFETY: `gemm` reads rows x columns numbers of each factor by their strides, all inside the
    // slices: a `Matrix` is all of its slice, row-major or turned, and its size is checked above.
    // It writes rows x columns numbers of `out`, row-major, of which there are as many, and does
    // not read them (`read_dst` is false). `out` is borrowed alone, so that it overlaps no factor.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            out.as_mut_ptr(),
            1,
            b.columns.cast_signed(),
            false,
            a.numbers.as_ptr(),
            a_column,
            a_row,
            b.numbers.as_ptr(),
            b_column,
            b_row,
            0.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small whole numbers, exact in any order, against sums of products.
    #[test]
    fn products_of_all_orientations_are_right() {
        for (m, k, n) in [(1, 1, 1), (2, 3, 4), (17, 5, 33), (100, 70, 130), (3, 600, 2)] {
            let numbers = |count: usize, step: usize| -> Vec<f32> {
                (0..count).map(|at| ((at * step) % 7) as f32 - 3.0).collect()
            };
            let (a, b) = (numbers(m * k, 3), numbers(k * n, 5));
            let mut wanted = vec![0.0; m * n];
            for (at, sum) in wanted.iter_mut().enumerate() {
                *sum = (0..k).map(|i| a[at / n * k + i] * b[i * n + at % n]).sum();
            }
            let turned = |matrix: &[f32], rows: usize| -> Vec<f32> {
                let columns = matrix.len() / rows;
                (0..matrix.len()).map(|at| matrix[at % rows * columns + at / rows]).collect()
            };
            let (a_turned, b_turned) = (turned(&a, m), turned(&b, k));
            for a in [Matrix::new(&a, m), Matrix::new(&a_turned, k).turned()] {
                for b in [Matrix::new(&b, k), Matrix::new(&b_turned, n).turned()] {
                    let mut out = vec![f32::NAN; m * n];
                    product(a, b, &mut out);
                    assert!(out == wanted, "{m} x {k} x {n}, {:?} {:?}", a.strides, b.strides);
                }
            }
        }
    }
}

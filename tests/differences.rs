//! The GRU's gradients by central differences of a loss in f64, computed here by plain loops.

use std::iter::zip;

/// Largest number of multiplications that all differences of a case may take.
const WORK_MAX: usize = 200_000_000;

/// Its square is the error of a difference.
const STEP: f64 = 1e-5;

/// A GRU over a batch, its gates in the order r, z, n.
pub struct Case {
    /// Rows, months, inputs, hidden units.
    pub shape: [usize; 4],
    /// x `[B, T, F]`, start `[B, H]`, input `[F, 3H]` and its bias, hidden `[H, 3H]` and its bias.
    pub values: [Vec<f32>; 6],
    /// `[B, T]`: a month of 0 keeps the state.
    pub mask: Option<Vec<f32>>,
    /// `[B, T, H]`: what the states are weighted with in the loss.
    pub probe: Vec<f32>,
}

impl Case {
    /// Gradients of the loss by each of the values; None where it would take too long.
    pub fn gradients(&self) -> Option<[Vec<f32>; 6]> {
        let [b, t, f, h] = self.shape;
        let numbers: usize = self.values.iter().map(Vec::len).sum();
        if 2 * numbers * b * t * (f + h) * 3 * h > WORK_MAX {
            return None;
        }
        let mut values: [Vec<f64>; 6] =
            self.values.each_ref().map(|v| v.iter().map(|&x| f64::from(x)).collect());
        Some(std::array::from_fn(|of| {
            let slope = |at: usize| {
                let exact = f64::from(self.values[of][at]);
                let mut moved = |by: f64| {
                    values[of][at] = exact + by;
                    self.loss(&values)
                };
                let slope = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
                values[of][at] = exact;
                slope as f32
            };
            (0..self.values[of].len()).map(slope).collect()
        }))
    }

    fn loss(&self, [x, start, input, input_bias, hidden, hidden_bias]: &[Vec<f64>; 6]) -> f64 {
        let [_, months, f, h] = self.shape;
        let sigma = |x: f64| 1.0 / (1.0 + (-x).exp());
        let sums = |row: &[f64], matrix: &[f64], bias: &[f64]| {
            let mut sums = bias.to_vec();
            for (x, line) in zip(row, matrix.chunks_exact(3 * h)) {
                zip(&mut sums, line).for_each(|(sum, weight)| *sum += x * weight);
            }
            sums
        };
        let mut loss = 0.0;
        for (row, start) in start.chunks_exact(h).enumerate() {
            let mut state = start.to_vec();
            for place in row * months..(row + 1) * months {
                let i = sums(&x[place * f..][..f], input, input_bias);
                let u = sums(&state, hidden, hidden_bias);
                let kept = self.mask.as_ref().is_some_and(|mask| mask[place] == 0.0);
                for j in 0..h {
                    let (r, z) = (sigma(i[j] + u[j]), sigma(i[h + j] + u[h + j]));
                    let n = (i[2 * h + j] + r * u[2 * h + j]).tanh();
                    if !kept {
                        state[j] = n + z * (state[j] - n);
                    }
                    loss += state[j] * f64::from(self.probe[place * h + j]);
                }
            }
        }
        loss
    }
}

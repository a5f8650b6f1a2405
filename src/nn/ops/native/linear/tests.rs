//! The kernel on vector units that this machine would not choose: plain numbers, and eight at a
//! time with half the registers.

use pulp::{Scalar, Scalar256b, Simd};
use rand_distr::{Distribution, Uniform};

use super::backward::{BiasGradient, InputBlock, Stride, Unactivate, WeightGradient};
use super::narrow::{Dots, Outer, WeightedSum};
use super::{
    Activation, BLOCK_ROWS, ForwardBlock, Order, Pack, Shape, TILE_ROWS, Upstream, backward,
    forward,
};
use crate::seeds::Seeds;

/// x, weight, bias and the gradient of the output: multiples of 1/8 up to 1, whose products and
/// sums are exact in any order.
struct Case {
    shape: Shape,
    values: [Vec<f32>; 4],
}

/// Output, and gradients by x, weight and bias.
type Found = [Vec<f32>; 4];

const ACTIVATION: Activation = Activation::Relu;

impl Case {
    fn new(shape: Shape) -> Self {
        let Shape { rows, inputs, outputs } = shape;
        let sizes = [rows * inputs, inputs * outputs, outputs, rows * outputs];
        let law = Uniform::new_inclusive(-8i8, 8).expect("valid");
        let values = std::array::from_fn(|at| {
            let mut rng = Seeds::new(1).stream("exact", at as u64);
            (0..sizes[at]).map(|_| f32::from(law.sample(&mut rng)) / 8.0).collect()
        });
        Case { shape, values }
    }

    fn as_chosen(&self) -> Found {
        let [x, weight, bias, gradient] = &self.values;
        let y = forward(self.shape, x, weight, bias, ACTIVATION);
        let up = Upstream { x, weight, y: &y, gradient, activation: ACTIVATION };
        let found = backward(self.shape, &up, true);
        [y, found.x.expect("wanted"), found.weight, found.bias]
    }

    /// As [`forward`] and [`backward`] drive the blocks, in one thread.
    fn on<S: Simd>(&self, simd: S) -> Found {
        let shape @ Shape { rows, inputs, outputs } = self.shape;
        let [x, weight, bias, gradient] = &self.values;
        let activation = ACTIVATION;
        let mut y = vec![0.0; rows * outputs];
        let packed = simd.vectorize(Pack {
            rows: inputs,
            columns: outputs,
            matrix: weight,
            order: Order::RowMajor,
        });
        let blocks = y.chunks_mut(BLOCK_ROWS * outputs).zip(x.chunks(BLOCK_ROWS * inputs));
        for (y, x) in blocks {
            simd.vectorize(ForwardBlock { shape, x, packed: &packed, bias, activation, y });
        }

        let packed = simd.vectorize(Pack {
            rows: outputs,
            columns: inputs,
            matrix: weight,
            order: Order::ColumnMajor,
        });
        let stride = simd.vectorize(Stride(outputs));
        let mut d_z = vec![f32::NAN; rows.next_multiple_of(BLOCK_ROWS) * stride];
        let mut d_x = vec![0.0; rows * inputs];
        let blocks = d_z
            .chunks_mut(BLOCK_ROWS * stride)
            .zip(d_x.chunks_mut(BLOCK_ROWS * inputs))
            .zip(gradient.chunks(BLOCK_ROWS * outputs).zip(y.chunks(BLOCK_ROWS * outputs)));
        for ((d_z, d_x), (gradient, y)) in blocks {
            simd.vectorize(Unactivate { shape, activation, y, gradient, d_z });
            simd.vectorize(InputBlock { shape, d_z, packed: &packed, d_x });
        }
        let mut d_weight = vec![0.0; inputs * outputs];
        for (group, d_weight) in d_weight.chunks_mut(TILE_ROWS * outputs).enumerate() {
            let first = group * TILE_ROWS;
            simd.vectorize(WeightGradient { shape, x, first, d_z: &d_z, d_weight });
        }
        let d_bias = simd.vectorize(BiasGradient { shape, d_z: &d_z });
        [y, d_x, d_weight, d_bias]
    }

    /// The same of a layer with one output.
    fn narrow_on<S: Simd>(&self, simd: S) -> Found {
        let [x, weight, bias, gradient] = &self.values;
        let (inputs, activation) = (self.shape.inputs, ACTIVATION);
        let mut y = vec![0.0; self.shape.rows];
        simd.vectorize(Dots { x, weight, bias: bias[0], activation, y: &mut y });
        let passed = gradient.iter().zip(&y).map(|(g, y)| if *y > 0.0 { *g } else { 0.0 });
        let gradient: Vec<f32> = passed.collect();
        let (d_weight, d_bias) = simd.vectorize(WeightedSum { x, gradient: &gradient, inputs });
        let mut d_x = vec![0.0; x.len()];
        simd.vectorize(Outer { gradient: &gradient, weight, d_x: &mut d_x });
        [y, d_x, d_weight, vec![d_bias]]
    }
}

#[track_caller]
fn check<S: Simd>(simd: S, shape: Shape) {
    let case = Case::new(shape);
    let wanted = case.as_chosen();
    for ((name, got), wanted) in ["y", "x", "weight", "bias"].iter().zip(case.on(simd)).zip(&wanted)
    {
        assert!(got == *wanted, "{name} of {shape:?}");
    }
    if shape.outputs == 1 {
        assert!(case.narrow_on(simd) == wanted, "{shape:?}");
    }
}

#[test]
fn other_units_find_the_same() {
    for rows in [1, 5, 48, 97] {
        for inputs in [1, 7, 36] {
            for outputs in [1, 2, 17, 65, 130] {
                let shape = Shape { rows, inputs, outputs };
                check(Scalar::new(), shape);
                check(Scalar256b, shape);
                #[cfg(target_arch = "x86_64")]
                if let Some(simd) = pulp::x86::V3::try_new() {
                    check(simd, shape);
                }
            }
        }
    }
}

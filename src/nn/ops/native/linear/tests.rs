//! The kernel on vector units that this machine would not choose: plain numbers, and eight at a
//! time with half the registers.

use pulp::{Scalar, Scalar256b, Simd};
use rand_distr::{Distribution, Uniform};

use super::backward::Mask;
use super::members::{Members, Room, Scale};
use super::narrow::{Dots, Outer, WeightedSum};
use super::pack::{Order, Pack};
use super::tile::BlockProduct;
use super::weights::WeightGradient;
use super::{Activation, Shape, Upstream, backward, forward};
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
        let up = Upstream { x, weight, y: &y, activation: ACTIVATION };
        let found = backward(self.shape, &up, &mut gradient.clone(), true);
        [y, found.x.expect("wanted"), found.weight, found.bias]
    }

    /// As [`forward`] and [`backward`] drive the blocks, in one thread.
    fn on<S: Simd>(&self, simd: S) -> Found {
        /// Two blocks of most of the shapes, and no whole number of tiles.
        const BLOCK: usize = 64;
        let shape @ Shape { rows, inputs, outputs } = self.shape;
        let [x, weight, bias, gradient] = &self.values;
        let pack =
            |(rows, columns), order| simd.vectorize(Pack { rows, columns, matrix: weight, order });
        let mut y = vec![f32::NAN; rows * outputs];
        let packed = pack((inputs, outputs), Order::RowMajor);
        for (out, a) in y.chunks_mut(BLOCK * outputs).zip(x.chunks(BLOCK * inputs)) {
            let (depth, columns, bias, activation) = (inputs, outputs, Some(&bias[..]), ACTIVATION);
            let packed = &packed;
            simd.vectorize(BlockProduct { a, depth, packed, columns, bias, activation, out });
        }

        let mut d_z = gradient.clone();
        simd.vectorize(Mask { y: &y, gradient: &mut d_z });
        let packed = pack((outputs, inputs), Order::ColumnMajor);
        let mut d_x = vec![f32::NAN; rows * inputs];
        for (out, a) in d_x.chunks_mut(BLOCK * inputs).zip(d_z.chunks(BLOCK * outputs)) {
            let (depth, columns, bias, activation) = (outputs, inputs, None, Activation::None);
            let packed = &packed;
            simd.vectorize(BlockProduct { a, depth, packed, columns, bias, activation, out });
        }
        let mut d_weight = vec![f32::NAN; inputs * outputs];
        let mut d_bias = vec![0.0; outputs];
        // Two parts, of which the first masks for itself.
        let half = inputs.div_ceil(2);
        let (first, second) = d_weight.split_at_mut(half * outputs);
        simd.vectorize(WeightGradient {
            shape,
            x,
            gradient,
            masked_by: Some(&y),
            inputs: 0..half,
            d_weight: first,
            d_bias: Some(&mut d_bias),
        });
        simd.vectorize(WeightGradient {
            shape,
            x,
            gradient: &d_z,
            masked_by: None,
            inputs: half..inputs,
            d_weight: second,
            d_bias: None,
        });
        [y, d_x, d_weight, d_bias]
    }

    /// One row, half of it zeros, in as many versions as x has rows, scaled by these: as members,
    /// and as rows of their own.
    fn members_on<S: Simd>(&self, simd: S) -> [Vec<f32>; 2] {
        let Shape { rows, inputs, outputs } = self.shape;
        let [scale, weight, bias, _] = &self.values;
        let x: Vec<f32> = (0..inputs).map(|at| (at % 2) as f32 * weight[at * outputs]).collect();
        let scaled: Vec<f32> = scale
            .chunks(inputs)
            .flat_map(|scale| scale.iter().zip(&x))
            .map(|(s, x)| s * x)
            .collect();
        let wanted = forward(self.shape, &scaled, weight, bias, ACTIVATION);
        let pack = Pack { rows: inputs, columns: outputs, matrix: weight, order: Order::RowMajor };
        let (packed, scale) = (&*simd.vectorize(pack), &Scale::new(rows, scale));
        let mut y = vec![f32::NAN; rows * outputs];
        let (x, y_of, room) = (&x, &mut y, &mut Room::default());
        simd.vectorize(Members { x, scale, packed, bias, activation: ACTIVATION, y: y_of, room });
        [y, wanted]
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
    let [members, rows] = case.members_on(simd);
    assert!(members == rows, "members of {shape:?}");
    if shape.outputs == 1 {
        assert!(case.narrow_on(simd) == wanted, "{shape:?}");
    }
}

fn check_on_all(shape: Shape) {
    check(Scalar::new(), shape);
    check(Scalar256b, shape);
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        check(simd, shape);
    }
}

/// Around tiles of 6 rows and panels of 1, 2 and 4 vectors of 8 and 16.
#[test]
fn other_units_find_the_same() {
    for rows in [1, 5, 64, 97] {
        for inputs in [1, 7, 36] {
            for outputs in [1, 2, 8, 17, 25, 65, 130] {
                check_on_all(Shape { rows, inputs, outputs });
            }
        }
    }
}

/// Sums that are made in pieces: along rows, inputs and outputs. Of 1030 products, multiples of
/// 1/64, a sum needs 17 bits.
#[test]
fn other_units_find_the_same_in_pieces() {
    for (rows, inputs, outputs) in [(1030, 9, 20), (7, 513, 33), (6, 20, 257)] {
        check_on_all(Shape { rows, inputs, outputs });
    }
}

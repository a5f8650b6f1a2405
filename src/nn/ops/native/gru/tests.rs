//! The kernel on vector units that this machine would not choose: plain numbers, and eight at a
//! time with half the registers.

use pulp::{Scalar, Scalar256b, Simd};
use rand_distr::{Distribution, Normal};

use super::backward::{BackwardBlock, PackBackward, Sums, add_up};
use super::{
    Buffer, ForwardBlock, Gradients, InputGradient, Inputs, Keep, PackForward, Pooled, Shape,
    Upstream, Weights, backward, forward,
};
use crate::seeds::Seeds;

struct Case {
    shape: Shape,
    values: [Vec<f32>; 7],
    mask: Vec<f32>,
}

impl Case {
    /// x, start, Wi, bi, Wh, bh, and the gradient of the states.
    fn new(shape: Shape) -> Self {
        let Shape { rows, months, inputs, hidden } = shape;
        let gates = 3 * hidden;
        let sizes = [
            rows * months * inputs,
            rows * hidden,
            inputs * gates,
            gates,
            hidden * gates,
            gates,
            rows * months * hidden,
        ];
        let draw = |at: usize, size: usize| -> Vec<f32> {
            let mut rng = Seeds::new(1).stream("unit", at as u64);
            let law = Normal::new(0.0f32, 0.5).expect("valid");
            (0..size).map(|_| law.sample(&mut rng)).collect()
        };
        let values = std::array::from_fn(|at| draw(at, sizes[at]));
        let mask = draw(7, rows * months);
        let mask = mask.into_iter().map(|x| if x < 0.0 { 0.0 } else { 1.0 }).collect();
        Case { shape, values, mask }
    }

    fn inputs(&self) -> Inputs<'_> {
        Inputs { x: &self.values[0], start: &self.values[1], mask: Some(&self.mask) }
    }

    fn weights(&self) -> Weights<'_> {
        let [_, _, input, input_bias, hidden, hidden_bias, _] = &self.values;
        Weights { input, input_bias, hidden, hidden_bias }
    }

    /// As [`forward`] and [`backward`] drive the blocks, in one thread.
    fn on<S: Simd>(&self, simd: S) -> (Vec<f32>, Gradients) {
        let (shape, weights, all) = (self.shape, &self.weights(), self.inputs());
        let Shape { rows, months, inputs, hidden } = shape;
        let size = shape.block_size();
        let of_block = |block: usize| Shape { rows: size.min(rows - block * size), ..shape };
        let packed = simd.vectorize(PackForward { shape, weights });
        let mut states = vec![0.0; rows * months * hidden];
        let mut gates = Pooled::dirty(shape.blocks() * shape.block_gates());
        let blocks = states.chunks_mut(size * months * hidden);
        for (block, (states, gates)) in
            blocks.zip(gates.chunks_mut(shape.block_gates())).enumerate()
        {
            let inputs = all.block(block, &shape);
            let shape = of_block(block);
            simd.vectorize(ForwardBlock { shape, inputs, packed: &packed, states, gates });
        }

        let wanted = InputGradient::Wanted;
        let packed = simd.vectorize(PackBackward { shape, weights, wanted });
        let sums = Sums::layout(&shape);
        let mut partial = Buffer::zeros(shape.blocks() * sums.len);
        let (mut d_start, mut d_x) = (vec![0.0; rows * hidden], vec![0.0; rows * months * inputs]);
        let blocks = partial
            .chunks_mut(sums.len)
            .zip(d_start.chunks_mut(size * hidden))
            .zip(d_x.chunks_mut(size * months * inputs));
        for (block, ((partial, d_start), d_x)) in blocks.enumerate() {
            let from = block * size * months * hidden;
            simd.vectorize(BackwardBlock {
                shape: of_block(block),
                inputs: all.block(block, &shape),
                packed: &packed,
                states: &states[from..],
                gradient: &self.values[6][from..],
                gates: &gates[block * shape.block_gates()..],
                sums: partial,
                d_start,
                d_x,
            });
        }
        let total = add_up(&partial, sums.len);
        let gradients = sums.unpack(&total, &shape, d_start, Some(d_x));
        (states, gradients)
    }

    fn as_chosen(&self) -> (Vec<f32>, Gradients) {
        let (inputs, weights) = (self.inputs(), self.weights());
        let (states, gates) = forward(self.shape, &inputs, &weights, Keep::Gates);
        let gates = gates.expect("kept");
        let upstream = Upstream { states: &states, gates: &gates, gradient: &self.values[6] };
        let wanted = InputGradient::Wanted;
        let gradients = backward(self.shape, &inputs, &weights, &upstream, wanted);
        (states, gradients)
    }
}

fn parts((states, gradients): (Vec<f32>, Gradients)) -> [(&'static str, Vec<f32>); 7] {
    [
        ("states", states),
        ("x", gradients.x.expect("wanted")),
        ("start", gradients.start),
        ("input", gradients.input),
        ("input bias", gradients.input_bias),
        ("hidden", gradients.hidden),
        ("hidden bias", gradients.hidden_bias),
    ]
}

/// The same sums in the same order but for products that are rounded before they are added: a
/// few 1e-7 of each term, and a gradient sums some 300 of them.
#[track_caller]
fn check<S: Simd>(simd: S, shape: Shape) {
    let case = Case::new(shape);
    for ((name, got), (_, wanted)) in parts(case.on(simd)).iter().zip(&parts(case.as_chosen())) {
        assert_eq!(got.len(), wanted.len());
        for (at, (a, b)) in got.iter().zip(wanted).enumerate() {
            let is_near = (a - b).abs() <= 2e-5 * (1.0 + b.abs());
            assert!(is_near, "{name}[{at}] of {shape:?}: {a}, expected {b}");
        }
    }
}

#[test]
fn other_units_find_the_same() {
    for (rows, hidden) in [(1, 1), (7, 15), (9, 16), (33, 17), (70, 33), (257, 8)] {
        for inputs in [1, 9] {
            let shape = Shape { rows, months: 4, inputs, hidden };
            check(Scalar::new(), shape);
            check(Scalar256b, shape);
            #[cfg(target_arch = "x86_64")]
            if let Some(simd) = pulp::x86::V3::try_new() {
                check(simd, shape);
            }
        }
    }
}

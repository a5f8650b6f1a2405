//! Times the products of a dense layer alone: y = x W, d_x = d_y W^T and d_W = x^T d_y, by the
//! `gemm` crate, which is what the machine can do, and by our kernels, which also add the bias,
//! apply relu and mask its gradient.

use rand_distr::{Distribution, StandardNormal};
use serde::Serialize;

use super::Case;
use crate::clock::Clock;
use crate::error::{Kind, Result};
use crate::nn::ops::kernels::bare::{Matrix, product};
use crate::nn::ops::kernels::{Activation, Shape, Upstream, backward, forward};
use crate::nn::ops::on_worker;
use crate::seeds::Seeds;

/// Milliseconds of each repetition.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Timing {
    /// The bare products.
    pub y_ms: Vec<f64>,
    pub d_x_ms: Vec<f64>,
    pub d_weight_ms: Vec<f64>,
    /// Our layer.
    pub forward_ms: Vec<f64>,
    pub backward_ms: Vec<f64>,
    /// Without the gradient of x.
    pub backward_of_weight_ms: Vec<f64>,
}

pub fn run(shape: Shape, case: &Case, clock: &dyn Clock) -> Result<Timing> {
    let Shape { rows, inputs, outputs } = shape;
    if rows * inputs * outputs == 0 || case.steps == 0 {
        return Err(Kind::Usage.msg("a case needs rows, inputs, outputs and steps above 0"));
    }
    let draw = |index: u64, count: usize| -> Vec<f32> {
        let mut rng = Seeds::new(case.seed).stream("bench", index);
        (0..count).map(|_| StandardNormal.sample(&mut rng)).collect()
    };
    let x = draw(0, rows * inputs);
    let weight = draw(1, inputs * outputs);
    let bias = draw(2, outputs);
    let mut gradient = draw(3, rows * outputs);
    let (mut y, mut d_x) = (vec![0.0; rows * outputs], vec![0.0; rows * inputs]);
    let mut d_weight = vec![0.0; inputs * outputs];
    let mut timing = Timing::default();
    for step in 0..case.warmup + case.steps {
        let of = |step_ms: &mut Vec<f64>, work: &mut (dyn FnMut() + Send)| {
            let start = case.now(clock);
            on_worker(&mut *work);
            if step >= case.warmup {
                step_ms.push((case.now(clock) - start).as_secs_f64() * 1e3);
            }
        };
        let (of_x, of_w) = (Matrix::new(&x, rows), Matrix::new(&weight, inputs));
        of(&mut timing.y_ms, &mut || product(of_x, of_w, &mut y));
        let of_y = Matrix::new(&gradient, rows);
        of(&mut timing.d_x_ms, &mut || product(of_y, of_w.turned(), &mut d_x));
        of(&mut timing.d_weight_ms, &mut || product(of_x.turned(), of_y, &mut d_weight));

        let activation = Activation::Relu;
        of(&mut timing.forward_ms, &mut || y = forward(shape, &x, &weight, &bias, activation));
        let up = Upstream { x: &x, weight: &weight, y: &y, activation };
        of(&mut timing.backward_ms, &mut || {
            backward(shape, &up, &mut gradient, true);
        });
        of(&mut timing.backward_of_weight_ms, &mut || {
            backward(shape, &up, &mut gradient, false);
        });
    }
    Ok(timing)
}

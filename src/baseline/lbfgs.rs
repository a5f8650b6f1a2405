//! L-BFGS (Nocedal and Wright 2006, algorithms 7.4 and 7.5) for a smooth convex objective.
//!
//! The initial inverse Hessian is that of a sample of rows ([`Curvature`]), scaled by the last
//! step.

use std::collections::VecDeque;

use super::curvature::Curvature;
use super::objective::{Objective, Point, inner};

/// Steps remembered.
const MEMORY: usize = 10;

/// Most iterations per penalty. Designs of up to 512 columns were seen to need 3 to 15, wider ones
/// (with a diagonal start) up to 110; past this the log loss moves in a digit that no one reads.
const ITERATIONS_MAX: usize = 200;

/// Largest slope, in nats per row, of a point that counts as the minimum.
const SLOPE_MAX: f64 = 1e-6;

/// Relative gain of an iteration below which the search ends.
const GAIN_MIN: f64 = 1e-9;

/// Share of the gain promised by the slope that a step must bring (Armijo's condition).
const ARMIJO: f64 = 1e-4;

/// Halvings of a step before it is given up: 2^-30 is below the rounding of the objective.
const HALVINGS_MAX: usize = 30;

/// One remembered step: move, change of gradient, and 1 / (move · change).
struct Step {
    moved: Vec<f64>,
    turned: Vec<f64>,
    rho: f64,
}

/// The parameters of the minimum, sought from `start`.
pub(super) fn minimise(objective: &Objective, start: Vec<f64>) -> Vec<f64> {
    let curvature = Curvature::at(objective, &start);
    let mut memory: VecDeque<Step> = VecDeque::with_capacity(MEMORY + 1);
    let mut at = start;
    let mut here = objective.at(&at);
    for _ in 0..ITERATIONS_MAX {
        if here.gradient.iter().all(|slope| slope.abs() <= SLOPE_MAX) {
            break;
        }
        let direction = direction(&memory, &curvature, &here.gradient);
        let Some((next, there)) = search(objective, &at, &here, &direction) else {
            break;
        };
        let gain = here.value - there.value;
        let moved = difference(&next, &at);
        let turned = difference(&there.gradient, &here.gradient);
        let product = inner(&moved, &turned);
        // Convexity makes the product positive; only rounding at the very end can spoil that.
        if product > 0.0 {
            memory.push_back(Step { moved, turned, rho: 1.0 / product });
            if memory.len() > MEMORY {
                memory.pop_front();
            }
        }
        (at, here) = (next, there);
        if gain <= GAIN_MIN * here.value {
            break;
        }
    }
    at
}

/// Minus the approximate inverse Hessian times the gradient (the two-loop recursion).
fn direction(memory: &VecDeque<Step>, curvature: &Curvature, gradient: &[f64]) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|slope| -slope).collect();
    let mut alphas = Vec::with_capacity(memory.len());
    for step in memory.iter().rev() {
        let alpha = step.rho * inner(&step.moved, &q);
        add(&mut q, -alpha, &step.turned);
        alphas.push(alpha);
    }
    let scale = memory.back().map_or(1.0, |step| {
        let mut solved = step.turned.clone();
        curvature.solve(&mut solved);
        1.0 / (step.rho * inner(&step.turned, &solved))
    });
    curvature.solve(&mut q);
    q.iter_mut().for_each(|q| *q *= scale);
    for (step, alpha) in memory.iter().zip(alphas.into_iter().rev()) {
        let beta = step.rho * inner(&step.turned, &q);
        add(&mut q, alpha - beta, &step.moved);
    }
    q
}

/// The first of the steps 1, 1/2, 1/4 ... along `direction` that lowers the objective enough.
fn search(
    objective: &Objective,
    at: &[f64],
    here: &Point,
    direction: &[f64],
) -> Option<(Vec<f64>, Point)> {
    let slope = inner(&here.gradient, direction);
    let mut length = 1.0;
    for _ in 0..HALVINGS_MAX {
        let mut next = at.to_vec();
        add(&mut next, length, direction);
        let there = objective.at(&next);
        if there.value <= here.value + ARMIJO * length * slope {
            return Some((next, there));
        }
        length /= 2.0;
    }
    None
}

fn add(to: &mut [f64], scale: f64, what: &[f64]) {
    to.iter_mut().zip(what).for_each(|(to, what)| *to += scale * what);
}

fn difference(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

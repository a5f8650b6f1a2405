//! A density over the whole space from observed points: one kernel per point, each a product of
//! truncated normals (for choices, of weights), and one wide kernel for what nobody has tried.
//!
//! All constants are those of Optuna's multivariate `TPESampler`, whose kernels follow Bergstra et
//! al. 2011 ("Algorithms for Hyper-Parameter Optimization") and Falkner et al. 2018
//! (arXiv:1807.01774); Watanabe 2023 (arXiv:2304.11127) tells what each of them does.

use rand_chacha::rand_core::Rng;

use super::normal;
use super::space::{Domain, Space};

/// Weight of the wide kernel, in observations.
const PRIOR_WEIGHT: f64 = 1.0;

/// Beyond so many observations the oldest lose weight.
const FULL_WEIGHTS: usize = 25;

/// No kernel is narrower than this share of the bounds, however many there are.
const NARROWEST: f64 = 0.01;

/// Halvings of the bounds: finer than the digits that a value keeps.
const BISECTIONS: u32 = 40;

/// A mixture over coordinates.
pub struct Parzen {
    /// Sum to one; the last one is the wide kernel's.
    weights: Vec<f64>,
    dimensions: Vec<Dimension>,
}

/// What the kernels are in one coordinate.
enum Dimension {
    Number {
        domain: Domain,
        low: f64,
        high: f64,
        kernels: Vec<Kernel>,
    },
    /// Probability of each choice, by kernel.
    Choice {
        rows: Vec<Vec<f64>>,
    },
}

/// A normal law that is cut off at the bounds.
#[derive(Clone, Copy)]
struct Kernel {
    centre: f64,
    width: f64,
    /// Of the law that is not cut off, the share between the bounds.
    inside: f64,
}

impl Kernel {
    fn new(centre: f64, width: f64, (low, high): (f64, f64)) -> Self {
        let inside = normal::mass((low - centre) / width, (high - centre) / width);
        Kernel { centre, width, inside }
    }

    fn z(&self, x: f64) -> f64 {
        (x - self.centre) / self.width
    }

    /// The share between two numbers inside the bounds.
    fn mass(&self, from: f64, to: f64) -> f64 {
        normal::mass(self.z(from), self.z(to)) / self.inside
    }

    fn ln_density(&self, x: f64) -> f64 {
        normal::ln_density(self.z(x)) - (self.width * self.inside).ln()
    }

    /// By bisection of the distribution function: some hundred draws a trial need nothing faster.
    fn quantile(&self, quantile: f64, (low, high): (f64, f64)) -> f64 {
        let (mut from, mut to) = (low, high);
        for _ in 0..BISECTIONS {
            let middle = 0.5 * (from + to);
            if self.mass(low, middle) < quantile { from = middle } else { to = middle }
        }
        0.5 * (from + to)
    }
}

impl Parzen {
    /// From points in the order in which they were tried, the oldest first.
    pub fn new(space: &Space, points: &[&[f64]]) -> Self {
        let mut weights = age_weights(points.len());
        weights.push(PRIOR_WEIGHT);
        let sum: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= sum);
        let dimension = |(at, domain): (usize, &Domain)| {
            let column: Vec<f64> = points.iter().map(|point| point[at]).collect();
            match (domain, domain.bounds()) {
                (Domain::Choices(choices), _) => {
                    Dimension::Choice { rows: choice_rows(&column, choices.len()) }
                }
                (_, Some((low, high))) => {
                    let kernels = kernels(&column, (low, high));
                    Dimension::Number { domain: domain.clone(), low, high, kernels }
                }
                (_, None) => unreachable!("only choices have no bounds"),
            }
        };
        let dimensions = space.0.values().enumerate().map(dimension).collect();
        Parzen { weights, dimensions }
    }

    /// A random point.
    pub fn sample(&self, rng: &mut impl Rng) -> Vec<f64> {
        let kernel = pick(&self.weights, uniform(rng));
        let draw = |dimension: &Dimension| match dimension {
            Dimension::Choice { rows } => pick(&rows[kernel], uniform(rng)) as f64,
            Dimension::Number { domain, low, high, kernels } => {
                let at = kernels[kernel].quantile(uniform(rng), (*low, *high));
                // To a value and back, so that whole numbers are whole.
                domain.coordinate(&domain.value(at)).unwrap_or(at)
            }
        };
        self.dimensions.iter().map(draw).collect()
    }

    /// Logarithm of the density at a point; of whole numbers and choices, of their probability.
    pub fn ln_density(&self, point: &[f64]) -> f64 {
        let of_kernel = |kernel: usize| {
            let factors = self.dimensions.iter().zip(point);
            self.weights[kernel].ln()
                + factors.map(|(d, &at)| d.ln_density(kernel, at)).sum::<f64>()
        };
        let logs: Vec<f64> = (0..self.weights.len()).map(of_kernel).collect();
        let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if largest == f64::NEG_INFINITY {
            return largest;
        }
        largest + logs.iter().map(|log| (log - largest).exp()).sum::<f64>().ln()
    }
}

impl Dimension {
    fn ln_density(&self, kernel: usize, at: f64) -> f64 {
        match self {
            Dimension::Choice { rows } => rows[kernel][at as usize].ln(),
            Dimension::Number { domain, kernels, .. } => match domain.cell(at) {
                Some((from, to)) => kernels[kernel].mass(from, to).ln(),
                None => kernels[kernel].ln_density(at),
            },
        }
    }
}

/// One for each of the newest [`FULL_WEIGHTS`], on a ramp from 1 / n to 1 for those before.
fn age_weights(n: usize) -> Vec<f64> {
    let ramp = n.saturating_sub(FULL_WEIGHTS);
    let step = |i: usize| match ramp {
        1 => 1.0 / n as f64,
        _ => 1.0 / n as f64 + (1.0 - 1.0 / n as f64) * i as f64 / (ramp - 1) as f64,
    };
    (0..n).map(|i| if i < ramp { step(i) } else { 1.0 }).collect()
}

/// A kernel at each point, as wide as the larger of its gaps to the neighbours; the outermost
/// points as the gap on their inner side. The wide kernel last.
fn kernels(column: &[f64], (low, high): (f64, f64)) -> Vec<Kernel> {
    let (n, range) = (column.len(), high - low);
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| column[a].total_cmp(&column[b]));
    let narrowest = range * (1.0 / (n as f64 + 2.0)).max(NARROWEST);
    let wide = Kernel::new(0.5 * (low + high), range, (low, high));
    let mut found = vec![wide; n + 1];
    for (place, &at) in order.iter().enumerate() {
        let left = place.checked_sub(1).map(|before| column[at] - column[order[before]]);
        let right = order.get(place + 1).map(|&after| column[after] - column[at]);
        let width = match (left, right) {
            (Some(left), Some(right)) => left.max(right),
            (Some(gap), None) | (None, Some(gap)) => gap,
            (None, None) => (column[at] - low).max(high - column[at]),
        };
        found[at] = Kernel::new(column[at], width.clamp(narrowest, range), (low, high));
    }
    found
}

fn choice_rows(column: &[f64], choices: usize) -> Vec<Vec<f64>> {
    let kernels = column.len() + 1;
    let each = PRIOR_WEIGHT / kernels as f64;
    let row = |observed: Option<&f64>| {
        let mut row = vec![each; choices];
        if let Some(&at) = observed {
            row[at as usize] += 1.0;
        }
        let sum: f64 = row.iter().sum();
        row.iter_mut().for_each(|weight| *weight /= sum);
        row
    };
    column.iter().map(Some).chain([None]).map(row).collect()
}

/// The place where the running sum of the weights passes `quantile`.
fn pick(weights: &[f64], quantile: f64) -> usize {
    let mut sum = 0.0;
    let passes = |weight: &f64| {
        sum += weight;
        quantile < sum
    };
    weights.iter().position(passes).unwrap_or(weights.len() - 1)
}

/// In [0, 1), from the 53 bits that a number of this size holds.
pub fn uniform(rng: &mut impl Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests;

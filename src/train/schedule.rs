//! The learning rate over a training: linear warm-up, then a cosine down to a twentieth.

use crate::config::TrainSpec;

/// Share of the peak rate at the end; training on at zero would be wasted steps.
const FLOOR: f64 = 0.05;

/// Rate at a step, of `steps` in all.
pub fn rate(spec: &TrainSpec, step: u64, steps: u64) -> f64 {
    let warmup = (spec.warmup * steps as f64).max(1.0);
    let step = step as f64;
    if step < warmup {
        return spec.learning_rate * (step + 1.0) / warmup.max(1.0);
    }
    let progress = ((step - warmup) / (steps as f64 - warmup).max(1.0)).min(1.0);
    let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
    spec.learning_rate * (FLOOR + (1.0 - FLOOR) * cosine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn climbs_then_falls() {
        let spec = TrainSpec { learning_rate: 1.0, warmup: 0.1, ..TrainSpec::default() };
        for (step, expected) in
            [(0, 0.1), (9, 1.0), (10, 1.0), (55, 0.525), (100, 0.05), (500, 0.05)]
        {
            let got = rate(&spec, step, 100);
            assert!((got - expected).abs() < 1e-9, "step {step}: {got}, expected {expected}");
        }
    }
}

//! The learning rate over a training: linear warm-up, then a cosine down to a twentieth.

/// Share of the peak rate at the end; training on at zero would be wasted steps.
const FLOOR: f64 = 0.05;

/// A peak, and the share of all steps in which the rate climbs to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Climb {
    pub peak: f64,
    pub warmup: f64,
}

/// Rate at a step, of `steps` in all.
pub fn rate(climb: Climb, step: u64, steps: u64) -> f64 {
    let Climb { peak, warmup } = climb;
    let warmup = (warmup * steps as f64).max(1.0);
    let step = step as f64;
    if step < warmup {
        return peak * (step + 1.0) / warmup.max(1.0);
    }
    let progress = ((step - warmup) / (steps as f64 - warmup).max(1.0)).min(1.0);
    let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
    peak * (FLOOR + (1.0 - FLOOR) * cosine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn climbs_then_falls() {
        let climb = Climb { peak: 1.0, warmup: 0.1 };
        for (step, expected) in
            [(0, 0.1), (9, 1.0), (10, 1.0), (55, 0.525), (100, 0.05), (500, 0.05)]
        {
            let got = rate(climb, step, 100);
            assert!((got - expected).abs() < 1e-9, "step {step}: {got}, expected {expected}");
        }
    }
}

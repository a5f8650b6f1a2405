//! Log-odds put right by a slope and an intercept (Platt 1999; a slope alone is the inverse of the
//! temperature of Guo et al. 2017, arXiv:1706.04599).

/// What may move.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Freedom {
    /// The line turns around these log-odds, which it leaves as they are.
    SlopeAround(f64),
    SlopeAndIntercept,
}

/// Whether the mean risk of a model is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Kept,
    Fitted,
}

/// slope · log-odds + intercept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scaling {
    pub slope: f64,
    pub intercept: f64,
}

/// Weight, in rows, of the wish to stay at slope 1 and intercept 0. It decides nothing where there
/// are a hundred leavers, and keeps the fit finite where all rows are told apart.
const PRIOR: f64 = 1.0;

/// A slope below this would turn the ranking around or flatten it.
const SLOPE_MIN: f64 = 0.05;

/// Newton's method on a convex function of two numbers; it was never seen to take more than 12.
const ITERATIONS_MAX: usize = 50;

/// Relative size of a step that changes no digit that anyone reads.
const STEP_MIN: f64 = 1e-10;

impl Scaling {
    pub const IDENTITY: Scaling = Scaling { slope: 1.0, intercept: 0.0 };

    pub fn apply(&self, log_odds: f64) -> f64 {
        self.slope * log_odds + self.intercept
    }

    /// The scaling of least log loss on some rows. Rows that are not finite make it the identity.
    pub fn fit(log_odds: &[f64], labels: &[bool], freedom: Freedom) -> Scaling {
        let mut at = Scaling::IDENTITY;
        let mut value = at.penalised(log_odds, labels);
        for _ in 0..ITERATIONS_MAX {
            let (slope, intercept) = at.newton(log_odds, labels, freedom);
            // Halve until it falls: far from the minimum a full step can overshoot.
            let mut share = 1.0;
            let next = loop {
                let next = Scaling {
                    slope: at.slope + share * slope,
                    intercept: at.intercept + share * intercept,
                };
                let found = next.penalised(log_odds, labels);
                if found < value {
                    value = found;
                    break Some(next);
                }
                share /= 2.0;
                if share < STEP_MIN {
                    break None;
                }
            };
            let Some(next) = next else { break };
            let moved = (next.slope - at.slope).abs() + (next.intercept - at.intercept).abs();
            at = next;
            if moved < STEP_MIN {
                break;
            }
        }
        if at.slope < SLOPE_MIN {
            at.slope = SLOPE_MIN;
        }
        at
    }

    /// Sum of log losses and prior.
    fn penalised(&self, log_odds: &[f64], labels: &[bool]) -> f64 {
        let rows = log_odds.iter().zip(labels);
        let sum: f64 = rows.map(|(&x, &y)| log_loss_of(self.apply(x), y)).sum();
        sum + 0.5 * PRIOR * ((self.slope - 1.0).powi(2) + self.intercept.powi(2))
    }

    /// Newton's step of slope and intercept.
    fn newton(&self, log_odds: &[f64], labels: &[bool], freedom: Freedom) -> (f64, f64) {
        let (mut g, mut h) = ([0.0; 2], [0.0; 3]);
        for (&x, &y) in log_odds.iter().zip(labels) {
            let risk = 1.0 / (1.0 + (-self.apply(x)).exp());
            let (miss, curve) = (risk - f64::from(u8::from(y)), risk * (1.0 - risk));
            g[0] += miss * x;
            g[1] += miss;
            h[0] += curve * x * x;
            h[1] += curve * x;
            h[2] += curve;
        }
        g[0] += PRIOR * (self.slope - 1.0);
        g[1] += PRIOR * self.intercept;
        h[0] += PRIOR;
        h[2] += PRIOR;
        match freedom {
            // The intercept is center · (1 - slope): moves by -center for each step of the slope.
            Freedom::SlopeAround(center) => {
                let slope = g[0] - center * g[1];
                let curve = h[0] - 2.0 * center * h[1] + center * center * h[2];
                let step = -slope / curve;
                (step, -center * step)
            }
            Freedom::SlopeAndIntercept => {
                let determinant = h[0] * h[2] - h[1] * h[1];
                (
                    -(h[2] * g[0] - h[1] * g[1]) / determinant,
                    -(h[0] * g[1] - h[1] * g[0]) / determinant,
                )
            }
        }
    }
}

/// Mean log loss after the temperature that suits these rows best, around their mean risk: what a
/// model is worth whose spread will be put right later. With `level`, that too.
pub fn calibrated_log_loss(log_odds: &[f64], labels: &[bool], level: Level) -> f64 {
    let rows = labels.len() as f64;
    let mean = log_odds.iter().map(|&x| super::risk(x)).sum::<f64>() / rows;
    let center = (mean / (1.0 - mean)).ln();
    let freedom = match level {
        Level::Kept => Freedom::SlopeAround(center),
        Level::Fitted => Freedom::SlopeAndIntercept,
    };
    let scaling = match center.is_finite() {
        true => Scaling::fit(log_odds, labels, freedom),
        false => Scaling::IDENTITY,
    };
    let loss = |(&x, &y): (&f64, &bool)| log_loss_of(scaling.apply(x), y);
    log_odds.iter().zip(labels).map(loss).sum::<f64>() / rows
}

/// Log loss in nats of one row.
pub fn log_loss_of(log_odds: f64, churned: bool) -> f64 {
    log_odds.max(0.0) - if churned { log_odds } else { 0.0 } + (-log_odds.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows whose log-odds are `true / slope - shift`, with labels at their true rates.
    fn rows(slope: f64, shift: f64) -> (Vec<f64>, Vec<bool>) {
        let (mut log_odds, mut labels) = (Vec::new(), Vec::new());
        for step in -30..30 {
            let truth = f64::from(step) / 10.0;
            let leavers = (1000.0 / (1.0 + (-truth).exp())).round() as usize;
            log_odds.extend(std::iter::repeat_n((truth - shift) / slope, 1000));
            labels.extend((0..1000).map(|row| row < leavers));
        }
        (log_odds, labels)
    }

    #[test]
    fn a_scaling_is_found_again() {
        for (slope, intercept, freedom) in [
            (1.0, 0.0, Freedom::SlopeAndIntercept),
            (0.5, 0.0, Freedom::SlopeAround(0.0)),
            (0.5, 0.75, Freedom::SlopeAround(1.5)),
            (2.0, -1.0, Freedom::SlopeAndIntercept),
        ] {
            let (log_odds, labels) = rows(slope, intercept);
            let found = Scaling::fit(&log_odds, &labels, freedom);
            // Rates are rounded to a thousandth, and the prior holds back by a row in 60,000.
            assert!((found.slope - slope).abs() < 5e-3, "{found:?}, expected slope {slope}");
            assert!((found.intercept - intercept).abs() < 5e-3, "{found:?}");
        }
    }

    #[test]
    fn a_temperature_hides_a_wrong_spread_and_nothing_else() {
        let (good, labels) = rows(1.0, 0.0);
        let plain = |log_odds: &[f64]| {
            let rows = log_odds.iter().zip(&labels);
            rows.map(|(&x, &y)| log_loss_of(x, y)).sum::<f64>() / labels.len() as f64
        };
        let kept = |log_odds: &[f64]| calibrated_log_loss(log_odds, &labels, Level::Kept);
        let best = kept(&good);
        assert!((best - plain(&good)).abs() < 1e-6, "{best}");
        let wide: Vec<f64> = good.iter().map(|x| 3.0 * x).collect();
        assert!(plain(&wide) > best + 0.1);
        // The mean risk is not a half to the last digit, so that the center is off by as little.
        assert!((kept(&wide) - best).abs() < 1e-4);
        let shifted: Vec<f64> = good.iter().map(|x| x + 1.0).collect();
        assert!(kept(&shifted) > best + 0.05);
        assert!((calibrated_log_loss(&shifted, &labels, Level::Fitted) - best).abs() < 1e-4);
        assert!(calibrated_log_loss(&[f64::NAN, 1.0], &[true, false], Level::Kept).is_nan());
    }

    #[test]
    fn odd_rows_give_finite_scalings() {
        for (log_odds, labels) in [
            (vec![], vec![]),
            (vec![-50.0, 50.0], vec![false, true]),
            (vec![-50.0, 50.0], vec![true, false]),
            (vec![0.0, 0.0], vec![true, true]),
            (vec![f64::NAN, 1.0], vec![true, false]),
            (vec![f64::INFINITY, 1.0], vec![true, false]),
        ] {
            let found = Scaling::fit(&log_odds, &labels, Freedom::SlopeAndIntercept);
            assert!(found.slope >= SLOPE_MIN && found.slope.is_finite(), "{log_odds:?} {found:?}");
            assert!(found.intercept.is_finite(), "{log_odds:?} {found:?}");
        }
    }
}

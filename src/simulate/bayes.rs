//! How well churn can be predicted at best: the true risk against the simulated outcome.

use rayon::prelude::*;

/// One snapshot: its true risk and whether churn followed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    pub risk: f64,
    pub churned: bool,
}

/// The scores of the true risk.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    pub base_rate: f64,
    pub auroc: f64,
    /// Nats per snapshot.
    pub log_loss: f64,
    pub base_log_loss: f64,
}

pub fn line(outcomes: &[Outcome]) -> Line {
    let n = outcomes.len() as f64;
    let churned = outcomes.iter().filter(|o| o.churned).count() as f64;
    let loss = |o: &Outcome| if o.churned { -o.risk.ln() } else { -(-o.risk).ln_1p() };
    let base_rate = churned / n;
    Line {
        base_rate,
        auroc: auroc(outcomes),
        log_loss: outcomes.iter().map(loss).sum::<f64>() / n,
        base_log_loss: entropy(base_rate),
    }
}

/// Log loss of the share p for everyone.
fn entropy(p: f64) -> f64 {
    let term = |p: f64| if p > 0.0 { -p * p.ln() } else { 0.0 };
    term(p) + term(1.0 - p)
}

/// Rank statistic of Mann and Whitney over (positives x negatives), ties count a half; NaN where
/// one of the two is empty.
fn auroc(outcomes: &[Outcome]) -> f64 {
    let mut sorted = outcomes.to_vec();
    sorted.par_sort_unstable_by(|a, b| a.risk.total_cmp(&b.risk));
    let (mut below, mut wins, mut positives) = (0.0, 0.0, 0.0);
    for tied in sorted.chunk_by(|a, b| a.risk == b.risk) {
        let up = tied.iter().filter(|o| o.churned).count() as f64;
        let down = tied.len() as f64 - up;
        wins += up * (below + 0.5 * down);
        below += down;
        positives += up;
    }
    wins / (positives * below)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(cells: &[(f64, u8)]) -> Vec<Outcome> {
        cells.iter().map(|&(risk, y)| Outcome { risk, churned: y == 1 }).collect()
    }

    #[test]
    fn auroc_counts_pairs() {
        let cases: [(&[(f64, u8)], f64); 4] = [
            (&[(0.1, 0), (0.2, 1)], 1.0),
            (&[(0.2, 0), (0.1, 1)], 0.0),
            (&[(0.5, 0), (0.5, 1), (0.5, 1)], 0.5),
            // Pairs: (0.4 over 0.1, 0.4 over 0.4 tied, 0.3 over 0.1) = 2.5 of 4.
            (&[(0.1, 0), (0.4, 0), (0.4, 1), (0.3, 1)], 0.625),
        ];
        for (cells, expected) in cases {
            assert_eq!(auroc(&outcomes(cells)), expected, "{cells:?}");
        }
        assert!(auroc(&outcomes(&[(0.1, 0)])).is_nan());
    }

    #[test]
    fn log_loss_by_hand() {
        let line = line(&outcomes(&[(0.25, 1), (0.5, 0)]));
        // ln 4 + ln 2 over two, against ln 2; sums of two terms, so rounding is within 1e-15.
        assert!((line.log_loss - 1.5 * 2f64.ln()).abs() < 1e-15);
        assert!((line.base_log_loss - 2f64.ln()).abs() < 1e-15);
    }
}

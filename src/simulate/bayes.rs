//! How well churn can be predicted at best: the true risk against the simulated outcome.

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

/// Bits of a 32-bit risk that tell bins apart: eight of exponent, 13 of mantissa. Risks within
/// 1/8192 of each other count as tied, which moves an AUROC by far less than 1e-6.
const BIN_SHIFT: u32 = 10;

/// Takes outcomes one by one, in 16 MB however many there are.
pub struct Bayes {
    loss: f64,
    /// By risk: those who stayed, those who left.
    bins: Vec<[u64; 2]>,
}

impl Default for Bayes {
    fn default() -> Self {
        Bayes { loss: 0.0, bins: vec![[0, 0]; (1f32.to_bits() >> BIN_SHIFT) as usize + 1] }
    }
}

impl Bayes {
    pub fn observe(&mut self, outcome: Outcome) {
        let Outcome { risk, churned } = outcome;
        self.loss += if churned { -risk.ln() } else { -(-risk).ln_1p() };
        let bin = ((risk as f32).to_bits() >> BIN_SHIFT) as usize;
        self.bins[bin][usize::from(churned)] += 1;
    }

    pub fn line(&self) -> Line {
        let count = |class: usize| self.bins.iter().map(|bin| bin[class]).sum::<u64>() as f64;
        let (stayed, churned) = (count(0), count(1));
        let n = stayed + churned;
        let base_rate = churned / n;
        Line {
            base_rate,
            auroc: self.auroc(stayed, churned),
            log_loss: self.loss / n,
            base_log_loss: entropy(base_rate),
        }
    }

    /// Rank statistic of Mann and Whitney over (positives x negatives), ties count a half; NaN
    /// where one of the two is empty.
    fn auroc(&self, stayed: f64, churned: f64) -> f64 {
        let (mut below, mut wins) = (0.0, 0.0);
        for &[down, up] in &self.bins {
            let (down, up) = (down as f64, up as f64);
            wins += up * (below + 0.5 * down);
            below += down;
        }
        wins / (churned * stayed)
    }
}

/// Log loss of the share p for everyone.
fn entropy(p: f64) -> f64 {
    let term = |p: f64| if p > 0.0 { -p * p.ln() } else { 0.0 };
    term(p) + term(1.0 - p)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line_of(cells: &[(f64, u8)]) -> Line {
        let mut bayes = Bayes::default();
        cells.iter().for_each(|&(risk, y)| bayes.observe(Outcome { risk, churned: y == 1 }));
        bayes.line()
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
            assert_eq!(line_of(cells).auroc, expected, "{cells:?}");
        }
        assert!(line_of(&[(0.1, 0)]).auroc.is_nan());
    }

    #[test]
    fn log_loss_by_hand() {
        let line = line_of(&[(0.25, 1), (0.5, 0)]);
        // ln 4 + ln 2 over two, against ln 2; sums of two terms, so rounding is within 1e-15.
        assert!((line.log_loss - 1.5 * 2f64.ln()).abs() < 1e-15);
        assert!((line.base_log_loss - 2f64.ln()).abs() < 1e-15);
    }
}

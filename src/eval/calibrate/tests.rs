use super::*;

/// `rows` customers with log-odds spread over [-3, 3] and labels at the rate that `truth` gives.
fn rows(rows: usize, truth: fn(f64) -> f64) -> (Vec<f64>, Vec<bool>, Vec<u32>) {
    let draw = |row: usize| {
        let number = crate::seeds::Seeds::new(3).number("calibrate", row as u64);
        (number >> 11) as f64 / (1u64 << 53) as f64
    };
    let log_odds: Vec<f64> =
        (0..rows).map(|r| 6.0 * (r as f64 + 0.5) / rows as f64 - 3.0).collect();
    let churned = |(r, &x): (usize, &f64)| draw(r) < 1.0 / (1.0 + (-truth(x)).exp());
    let labels = log_odds.iter().enumerate().map(churned).collect();
    (log_odds, labels, (0..rows as u32).collect())
}

#[test]
fn the_map_that_is_needed_is_chosen() {
    let steps = |x: f64| if x < 0.0 { -4.0 } else { 1.0 };
    for (count, truth, expected) in [
        (4000, (|x| x) as fn(f64) -> f64, "identity"),
        (4000, |x| 0.4 * x, "temperature"),
        (4000, |x| 0.4 * x - 0.5, "platt"),
        (4000, |x| x - 1.5, "platt"),
        (4000, steps, "isotonic"),
        // Twenty customers tell nothing.
        (20, |x| x - 1.5, "identity"),
        (4000, |_| -20.0, "identity"),
    ] {
        let (log_odds, labels, customers) = rows(count, truth);
        let found = choose(&Rows { log_odds: &log_odds, labels: &labels, customers: &customers });
        assert_eq!(found.calibrator.name(), expected, "{found:?}");
        assert_eq!(found.calibrator.fault(), None);
    }
}

#[test]
fn every_map_rises_and_stays_finite() {
    let (log_odds, labels, _) = rows(500, |x| 0.5 * x - 1.0);
    for kind in [Kind::Identity, Kind::Temperature, Kind::Platt, Kind::Isotonic] {
        let calibrator = Calibrator::fit(kind, &log_odds, &labels);
        let mut last = f64::NEG_INFINITY;
        for step in -200..200 {
            let now = calibrator.apply(f64::from(step) / 10.0);
            assert!(now.is_finite() && now >= last, "{kind:?} at {step}: {now} after {last}");
            last = now;
        }
        let text = serde_json::to_string(&calibrator).expect("JSON");
        assert_eq!(serde_json::from_str::<Calibrator>(&text).expect("ours"), calibrator);
    }
}

#[test]
fn pooling_joins_what_falls() {
    // Rates by value: 0, 1/2 then 0 (pooled to 1/4), 1.
    let log_odds = [-2.0, -2.0, -1.0, -1.0, 0.0, 0.0, 1.0, 1.0];
    let labels = [false, false, true, false, false, false, true, true];
    let Calibrator::Isotonic { from, to } = isotonic(&log_odds, &labels) else { panic!("a curve") };
    assert_eq!(from.len(), to.len());
    assert_eq!(from.last(), Some(&1.0));
    let rate = |x: f64| 1.0 / (1.0 + (-x).exp());
    // Half a leaver from certain: (2 + 0.5) / 3.
    assert!((rate(to[to.len() - 1]) - 2.5 / 3.0).abs() < 1e-12, "{to:?}");
}

#[test]
fn hostile_curves_are_refused() {
    let curve =
        |from: &[f64], to: &[f64]| Calibrator::Isotonic { from: from.to_vec(), to: to.to_vec() };
    for bad in [
        Calibrator::Temperature { slope: -1.0, center: 0.0 },
        Calibrator::Temperature { slope: 1.0, center: f64::NAN },
        Calibrator::Platt { slope: 1.0, intercept: f64::INFINITY },
        curve(&[], &[]),
        curve(&[0.0, 0.0], &[0.0, 1.0]),
        curve(&[0.0, 1.0], &[1.0, 0.0]),
        curve(&[0.0, 1.0], &[1.0]),
    ] {
        assert!(bad.fault().is_some(), "{bad:?}");
    }
}

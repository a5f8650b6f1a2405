use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Golden {
    curves: Vec<Case>,
    restricted_means: Vec<RestrictedMean>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    months: Vec<u16>,
    churned: Vec<u8>,
    risks: Vec<f64>,
    expected: CurveMetrics,
}

#[derive(Deserialize)]
struct RestrictedMean {
    hazard: f64,
    horizon: i32,
    months: f64,
}

/// Made by `scripts/golden/survival_golden.py`.
fn golden() -> Golden {
    serde_json::from_str(include_str!("golden.json")).expect("the golden file is ours")
}

impl Case {
    fn follow_ups(&self) -> Vec<FollowUp> {
        let pairs = self.months.iter().zip(&self.churned);
        pairs.map(|(&months, &churned)| FollowUp { months, churned: churned == 1 }).collect()
    }

    fn metrics(&self) -> CurveMetrics {
        let (follow_ups, months) = (self.follow_ups(), self.expected.months.len());
        let curves = Curves { follow_ups: &follow_ups, risks: &self.risks, months };
        curve_metrics(&curves).expect("there are rows and months")
    }
}

fn of_month(m: &CurveMonth) -> [(&'static str, Option<f64>); 10] {
    [
        ("month", Some(f64::from(m.month))),
        ("at risk", Some(m.at_risk as f64)),
        ("hazard", Some(m.hazard)),
        ("hazard predicted", Some(m.hazard_predicted)),
        ("survival", Some(m.survival)),
        ("survival predicted", Some(m.survival_predicted)),
        ("brier", Some(m.brier)),
        ("brier of Kaplan-Meier", Some(m.brier_kaplan_meier)),
        ("auroc", m.auroc),
        ("calibration error", Some(m.calibration_error)),
    ]
}

fn of_curve(m: &CurveMetrics) -> [(&'static str, Option<f64>); 6] {
    [
        ("rows", Some(m.rows as f64)),
        ("censored", Some(m.censored as f64)),
        ("integrated brier", Some(m.integrated_brier)),
        ("integrated brier of Kaplan-Meier", Some(m.integrated_brier_kaplan_meier)),
        ("auroc", m.auroc),
        ("calibration error", Some(m.calibration_error_max)),
    ]
}

/// Sums of a few hundred numbers below 10: f64 leaves about 1e-13.
#[track_caller]
fn close(case: &str, (what, got): (&str, Option<f64>), expected: Option<f64>) {
    match (got, expected) {
        (Some(a), Some(b)) => {
            assert!((a - b).abs() <= 1e-9, "{case}: {what} is {a}, the libraries say {b}");
        }
        _ => assert_eq!(got, expected, "{case}: {what}"),
    }
}

#[test]
fn the_libraries_agree() {
    let golden = golden();
    assert!(golden.curves.len() >= 5);
    for case in &golden.curves {
        let (got, wanted) = (case.metrics(), &case.expected);
        for (a, b) in of_curve(&got).into_iter().zip(of_curve(wanted)) {
            close(&case.name, a, b.1);
        }
        for (got, wanted) in got.months.iter().zip(&wanted.months) {
            for (a, b) in of_month(got).into_iter().zip(of_month(wanted)) {
                close(&format!("{}, month {}", case.name, got.month), a, b.1);
            }
        }
    }
}

#[test]
fn expected_months_are_the_restricted_mean() {
    for RestrictedMean { hazard, horizon, months } in golden().restricted_means {
        let curve: Vec<f64> = (1..=horizon).map(|k| 1.0 - (1.0 - hazard).powi(k)).collect();
        close("constant hazard", ("months", Some(months_expected(&curve))), Some(months));
    }
    assert_eq!(months_expected(&[]), 0.0);
}

#[test]
fn what_is_not_defined_is_not_there() {
    let stays = [FollowUp { months: 2, churned: false }; 3];
    let risks = [0.1, 0.2].repeat(3);
    let all_stay = Curves { follow_ups: &stays, risks: &risks, months: 2 };
    let metrics = curve_metrics(&all_stay).expect("rows");
    assert_eq!((metrics.auroc, metrics.months[0].auroc, metrics.censored), (None, None, 0));
    assert!((metrics.integrated_brier - (0.01 + 0.04) / 2.0).abs() < 1e-15);
    assert_eq!(metrics.integrated_brier_kaplan_meier, 0.0);
    assert_eq!(curve_metrics(&Curves { follow_ups: &[], risks: &[], months: 2 }), None);
    let one = Curves { follow_ups: &stays, risks: &risks[..3], months: 1 };
    assert_eq!(curve_metrics(&one), None);
    // Nobody is seen in the last month.
    let short = [FollowUp { months: 2, churned: false }; 2];
    let curves = Curves { follow_ups: &short, risks: &[0.1, 0.2, 0.3, 0.1, 0.2, 0.3], months: 3 };
    assert_eq!(curve_metrics(&curves).expect("rows").months.len(), 2);
}

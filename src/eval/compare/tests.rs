use rand_chacha::rand_core::Rng;
use serde::Deserialize;

use super::bootstrap::Differences;
use super::*;
use crate::eval::results::{FoldMetrics, ModelMetrics, RunMetrics};
use crate::tune::normal;

#[derive(Deserialize)]
struct Golden {
    delong: Vec<DelongCase>,
    bootstrap: Vec<BootstrapCase>,
    summaries: Vec<Summary>,
    resampled: Vec<ResampledCase>,
    normal_tails: Vec<(f64, f64)>,
    student_tails: Vec<(f64, u32, f64)>,
}

#[derive(Deserialize)]
struct Rows {
    labels: Vec<u8>,
    customers: Vec<u32>,
    a: Vec<f64>,
    b: Vec<f64>,
}

#[derive(Deserialize)]
struct DelongCase {
    name: String,
    folds: Vec<Rows>,
    expected: Test,
}

#[derive(Deserialize)]
struct Test {
    difference: f64,
    standard_error: f64,
    interval: [f64; 2],
    p: f64,
}

#[derive(Deserialize)]
struct BootstrapCase {
    name: String,
    customers: usize,
    folds: Vec<Rows>,
    draws: Vec<Draw>,
}

#[derive(Deserialize)]
struct Draw {
    times: Vec<u64>,
    expected: Differences,
}

#[derive(Deserialize)]
struct Summary {
    draws: Vec<f64>,
    interval: [f64; 2],
    p: f64,
    standard_error: f64,
}

#[derive(Deserialize)]
struct ResampledCase {
    differences: Vec<f64>,
    test_to_train: f64,
    mean: f64,
    sd: f64,
    t: f64,
    p: f64,
    interval: [f64; 2],
}

/// Made by `scripts/golden/compare_golden.py`.
fn golden() -> Golden {
    serde_json::from_str(include_str!("golden.json")).expect("the golden file is ours")
}

fn paired(folds: &[Rows], customers: usize) -> Paired {
    let fold = |(number, rows): (usize, &Rows)| PairedFold {
        number: number as u32,
        labels: rows.labels.iter().map(|&y| y == 1).collect(),
        customers: rows.customers.clone(),
        risks: [rows.a.clone(), rows.b.clone()],
        train_rows: None,
    };
    Paired { folds: folds.iter().enumerate().map(fold).collect(), customers }
}

/// Sums of a few hundred numbers below 20: f64 leaves about 1e-13.
#[track_caller]
fn close(case: &str, what: &str, got: Option<f64>, expected: f64) {
    let got = got.unwrap_or_else(|| panic!("{case}: no {what}, expected {expected}"));
    assert!((got - expected).abs() <= 1e-9, "{case}: {what} is {got}, expected {expected}");
}

/// Small probabilities are compared by their digits.
#[track_caller]
fn close_tail(case: &str, got: f64, expected: f64) {
    let off = (got / expected - 1.0).abs();
    assert!(off <= 1e-9, "{case}: {got}, expected {expected}, off by {off}");
}

#[test]
fn delong_is_its_definition() {
    let cases = golden().delong;
    assert!(cases.len() >= 7);
    for DelongCase { name, folds, expected } in &cases {
        let paired = paired(folds, 2000);
        let compared = compare(&paired, Settings { draws: 0, seed: 0 });
        let auroc = &compared.measures[0];
        close(name, "difference", auroc.difference, expected.difference);
        let doubt = delong::doubt(&paired);
        assert_eq!(doubt, auroc.doubt);
        close(name, "standard error", doubt.standard_error, expected.standard_error);
        let interval = doubt.interval.expect("both classes");
        for (got, expected) in interval.into_iter().zip(expected.interval) {
            close(name, "interval", Some(got), expected);
        }
        close_tail(name, doubt.p.expect("both classes"), expected.p);
    }
}

#[test]
fn draws_are_measured_as_their_rows_would_be() {
    for BootstrapCase { name, customers, folds, draws } in &golden().bootstrap {
        let resampler = Resampler::new(&paired(folds, *customers));
        for (at, Draw { times, expected }) in draws.iter().enumerate() {
            let case = format!("{name}, draw {at}");
            let got = resampler.differences(times);
            for ((got, expected), measure) in got.into_iter().zip(expected).zip(&COMPARED[1..]) {
                match expected {
                    Some(expected) => close(&case, measure.name, got, *expected),
                    None => assert_eq!(got, None, "{case}: {}", measure.name),
                }
            }
        }
    }
}

/// The draw in which everybody is taken once is what is observed.
#[test]
fn what_is_observed_is_what_metrics_say() {
    for BootstrapCase { name, customers, folds, .. } in &golden().bootstrap {
        let paired = paired(folds, *customers);
        let once = Resampler::new(&paired).differences(&vec![1; *customers]);
        let compared = compare(&paired, Settings { draws: 10, seed: 0 });
        for (contrast, expected) in compared.measures[1..].iter().zip(once) {
            close(name, contrast.measure, contrast.difference, expected.expect("both classes"));
        }
    }
}

#[test]
fn draws_are_summed_up_as_by_numpy() {
    for (at, of) in golden().summaries.into_iter().enumerate() {
        let case = format!("summary {at}");
        let doubt = bootstrap::doubt(of.draws);
        close(&case, "p", doubt.p, of.p);
        close(&case, "standard error", doubt.standard_error, of.standard_error);
        for (got, expected) in doubt.interval.expect("draws").into_iter().zip(of.interval) {
            close(&case, "interval", Some(got), expected);
        }
    }
    let none = bootstrap::doubt(Vec::new());
    assert_eq!(
        (none.p, none.interval, none.standard_error, none.draws),
        (None, None, None, Some(0))
    );
}

#[test]
fn the_corrected_t_test_is_scipys() {
    for case in golden().resampled {
        let got = resampled::test(&case.differences, case.test_to_train).expect("two and more");
        let name = format!("{} folds", got.folds);
        close(&name, "mean", Some(got.mean), case.mean);
        close(&name, "sd", Some(got.sd), case.sd);
        close(&name, "t", got.t, case.t);
        close_tail(&name, got.p.expect("they differ"), case.p);
        for (got, expected) in got.interval.into_iter().zip(case.interval) {
            close(&name, "interval", Some(got), expected);
        }
    }
    assert_eq!(resampled::test(&[0.1], 0.2), None);
    let same = resampled::test(&[0.0; 3], 0.2).expect("three");
    assert_eq!((same.t, same.p), (None, Some(1.0)));
    let certain = resampled::test(&[0.25; 3], 0.2).expect("three");
    assert_eq!((certain.t, certain.p), (None, None));
}

#[test]
fn tails_keep_their_digits() {
    let golden = golden();
    for (z, expected) in golden.normal_tails {
        close_tail(&format!("normal {z}"), 2.0 * normal::cdf(-z), expected);
    }
    for (t, freedom, expected) in golden.student_tails {
        let case = format!("t {t}, {freedom} degrees");
        close_tail(&case, resampled::two_sided(t, freedom), expected);
        assert_eq!(resampled::two_sided(-t, freedom), resampled::two_sided(t, freedom));
    }
}

/// Two models of which the first is better by a little: rows, and how clearly.
fn simulated(rows: usize, edge: f64) -> Paired {
    let mut rng = Seeds::new(3).stream("rows", 0);
    let mut uniform = || (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let mut fold = PairedFold::default();
    for row in 0..rows {
        let truth = 0.1 + 0.5 * uniform();
        let noise = [uniform() - 0.5, uniform() - 0.5];
        fold.labels.push(uniform() < truth);
        fold.customers.push(row as u32);
        fold.risks[0].push((truth + 0.4 * noise[0]).clamp(0.01, 0.99));
        fold.risks[1].push((truth + (0.4 + edge) * noise[1]).clamp(0.01, 0.99));
    }
    Paired { folds: vec![fold], customers: rows }
}

#[test]
fn the_better_model_is_found_and_equals_are_not_told_apart() {
    let settings = Settings { draws: 500, seed: 1 };
    let clear = compare(&simulated(3000, 1.0), settings);
    for contrast in clear.measures.iter().filter(|contrast| contrast.measure != "lift_10") {
        assert_eq!(contrast.winner(), Some(Side::A), "{contrast:?}");
    }
    let equal = compare(&simulated(3000, 0.0), settings);
    for contrast in &equal.measures[..3] {
        assert_eq!(contrast.winner(), None, "{contrast:?}");
    }
    let mut same = simulated(200, 0.0);
    same.folds[0].risks[1] = same.folds[0].risks[0].clone();
    for contrast in compare(&same, settings).measures {
        assert_eq!((contrast.difference, contrast.doubt.p), (Some(0.0), Some(1.0)));
    }
}

/// For one measure that is a mean, the bootstrap's standard error is known.
#[test]
fn the_bootstrap_has_the_standard_error_of_a_mean() {
    let paired = simulated(2000, 0.3);
    let fold = &paired.folds[0];
    let rows = fold.labels.iter().zip(&fold.risks[0]).zip(&fold.risks[1]);
    let target = |label: &bool| f64::from(u8::from(*label));
    let brier = rows.map(|((y, a), b)| (a - target(y)).powi(2) - (b - target(y)).powi(2));
    let brier: Vec<f64> = brier.collect();
    let mean = brier.iter().sum::<f64>() / 2000.0;
    let error = (brier.iter().map(|d| (d - mean).powi(2)).sum::<f64>()).sqrt() / 2000.0;
    let compared = compare(&paired, Settings { draws: 4000, seed: 2 });
    let doubt = &compared.measures[2].doubt;
    // 4,000 draws: a standard error is known to 1 / sqrt(8,000), of which this is four.
    assert!(
        (doubt.standard_error.expect("draws") / error - 1.0).abs() < 0.045,
        "{doubt:?}, {error}"
    );
    assert_eq!(doubt.draws, Some(4000));
}

#[test]
fn swapped_models_mirror_and_threads_change_nothing() {
    let paired = simulated(300, 0.5);
    let mut swapped = paired.clone();
    swapped.folds[0].risks.swap(0, 1);
    let settings = Settings { draws: 200, seed: 4 };
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
    let forward = compare(&paired, settings);
    assert_eq!(one.install(|| compare(&paired, settings)), forward);
    for (a, b) in forward.measures.iter().zip(compare(&swapped, settings).measures) {
        close(a.measure, "difference", a.difference, -b.difference.expect("both classes"));
        close(a.measure, "p", a.doubt.p, b.doubt.p.expect("both classes"));
    }
    assert_ne!(compare(&paired, Settings { seed: 5, ..settings }), forward);
}

#[test]
fn one_class_defines_no_ranking() {
    let mut paired = simulated(40, 0.5);
    paired.folds[0].labels = vec![false; 40];
    let compared = compare(&paired, Settings { draws: 100, seed: 0 });
    let auroc = &compared.measures[0];
    assert_eq!((auroc.difference, auroc.doubt.p, auroc.winner()), (None, None, None));
    assert_eq!(compared.measures[3].doubt.draws, Some(0));
    assert!(compared.measures[1].doubt.p.is_some());
}

/// Folds of a run whose champion beats `b` in each by about as much.
#[test]
fn a_champion_stands_beside_the_others_over_folds() {
    let of = |auroc: f64, rows: u64| Metrics {
        auroc: Some(auroc),
        log_loss: 1.0 - auroc,
        rows,
        ..metrics(&[true, false], &[0.6, 0.4], 0.1)
    };
    let model = |aurocs: [f64; 3]| {
        let fold = |(fold, auroc): (u32, f64)| FoldMetrics {
            fold,
            splits: [("test".to_owned(), of(auroc, 20)), ("train".to_owned(), of(auroc, 60))]
                .into(),
        };
        ModelMetrics::of_folds((0..).zip(aurocs).map(fold).collect())
    };
    let mut run = RunMetrics {
        champion: Some("a".into()),
        models: [("a", model([0.8, 0.82, 0.84])), ("b", model([0.79, 0.80, 0.83]))]
            .map(|(name, model)| (name.to_owned(), model))
            .into(),
        ablation: Vec::new(),
        losses: Vec::new(),
    };
    let against = runs::against_champion(&run);
    assert_eq!(against.len(), 1);
    let expected = resampled::test(&[0.01, 0.02, 0.01], 20.0 / 60.0).expect("three folds");
    let got = against[0].tests[0].as_ref().expect("three folds");
    close("b", "mean", Some(got.mean), expected.mean);
    close("b", "p", got.p, expected.p.expect("they differ"));
    expect_test::expect![[r#"
        a minus each other model on test, mean ± sd over 3 folds (corrected resampled t-test)
        model                      AUROC                   log loss
        b      +0.0133 ± 0.0058 (p 0.11)  -0.0133 ± 0.0058 (p 0.11)
    "#]]
    .assert_eq(&runs::table(&run));
    run.champion = None;
    assert_eq!(runs::table(&run), "");
}

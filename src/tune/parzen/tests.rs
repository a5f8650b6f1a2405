use super::*;
use crate::seeds::Seeds;
use toml::Value;

fn space() -> Space {
    let choices = ["x", "y", "z"].map(Value::from).to_vec();
    let domains = [
        ("a", Domain::Real(-1.0, 2.0)),
        ("b", Domain::Log(1e-4, 1e-1)),
        ("c", Domain::Int(2, 5)),
        ("d", Domain::LogInt(1, 300)),
        ("e", Domain::Choices(choices)),
    ];
    Space(domains.into_iter().map(|(name, domain)| (name.to_owned(), domain)).collect())
}

/// The points of `scripts/golden/tpe_golden.py`.
fn point(i: u32) -> Vec<f64> {
    vec![
        -1.0 + 3.0 * f64::from((i * 37 + 11) % 101) / 100.0,
        (1e-4 * 1000f64.powf(f64::from((i * 53 + 7) % 97) / 96.0)).ln(),
        f64::from(2 + i * 5 % 4),
        f64::from(1 + i * 71 % 300).ln(),
        f64::from(i * 7 % 3),
    ]
}

/// Golden numbers: Optuna 5.0, `scripts/golden/tpe_golden.py densities`.
#[test]
fn densities_are_those_of_optuna() {
    let queries = [
        [-1.0, 1e-4f64.ln(), 2.0, 0.0, 0.0],
        [0.31, 3e-3f64.ln(), 3.0, 20f64.ln(), 1.0],
        [1.99, 9e-2f64.ln(), 5.0, 300f64.ln(), 2.0],
        [0.5, 1e-2f64.ln(), 4.0, 64f64.ln(), 0.0],
    ];
    for (n, expected) in [
        (0, [-7.523609809996256, -10.21918875305395, -13.350359742506486, -11.424813337140328]),
        (1, [-6.618338896954558, -10.421258566580061, -13.847340951349803, -11.261039794498222]),
        (2, [-5.718644845813545, -9.452680592630669, -14.3636489465719, -11.718284963041176]),
        (7, [-4.652477320229003, -10.055661819780353, -13.63658082517735, -10.719245326645881]),
        (40, [-10.999977363972524, -13.736315393473856, -16.8674865911757, -13.241923837809585]),
    ] {
        let points: Vec<Vec<f64>> = (0..n).map(point).collect();
        let points: Vec<&[f64]> = points.iter().map(Vec::as_slice).collect();
        let parzen = Parzen::new(&space(), &points);
        for (query, expected) in queries.iter().zip(expected) {
            let got = parzen.ln_density(query);
            // Sums of some hundred terms, each good to 1e-12. In high precision the second one of 40
            // points is -13.73631539347387.
            assert!((got - expected).abs() < 1e-9, "{n} points, {query:?}: {got}, not {expected}");
        }
    }
}

/// Shares of draws against the density's own probabilities.
#[test]
fn draws_follow_the_density() {
    let space = space();
    let points: Vec<Vec<f64>> = (0..5).map(point).collect();
    let points: Vec<&[f64]> = points.iter().map(Vec::as_slice).collect();
    let parzen = Parzen::new(&space, &points);
    let mut rng = Seeds::new(3).stream("draws", 0);
    let draws: Vec<Vec<f64>> = (0..20_000).map(|_| parzen.sample(&mut rng)).collect();
    for draw in &draws {
        assert!(space.coordinates(&space.params(draw)).is_some(), "{draw:?} lies outside");
    }
    for choice in 0..3 {
        let Dimension::Choice { rows } = &parzen.dimensions[4] else { panic!("choices are last") };
        let kernels = parzen.weights.iter().zip(rows);
        let expected: f64 = kernels.map(|(weight, row)| weight * row[choice]).sum();
        check_share(&draws, &|draw| draw[4] as usize == choice, expected);
    }
    let Dimension::Number { low, kernels, .. } = &parzen.dimensions[0] else {
        panic!("a real number is first")
    };
    for below in [-0.5, 0.2, 1.4] {
        let parts = kernels.iter().map(|kernel| kernel.mass(*low, below));
        let expected: f64 = parzen.weights.iter().zip(parts).map(|(w, part)| w * part).sum();
        check_share(&draws, &|draw| draw[0] < below, expected);
    }
}

#[track_caller]
fn check_share(draws: &[Vec<f64>], is: &dyn Fn(&[f64]) -> bool, expected: f64) {
    let share = draws.iter().filter(|draw| is(draw)).count() as f64 / draws.len() as f64;
    // Five standard errors of a share of 20,000.
    assert!((share - expected).abs() < 5.0 * (0.25f64 / 20_000.0).sqrt(), "{share}, {expected}");
}

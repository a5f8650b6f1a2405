use std::f64::consts::PI;

use toml::Value;

use super::*;

/// A function of named numbers; choices are told by their place.
type Function = fn(&dyn Fn(&str) -> f64) -> f64;

fn space(domains: &[(&str, Domain)]) -> Space {
    Space(domains.iter().map(|(name, domain)| ((*name).to_owned(), domain.clone())).collect())
}

/// The value at the parameters.
fn at(space: &Space, params: &Params, function: Function) -> f64 {
    function(&|name| match &params[name] {
        Value::Integer(n) => *n as f64,
        Value::Float(x) => *x,
        choice => space.0[name].coordinate(choice).expect("a choice"),
    })
}

fn seen((number, (params, loss)): (usize, &(Params, f64))) -> Seen<'_> {
    Seen { number: number as u32, params, outcome: Outcome::Loss { rungs: 1, loss: *loss } }
}

/// The best of 60 trials, one after the other.
fn best_of_60(space: &Space, seed: u64, function: Function) -> f64 {
    let seeds = Seeds::new(seed);
    let mut tried: Vec<(Params, f64)> = Vec::new();
    for number in 0..60 {
        let history: Vec<Seen> = tried.iter().enumerate().map(seen).collect();
        let params = suggest(space, &seeds, number, &history);
        let loss = at(space, &params, function);
        tried.push((params, loss));
    }
    tried.iter().map(|(_, loss)| *loss).fold(f64::INFINITY, f64::min)
}

fn sphere(x: &dyn Fn(&str) -> f64) -> f64 {
    ["x0", "x1", "x2", "x3"].iter().map(|name| (x(name) - 1.5).powi(2)).sum()
}

fn branin(v: &dyn Fn(&str) -> f64) -> f64 {
    let (x, y) = (v("x"), v("y"));
    let bend = y - 5.1 / (4.0 * PI * PI) * x * x + 5.0 / PI * x - 6.0;
    bend * bend + 10.0 * (1.0 - 1.0 / (8.0 * PI)) * x.cos() + 10.0
}

/// Like a training: a rate, a width, a number of blocks and a kind that shifts the optimum.
fn mixed(x: &dyn Fn(&str) -> f64) -> f64 {
    let (best, penalty) = [(1e-3, 0.0), (3e-3, 0.2), (3e-4, 0.5)][x("kind") as usize];
    (x("rate") / best).log10().powi(2)
        + 0.3 * (x("width") / 128.0).log2().powi(2)
        + 0.1 * (x("blocks") - 3.0).powi(2)
        + penalty
}

/// Means over seeds of the best of 60 trials, beside Optuna 5.0's with the same number of trials
/// and 100 seeds (`scripts/golden/tpe_golden.py functions`): not above its mean by more than three
/// standard errors of the difference of both means. With 100 seeds ours are 0.440 (standard error
/// 0.028), 0.559 (0.014) and 0.076 (0.010).
#[test]
fn as_good_as_optuna() {
    let kinds = ["a", "b", "c"].map(Value::from).to_vec();
    let side = || Domain::Real(-5.0, 5.0);
    let cases: [(&str, Space, Function, f64, f64); 3] = [
        (
            "sphere",
            space(&[("x0", side()), ("x1", side()), ("x2", side()), ("x3", side())]),
            sphere,
            0.4213,
            0.0278,
        ),
        (
            "branin",
            space(&[("x", Domain::Real(-5.0, 10.0)), ("y", Domain::Real(0.0, 15.0))]),
            branin,
            0.5730,
            0.0172,
        ),
        (
            "mixed",
            space(&[
                ("rate", Domain::Log(1e-5, 1e-1)),
                ("width", Domain::LogInt(8, 512)),
                ("blocks", Domain::Int(1, 6)),
                ("kind", Domain::Choices(kinds)),
            ]),
            mixed,
            0.0820,
            0.0124,
        ),
    ];
    let seeds = 30;
    for (name, space, function, optuna, error) in cases {
        let best: Vec<f64> = (0..seeds).map(|seed| best_of_60(&space, seed, function)).collect();
        let mean = best.iter().sum::<f64>() / seeds as f64;
        let variance = best.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (seeds - 1) as f64;
        let margin = 3.0 * (variance / seeds as f64 + error * error).sqrt();
        assert!(mean < optuna + margin, "{name}: {mean:.4}, Optuna {optuna} with {margin:.4}");
    }
}

#[test]
fn a_draw_is_a_function_of_seed_number_and_history() {
    let space = space(&[("x", Domain::Real(0.0, 1.0)), ("n", Domain::LogInt(1, 100))]);
    let tried: Vec<(Params, f64)> = (0..20)
        .map(|number| {
            let params = suggest(&space, &Seeds::new(7), number, &[]);
            let loss = f64::from(number * 13 % 20);
            (params, loss)
        })
        .collect();
    let history: Vec<Seen> = tried.iter().enumerate().map(seen).collect();
    let draw = |seed, number, history: &[Seen]| suggest(&space, &Seeds::new(seed), number, history);
    assert_eq!(draw(1, 20, &history), draw(1, 20, &history));
    assert_ne!(draw(1, 20, &history), draw(2, 20, &history));
    assert_ne!(draw(1, 20, &history), draw(1, 21, &history));
    assert_ne!(draw(1, 20, &history), draw(1, 20, &history[1..]));
}

/// Eleven finished trials: the best two are good, and what is drawn is close to them; a running
/// trial on the same spot counts as bad.
#[test]
fn it_goes_where_the_good_ones_are() {
    let space = space(&[("x", Domain::Real(0.0, 1.0))]);
    let params = |x: f64| -> Params { [("x".to_owned(), Value::Float(x))].into() };
    let points: Vec<Params> = (0..11).map(|i| params(f64::from(i) / 10.0)).collect();
    let loss = |i: usize| (i as f64 / 10.0 - 0.75).abs();
    let finished = |i| Seen {
        number: i as u32,
        params: &points[i],
        outcome: Outcome::Loss { rungs: 1, loss: loss(i) },
    };
    let mut history: Vec<Seen> = (0..11).map(finished).collect();
    let mean = |history: &[Seen]| {
        let draw = |n| suggest(&space, &Seeds::new(1), n, history)["x"].as_float().expect("real");
        (20..120).map(draw).map(|x| (x - 0.75).abs()).sum::<f64>() / 100.0
    };
    let near = mean(&history);
    // Uniform draws are 0.3125 away.
    assert!(near < 0.1, "{near}");
    let same = params(0.75);
    history.extend((11..19).map(|number| Seen {
        number,
        params: &same,
        outcome: Outcome::Running,
    }));
    let away = mean(&history);
    assert!(away > near + 0.05, "{near} without, {away} with trials under way at the best place");
}

/// A trial that went further is better, whatever the losses; a failed one is the worst.
#[test]
fn how_far_a_trial_came_counts_first() {
    let space = space(&[("x", Domain::Real(0.0, 1.0))]);
    // Two at the right end, the others from left to right, the better the further left.
    let at = |i: u32| if i < 2 { 0.85 + 0.1 * f64::from(i) } else { 0.05 + 0.04 * f64::from(i) };
    let points: Vec<Params> =
        (0..20).map(|i| [("x".to_owned(), Value::Float(at(i)))].into()).collect();
    let history = |rungs: usize| -> Vec<Seen> {
        let outcome = |i| match i {
            0 | 1 => Outcome::Loss { rungs, loss: 9.0 },
            19 => Outcome::Loss { rungs: 0, loss: f64::INFINITY },
            _ => Outcome::Loss { rungs: 1, loss: at(i) },
        };
        let seen = |i: u32| Seen { number: i, params: &points[i as usize], outcome: outcome(i) };
        (0..20).map(seen).collect()
    };
    let mean = |rungs: usize| {
        let seen = history(rungs);
        let draw = |n| suggest(&space, &Seeds::new(1), n, &seen)["x"].as_float().expect("real");
        (20..60).map(draw).sum::<f64>() / 40.0
    };
    let (further, level) = (mean(2), mean(1));
    assert!(further > 0.7 && level < 0.4, "{further} if they went further, {level} if not");
}

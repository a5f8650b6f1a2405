//! Properties that every preset keeps.

use super::*;
use crate::clock::Month;
use crate::config::{self, LabelSpec, Overrides, SourceSpec};
use crate::error::Kind;
use life::{Life, World};

fn spec(industry: Industry, customers: u32) -> SimulateSpec {
    SimulateSpec { industry, customers, months: 36, seed: 7 }
}

fn lives(spec: &SimulateSpec) -> Vec<Life> {
    let world = World::new(spec);
    (0..spec.customers).map(|i| world.live(i)).collect()
}

#[test]
fn the_same_seed_writes_the_same_bytes_and_another_does_not() {
    let dir = tempfile::tempdir().expect("a folder");
    let run_at = |name: &str, seed| {
        let spec = SimulateSpec { seed, ..spec(Industry::Telecom, 200) };
        let summary = run(&spec, &dir.path().join(name)).expect("written");
        let bytes = |path: &PathBuf| std::fs::read(path).expect("a file");
        (summary.files.iter().map(bytes).collect::<Vec<_>>(), summary)
    };
    let ((a, one), (b, two), (c, _)) = (run_at("a", 1), run_at("b", 1), run_at("c", 2));
    assert!(a == b, "the same spec gave other files");
    assert!(a.iter().zip(&c).all(|(a, c)| a != c), "another seed gave the same file");
    assert_eq!(Summary { files: vec![], ..one }, Summary { files: vec![], ..two });
}

#[test]
fn a_customer_does_not_depend_on_how_many_there_are() {
    for industry in Industry::ALL {
        let (few, many) = (lives(&spec(industry, 10)), lives(&spec(industry, 300)));
        assert_eq!(few, many[..10], "{industry}");
    }
}

#[test]
fn lives_lie_inside_the_calendar_and_end_with_churn() {
    for industry in Industry::ALL {
        let spec = spec(industry, 2000);
        let (first, end) = (Month::new(2022, 1), Month::new(2025, 1).first_day());
        for life in lives(&spec) {
            let until = life.churn.map_or(end, |day| Month::of_day(day).first_day());
            let from = life.signup.max(first.first_day());
            let start = Month::of_day(from);
            assert!(life.churn.is_none_or(|day| day < end), "{}", life.id);
            assert_eq!(life.truth.first().map(|t| t.0), Some(start), "{}", life.id);
            assert_eq!(life.activity.first().map(|r| r.month), Some(start), "{}", life.id);
            assert!(life.activity.iter().all(|r| r.month.first_day() < until && r.loaded_at < end));
            assert!(life.events.iter().all(|e| from <= e.day && e.day < until), "{}", life.id);
            assert!(life.activity.is_sorted_by(|a, b| a.month < b.month), "{}", life.id);
        }
    }
}

#[test]
fn the_holes_have_the_rates_they_claim() {
    for industry in Industry::ALL {
        let all = lives(&spec(industry, 2000));
        let months: usize = all.iter().map(|life| life.truth.len()).sum();
        let rows: Vec<_> = all.iter().flat_map(|life| &life.activity).collect();
        let late = rows.iter().filter(|r| r.loaded_at >= r.month.plus(1).first_day()).count();
        let share = |n: usize| n as f64 / months as f64;
        // About 40,000 months: a rate of 1 % has a standard error of 0.05 %. Late rows are fewer
        // than drawn, since the first and the last month of a life show none.
        assert!((0.007..0.011).contains(&share(late)), "{industry}: late {}", share(late));
        let absent = share(months - rows.len());
        assert!((0.006..0.011).contains(&absent), "{industry}: absent {absent}");
        let missing = rows.iter().filter(|r| r.measures.contains(&None)).count();
        assert!((0.05..0.12).contains(&share(missing)), "{industry}: missing {}", share(missing));
    }
}

#[test]
fn the_true_hazard_is_the_rate_of_churn() {
    for industry in Industry::ALL {
        let lives = lives(&spec(industry, 5000));
        let outcomes: Vec<_> = lives.iter().flat_map(tables::outcomes).collect();
        let (mut expected, mut variance, mut seen) = (0.0, 0.0, 0.0);
        for outcome in &outcomes {
            assert!(outcome.risk > 0.0 && outcome.risk < 1.0, "{industry}: {}", outcome.risk);
            expected += outcome.risk;
            variance += outcome.risk * (1.0 - outcome.risk);
            seen += f64::from(u8::from(outcome.churned));
        }
        // Outcomes minus hazards are a martingale, so their variances add up.
        let z = (seen - expected) / f64::sqrt(variance);
        assert!(z.abs() < 3.0, "{industry}: {seen} churned, {expected} expected, z = {z}");
        let churned = lives.iter().filter(|life| life.churn.is_some()).count();
        assert_eq!(seen as usize, churned);
        let rate = seen / outcomes.len() as f64;
        assert!((0.02..0.03).contains(&rate), "{industry}: monthly churn {rate}");
    }
}

#[test]
fn churn_can_be_predicted_as_far_as_promised() {
    for industry in Industry::ALL {
        let mut bayes = bayes::Bayes::default();
        let lives = lives(&spec(industry, 5000));
        lives.iter().flat_map(tables::outcomes).for_each(|outcome| bayes.observe(outcome));
        let line = bayes.line();
        let gap = 1.0 - line.log_loss / line.base_log_loss;
        // 12 to 20 % is the design; 5,000 customers measure it to about one point.
        assert!((0.11..0.21).contains(&gap), "{industry}: gap {gap}");
        assert!((0.75..0.9).contains(&line.auroc), "{industry}: AUROC {}", line.auroc);
    }
}

#[test]
fn what_cannot_be_simulated_is_refused() {
    let cases = [
        (0, 36, "cannot simulate 0 customers; choose 1 to 10000000"),
        (10_000_001, 36, "cannot simulate 10000001 customers"),
        (10, 5, "cannot simulate 5 months; choose 6 to 240"),
        (10, 241, "cannot simulate 241 months"),
        (10_000_000, 200, "10000000 customers x 200 months are 2000000000 customer-months"),
    ];
    for (customers, months, message) in cases {
        let spec = SimulateSpec { customers, months, ..spec(Industry::Saas, 1) };
        let error = run(&spec, Path::new("/nowhere")).expect_err("refused");
        assert_eq!(error.kind, Kind::Usage);
        assert!(error.to_string().starts_with(message), "{error}");
    }
    let error = "bank".parse::<Industry>().expect_err("refused");
    assert_eq!(error.to_string(), "`bank` is no industry; one of: telecom, saas, finance");
    for industry in Industry::ALL {
        assert_eq!(industry.name().parse::<Industry>(), Ok(industry));
    }
}

#[test]
fn the_smallest_simulation_works() {
    let dir = tempfile::tempdir().expect("a folder");
    let spec = SimulateSpec { industry: Industry::Finance, customers: 1, months: 6, seed: 0 };
    let summary = run(&spec, dir.path()).expect("written");
    assert_eq!((summary.customers, summary.files.len()), (1, 4));
    assert!(summary.files.iter().all(|path| path.exists()));
}

#[test]
fn the_preset_reads_what_is_written() {
    for industry in Industry::ALL {
        let path = format!("{}/configs/{industry}.toml", env!("CARGO_MANIFEST_DIR"));
        let overrides = Overrides { sets: &[], env: &|_| None };
        let config = config::load(Path::new(&path), &overrides).expect("a preset").config;
        let profile = industry.market().profile();
        let read = |source: &SourceSpec| source.columns.keys().cloned().collect::<Vec<_>>();
        let mut written = [
            profile.attributes.iter().map(|&(name, _)| name).chain(["signup_date"]).collect(),
            profile.measures.iter().map(|&(name, _)| name).collect::<Vec<_>>(),
            profile.events_labels.into_iter().chain(profile.events_numbers).collect(),
        ];
        for (source, written) in config.sources.iter().zip(&mut written) {
            written.sort_unstable();
            assert_eq!(read(source), *written, "{industry}: {}", source.name);
        }
        let files: Vec<_> = config.sources.iter().flat_map(|source| source.path.iter()).collect();
        assert_eq!(files, ["customers.csv", "activity.parquet", profile.events_file]);
        assert_eq!(config.sources[2].time.as_deref(), Some(profile.events_day));
        let label = LabelSpec::Event {
            source: "customers".into(),
            column: "churn_date".into(),
            gap: 0,
            horizon: HORIZON_MONTHS,
        };
        assert_eq!((config.name.as_str(), config.label), (industry.name(), label));
    }
}

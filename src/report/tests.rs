use std::collections::BTreeMap;

use super::*;
use crate::eval::metrics::{Metrics, metrics};
use crate::eval::results::{FoldMetrics, ModelMetrics};

/// Labels and risks whose noise, 0..=1, decides how good the model is.
struct Sample {
    labels: Vec<bool>,
    risks: Vec<f64>,
}

impl Sample {
    /// Weyl sequences instead of a generator: the same rows on every machine.
    fn new(rows: usize, noise: f64) -> Self {
        let draw = |i: usize, step: f64| ((i + 1) as f64 * step).fract();
        let truth = |i| 0.3 * draw(i, 0.618_033_988_749_894_9);
        let labels = (0..rows).map(|i| draw(i, 0.754_877_666_246_692_7) < truth(i)).collect();
        let other = |i| 0.3 * draw(i, 0.569_840_290_998_053_2);
        let risks = (0..rows).map(|i| (1.0 - noise) * truth(i) + noise * other(i)).collect();
        Self { labels, risks }
    }

    fn one_class(rows: usize) -> Self {
        Self { labels: vec![false; rows], risks: vec![0.1; rows] }
    }

    fn metrics(&self) -> Metrics {
        metrics(&self.labels, &self.risks, 0.1)
    }
}

/// A report's parts, so that each test changes what it is about.
struct Case {
    samples: Vec<(&'static str, Sample)>,
    metrics: RunMetrics,
    training: Vec<TrainingCurve>,
    quality: Vec<QualityLine>,
    config: String,
}

impl Case {
    fn new(samples: Vec<(&'static str, Sample)>) -> Self {
        let splits = |sample: &Sample| {
            BTreeMap::from(["test", "validation"].map(|s| (s.to_owned(), sample.metrics())))
        };
        let models = samples
            .iter()
            .map(|(name, sample)| ((*name).to_owned(), ModelMetrics::single(splits(sample))));
        let losses = |epoch: u32| (f64::from(epoch), 0.4 / f64::from(epoch), 0.3);
        let training = samples.iter().map(|(name, _)| TrainingCurve {
            model: (*name).to_owned(),
            fold: None,
            points: (1..9).map(losses).collect(),
        });
        Self {
            metrics: RunMetrics { models: models.collect(), ..RunMetrics::default() },
            training: training.collect(),
            quality: Vec::new(),
            config: "name = \"shop\"".to_owned(),
            samples,
        }
    }

    /// Four models, of which the GRU is the best and the MLP worse than the logistic regression.
    fn usual() -> Self {
        let noises = [("gru", 0.0), ("hybrid", 0.1), ("logistic", 0.4), ("mlp", 0.8)];
        Self::new(noises.map(|(name, noise)| (name, Sample::new(4000, noise))).into())
    }

    #[track_caller]
    fn page(&self) -> String {
        let scores: Vec<ModelScores> = self
            .samples
            .iter()
            .map(|(name, s)| ModelScores {
                name,
                labels: &s.labels,
                risks: &s.risks,
                raw_risks: &s.risks,
            })
            .collect();
        render(&ReportInput {
            title: "Churn of <Müller & Co>",
            run_id: "shop-1",
            bundle_id: Some("shop-1-gru"),
            label: "churn_date of customers lies in the month after the as-of month",
            data_summary: &[("customers".into(), "4,000 \"active\"".into())],
            quality: &self.quality,
            metrics: &self.metrics,
            scores: &scores,
            training: &self.training,
            config_toml: &self.config,
            notes: &["read <me>".to_owned()],
        })
        .expect("a page")
    }
}

#[track_caller]
fn has(page: &str, parts: &[&str]) {
    for part in parts {
        assert!(page.contains(part), "{part:?} is not in\n{page}");
    }
}

#[track_caller]
fn lacks(page: &str, parts: &[&str]) {
    for part in parts {
        assert!(!page.contains(part), "{part:?} is in\n{page}");
    }
}

#[test]
fn the_page_stands_alone_and_shows_every_model() {
    let page = Case::usual().page();
    lacks(&page, &["http", "<script", "src=", "url(", "@import", "NaN", "inf,"]);
    has(
        &page,
        &["Churn of &lt;Müller &amp; Co&gt;", "read &lt;me&gt;", "4,000 &quot;active&quot;"],
    );
    has(&page, &["shop-1-gru", "name = &quot;shop&quot;"]);
    for label in ["MLP", "GRU", "Hybrid", "Logistic regression"] {
        // Test and validation tables, four curves, reliability and training.
        assert!(page.matches(label).count() >= 8, "{label}");
    }
    // Four plots of all models, four reliability plots, four of training.
    assert_eq!(page.matches("<svg ").count(), 12);
    assert_eq!(page.matches("</svg>").count(), 12);
    assert_eq!(page, Case::usual().page());
}

#[test]
fn the_headline_follows_the_numbers() {
    let case = Case::usual();
    let page = case.page();
    let gru = &case.metrics.models["gru"].splits["test"];
    let recall = html::percent(gru.recall_at_contact.expect("leavers"));
    let lift = format!("<b>{:.1} times</b>", gru.lift_10.expect("leavers"));
    has(&page, &["<b>10\u{a0}%</b> of customers", &format!("reaches <b>{recall}</b>"), &lift]);
    has(
        &page,
        &["The model is GRU: of 4 models", "MLP loses to Logistic regression on test: log loss"],
    );
    lacks(&page, &["GRU loses", "Hybrid loses", "No network loses", "it was not chosen"]);

    let mut case = Case::usual();
    case.samples.retain(|(name, _)| *name != "mlp");
    case.metrics.models.remove("mlp");
    has(&case.page(), &["No network loses to a baseline on test"]);

    // Validation chooses even where test knows better, and the page says so.
    let mut case = Case::usual();
    let mlp = case.metrics.models.get_mut("mlp").expect("a model");
    mlp.splits.get_mut("validation").expect("a split").log_loss = 0.01;
    has(&case.page(), &["The model is MLP: of 4 models", "On test, GRU has the lower log loss"]);

    let chance =
        Case::new(vec![("mlp", Sample { risks: vec![0.2; 900], ..Sample::new(900, 0.0) })]);
    has(&chance.page(), &["no better than choosing the same number at random"]);
    has(&chance.page(), &["No baseline was trained beside the networks"]);
}

#[test]
fn hostile_names_and_texts_stay_text() {
    const EVIL: &str = "\"><img src=x onerror=alert(1)><script>alert(2)</script>";
    let mut case = Case::new(vec![(EVIL, Sample::new(500, 0.3)), ("mlp", Sample::new(500, 0.2))]);
    case.config = format!("name = '{EVIL}'</pre>");
    case.quality = vec![QualityLine {
        name: EVIL.into(),
        severity: Severity::Error,
        passed: false,
        detail: format!("column {EVIL}"),
    }];
    let page = case.page();
    lacks(&page, &["<img", "<script", "'</pre>"]);
    has(&page, &["&lt;img src=x", "1 of 1 data checks did not pass", "✗"]);
}

#[test]
fn what_is_missing_is_said() {
    let nothing = Case { metrics: RunMetrics::default(), ..Case::new(Vec::new()) }.page();
    has(&nothing, &["No model was measured.", "No model can be recommended"]);
    has(&nothing, &["No test risks were given", "No training curves", "No data checks were run"]);
    lacks(&nothing, &["<svg"]);

    let mut case = Case::new(vec![("gru", Sample::one_class(50))]);
    case.training[0].points = vec![(1.0, f64::NAN, f64::INFINITY)];
    let page = case.page();
    has(&page, &["Nobody leaves in the test split", "Not defined", "No training curves", "–"]);
    lacks(&page, &["<svg", "NaN", "inf"]);

    // A single epoch and a loss that blew up still make a plot.
    let mut case = Case::new(vec![("gru", Sample::new(50, 0.2))]);
    case.training[0].points = vec![(1.0, 0.3, f64::NAN)];
    assert_eq!(case.page().matches("<svg ").count(), 6);

    let mut case = Case::usual();
    for model in case.metrics.models.values_mut() {
        model.splits.remove("test");
    }
    has(
        &case.page(),
        &["Test: no model was measured", "There is no test split", "share no number"],
    );
}

#[test]
fn folds_are_shown_as_mean_and_spread() {
    let mut case = Case::usual();
    for (name, noise) in [("mlp", 0.8), ("logistic", 0.4)] {
        let fold = |fold: u32| FoldMetrics {
            fold,
            splits: ["test", "validation"]
                .map(|split| (split.to_owned(), Sample::new(900 + fold as usize, noise).metrics()))
                .into(),
        };
        let folds = ModelMetrics::of_folds((0..3).map(fold).collect());
        case.metrics.models.insert(name.to_owned(), folds);
    }
    let page = case.page();
    has(&page, &["mean over 3 folds", "<small>±", "(worse in 3 of 3 folds)"]);
    has(&page, &["measured on different snapshots: do not compare"]);
}

#[test]
fn the_best_value_is_bold_and_ties_share_it() {
    let twins = Case::new(vec![("gru", Sample::new(900, 0.1)), ("mlp", Sample::new(900, 0.1))]);
    // Ten columns, two splits, two models, and the legend.
    assert_eq!(twins.page().matches("<b class=\"best\">").count(), 41);
    let alone = Case::new(vec![("gru", Sample::new(900, 0.1))]);
    assert_eq!(alone.page().matches("<b class=\"best\">").count(), 1);
}

use super::*;

/// 300 and 120 rows of 8 columns, and what scikit-learn fits to them
/// (`scripts/golden/eval_golden.py`).
#[derive(Deserialize)]
struct Golden {
    columns: usize,
    train: Table,
    validation: Table,
    fits: Vec<Fit>,
}

#[derive(Deserialize)]
struct Table {
    values: Vec<f32>,
    labels: Vec<f32>,
}

impl Table {
    fn design(&self, columns: usize) -> Design<'_> {
        Design { values: &self.values, columns, labels: &self.labels }
    }
}

#[derive(Deserialize)]
struct Fit {
    l2: f64,
    weights: Vec<f64>,
    bias: f64,
    train_log_loss: f64,
    validation_log_loss: f64,
    first_risks: Vec<f64>,
}

impl Golden {
    fn read() -> Self {
        serde_json::from_str(include_str!("golden.json")).expect("the golden file is ours")
    }

    fn designs(&self) -> (Design<'_>, Design<'_>) {
        (self.train.design(self.columns), self.validation.design(self.columns))
    }
}

#[track_caller]
fn close(got: f64, expected: f64, tolerance: f64, what: &str) {
    assert!((got - expected).abs() <= tolerance, "{what}: {got}, sklearn says {expected}");
}

#[test]
fn sklearn_agrees_along_the_path() {
    let golden = Golden::read();
    let (train, validation) = golden.designs();
    let positives = train.labels.iter().filter(|&&y| y == 1.0).count();
    let mut model = Logistic::of_base_rate(&train, positives);
    assert_eq!(L2_PATH.to_vec(), golden.fits.iter().map(|f| f.l2).collect::<Vec<_>>());
    for fit in &golden.fits {
        model = model.refit(&train, fit.l2);
        // Both solvers stop at a slope of about 1e-7; with a curvature of 1e-3 and more that
        // leaves 1e-4 of the largest weight.
        let scale = fit.weights.iter().fold(0.0, |m: f64, w| m.max(w.abs()));
        for (got, expected) in model.weights.iter().zip(&fit.weights) {
            close(*got, *expected, 1e-4 * scale, &format!("a weight at l2 = {}", fit.l2));
        }
        close(model.bias, fit.bias, 1e-4 * fit.bias.abs(), "bias");
        // Flat at the minimum: the error of the weights enters squared.
        close(model.log_loss(&train), fit.train_log_loss, 1e-7, "train log loss");
        close(model.log_loss(&validation), fit.validation_log_loss, 1e-6, "validation log loss");
        for (got, expected) in model.risks(validation.values).iter().zip(&fit.first_risks) {
            close(*got, *expected, 1e-5, "a risk");
        }
    }
}

#[test]
fn the_validation_split_picks_the_penalty() {
    let golden = Golden::read();
    let (train, validation) = golden.designs();
    let model = fit(&train, &validation).expect("a clean design");
    let best = golden
        .fits
        .iter()
        .min_by(|a, b| a.validation_log_loss.total_cmp(&b.validation_log_loss))
        .expect("five fits");
    assert_eq!(model.l2, best.l2);
    let text = serde_json::to_string(&model).expect("finite numbers");
    assert_eq!(serde_json::from_str::<Logistic>(&text).expect("our own text"), model);
}

/// Rows of a hash, labels of a line through them.
fn generated(rows: usize, columns: usize) -> (Vec<f32>, Vec<f32>) {
    let noise = |i: usize| (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    let values: Vec<f32> =
        (0..rows * columns).map(|i| noise(i) as f32 / (1 << 23) as f32 - 1.0).collect();
    let label = |row: &[f32]| f32::from(u8::from(row[0] + 0.5 * row[columns - 1] > 0.3));
    let labels = values.chunks_exact(columns).map(label).collect();
    (values, labels)
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    // More rows than blocks of 1024 on three threads; 13 columns leave a rest in every dot product.
    let (values, labels) = generated(9_000, 13);
    let design = Design { values: &values, columns: 13, labels: &labels };
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| fit(&design, &design).expect("a clean design"))
    };
    assert_eq!(on(1), on(3));
}

#[test]
fn separable_classes_stay_finite() {
    let values = [-2.0, -1.0, 1.0, 2.0f32];
    let design = Design { values: &values, columns: 1, labels: &[0.0, 0.0, 1.0, 1.0] };
    let model = fit(&design, &design).expect("the penalty bounds the weight");
    assert_eq!(model.l2, 0.1);
    assert!(model.weights[0] > 1.0 && model.weights[0].is_finite());
    assert!(model.log_loss(&design) < 0.1);
}

#[test]
fn useless_designs_are_refused() {
    let good = Design { values: &[0.0, 1.0], columns: 1, labels: &[0.0, 1.0] };
    let design = |values, labels| Design { values, columns: 1, labels };
    let cases = [
        (design(&[0.0, 1.0], &[1.0, 1.0]), good, "the train split has only one class"),
        (design(&[], &[]), good, "the train split has no rows"),
        (good, design(&[], &[]), "the validation split has no rows"),
        (design(&[0.0, f32::NAN], &[0.0, 1.0]), good, "a feature of the train split"),
        (good, design(&[f32::INFINITY], &[1.0]), "a feature of the validation split"),
        (design(&[0.0, 1.0], &[0.0, 0.5]), good, "a label of the train split"),
    ];
    for (train, validation, expected) in cases {
        let error = fit(&train, &validation).expect_err(expected);
        assert_eq!(error.kind, Kind::Data);
        assert!(error.message.contains(expected), "{error}");
    }
}

#[test]
fn extreme_margins_keep_their_meaning() {
    for (margin, label, loss) in [(800.0, 1.0, 0.0), (800.0, 0.0, 800.0), (-800.0, 1.0, 800.0)] {
        assert_eq!(objective::log_loss_of(margin, label), loss);
    }
    assert_eq!((sigmoid(800.0), sigmoid(-800.0), sigmoid(0.0)), (1.0, 0.0, 0.5));
}

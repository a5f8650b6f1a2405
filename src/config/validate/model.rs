//! Features, networks, training, evaluation.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::Bound::{Excluded, Included};
use std::ops::RangeBounds;

use super::Faults;
use crate::config::effort::BINS_MAX;
use crate::config::{
    Auto, Config, EvalSpec, FeatureSpec, ModelKind, SourceKind, SourceSpec, TrainSpec,
};

/// Ten years: more than any history that still says something about next month.
pub const MONTHS_MAX: u32 = 120;
/// Beyond this a layer no longer fits beside its gradients and moments on a common device.
const WIDTH_MAX: usize = 16_384;
/// Residual blocks; deeper networks over tables only overfit.
const BLOCKS_MAX: usize = 64;
/// Four times what TabM gains from.
const MEMBERS_MAX: usize = 128;
/// A number's embedding; TabM tunes it up to 32.
const PIECE_WIDTH_MAX: usize = 128;
const EPOCHS_MAX: u32 = 100_000;
/// A million rows of 1,000 features are 4 GB.
const BATCH_MAX: usize = 1 << 20;
/// Rows of an embedding table: a category column with more values is a key.
const CATEGORIES_MAX: u32 = 1 << 20;

const DEVICES: [&str; 5] = ["auto", "gpu", "gpu:N", "cpu", "ndarray"];

/// More devices of one host than anyone has; a longer list is a mistake.
const DEVICES_MAX: usize = 16;

/// Batches of one step; more would be an epoch of any data that needs this.
const ACCUMULATE_MAX: u32 = 1024;

pub fn features(features: &FeatureSpec, faults: &mut Faults) {
    faults.within("features.log_above_skewness", features.log_above_skewness, 0.0..);
    faults.within("features.category_values_max", features.category_values_max, 1..=CATEGORIES_MAX);
    let mut seen = BTreeSet::new();
    for &months in &features.windows {
        faults.within("features.windows", months, 1..=MONTHS_MAX);
        if !seen.insert(months) {
            faults.add("features.windows", format!("holds {months} twice"));
        }
    }
}

pub fn models(config: &Config, faults: &mut Faults) {
    let models = &config.models;
    if models.kinds.is_empty() {
        faults.add("models.use", "must name at least one of static, mlp, gru, hybrid");
    }
    let of_customers =
        |source: &SourceSpec| source.kind == SourceKind::Attributes && !source.columns.is_empty();
    if models.kinds.contains(&ModelKind::Static) && !config.sources.iter().any(of_customers) {
        faults.add("models.use", "static needs a source of attributes with columns");
    }
    let sequence = config.sources.iter().any(|source| source.kind != SourceKind::Attributes);
    let mut seen = BTreeSet::new();
    for &kind in &models.kinds {
        if !seen.insert(kind) {
            faults.add("models.use", format!("holds {} twice", kind.name()));
        } else if kind.is_sequence() && !sequence {
            faults
                .add("models.use", format!("{} needs a source of activity or events", kind.name()))
                .hint = Some("set use = [\"mlp\"]".into());
        }
    }
    let mut names: Vec<&str> = models.kinds.iter().map(|kind| kind.name()).collect();
    names.extend(models.trees.then_some("trees"));
    names.extend(["logistic", "ensemble", "auto"]);
    if !names.contains(&models.champion.as_str()) {
        let message = format!("no model `{}` is trained", models.champion);
        faults.add("models.champion", message).hint = Some(format!("one of {}", names.join(", ")));
    }
    given(faults, "models.mlp.width", models.mlp.width, 1..=WIDTH_MAX);
    given(faults, "models.mlp.blocks", models.mlp.blocks, 1..=BLOCKS_MAX);
    given(faults, "models.mlp.dropout", models.mlp.dropout, 0.0..1.0);
    faults.within("models.mlp.embedding_max", models.mlp.embedding_max, 1..=WIDTH_MAX);
    given(faults, "models.mlp.members", models.mlp.members, 1..=MEMBERS_MAX);
    given(faults, "models.mlp.bins", models.mlp.bins, 0..=BINS_MAX);
    given(faults, "models.mlp.piece_width", models.mlp.piece_width, 1..=PIECE_WIDTH_MAX);
    faults.within("models.gru.hidden", models.gru.hidden, 1..=WIDTH_MAX);
    faults.within("models.gru.layers", models.gru.layers, 1..=2);
    faults.within("models.gru.dropout", models.gru.dropout, 0.0..1.0);
}

pub fn train(train: &TrainSpec, faults: &mut Faults) {
    devices(&train.device.names(), faults);
    given(faults, "train.epochs_max", train.epochs_max, 1..=EPOCHS_MAX);
    faults.within("train.memory_gb", train.memory_gb, 0.0..f64::INFINITY);
    given(faults, "train.batch_snapshots", train.batch_snapshots, 1..=BATCH_MAX);
    faults.within("train.batch_customers", train.batch_customers, 1..=BATCH_MAX);
    faults.within("train.accumulate", train.accumulate, 1..=ACCUMULATE_MAX);
    given(faults, "train.learning_rate", train.learning_rate, (Excluded(0.0), Included(1.0)));
    faults.within("train.weight_decay", train.weight_decay, 0.0..f64::INFINITY);
    faults.within("train.warmup", train.warmup, 0.0..1.0);
    faults.within("train.clip_norm", train.clip_norm, positive());
    faults.within("train.average", train.average, 0.0..1.0);
    faults.within("train.patience", train.patience, 1..=EPOCHS_MAX);
    faults.within("train.focal_gamma", train.focal_gamma, 0.0..f64::INFINITY);
    faults.within("train.positive_weight", train.positive_weight, positive());
    faults.within("train.log_steps", train.log_steps, 1..);
}

fn devices(names: &[&str], faults: &mut Faults) {
    let path = "train.device";
    for name in names {
        let number = name.strip_prefix("gpu:").map(str::parse::<u8>);
        if !matches!(number, Some(Ok(_))) && !matches!(*name, "auto" | "gpu" | "cpu" | "ndarray") {
            let message = format!("there is no device `{name}`");
            faults.add(path, message).hint = Some(format!("one of {}", DEVICES.join(", ")));
        }
    }
    if names.len() > DEVICES_MAX || names.is_empty() {
        faults.add(path, format!("must name 1 to {DEVICES_MAX} devices, names {}", names.len()));
    }
    if names.len() > 1 && names.contains(&"auto") {
        faults.add(path, "`auto` stands alone").hint = Some("name each device".into());
    }
    if names.contains(&"gpu") && names.iter().any(|name| name.starts_with("gpu:")) {
        let fault = faults.add(path, "`gpu` may be one of those that are named by number");
        fault.hint = Some("name all of them by number".into());
    }
}

pub fn eval(eval: &EvalSpec, faults: &mut Faults) {
    let inside = (Excluded(0.0), Excluded(1.0));
    faults.within("eval.contact_share", eval.contact_share, inside);
}

/// A value that is left to `auto` needs no check.
fn given<T: PartialOrd + Display + Copy>(
    faults: &mut Faults,
    path: &str,
    value: Auto<T>,
    range: impl RangeBounds<T>,
) {
    if let Auto::Given(value) = value {
        faults.within(path, value, range);
    }
}

fn positive() -> (std::ops::Bound<f64>, std::ops::Bound<f64>) {
    (Excluded(0.0), Excluded(f64::INFINITY))
}

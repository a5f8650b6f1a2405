//! What is searched.

use super::Faults;
use crate::config::{ParameterSpec, TuneSpec};

/// Above this hardly any trial is trained on.
const REDUCTION_MAX: u32 = 16;
/// The first of so many rungs would have an epoch of a thousand at the least reduction.
const HALVINGS_MAX: u32 = 10;
/// Choices of one parameter: a density over more learns nothing from some hundred trials.
const CHOICES_MAX: usize = 64;

/// Sections whose values may differ between trials: what is learned from stays the same.
const SEARCHED: [&str; 3] = ["features.", "models.", "train."];
/// Where and how long it is computed, not what is learned.
const FIXED: [&str; 6] = [
    "train.device",
    "train.epochs_max",
    "train.steps_max",
    "train.memory_gb",
    "train.checkpoint_steps",
    "train.log_steps",
];

pub fn tune(tune: &TuneSpec, faults: &mut Faults) {
    faults.within("tune.halvings", tune.halvings, 0..=HALVINGS_MAX);
    faults.within("tune.reduction", tune.reduction, 2..=REDUCTION_MAX);
    let mut folds = tune.folds.clone();
    folds.sort_unstable();
    if folds.windows(2).any(|pair| pair[0] == pair[1]) {
        faults.add("tune.folds", "holds a fold twice");
    }
    for (name, spec) in &tune.space {
        let at = crate::config::resolve::path::join("tune.space", name);
        if !SEARCHED.iter().any(|section| name.starts_with(section)) {
            faults.add(at, "only values of features, models and train can be searched");
        } else if FIXED.contains(&name.as_str()) {
            faults.add(at, "is the same for all trials");
        } else {
            parameter(&at, spec, faults);
        }
    }
}

fn parameter(at: &str, spec: &ParameterSpec, faults: &mut Faults) {
    let ParameterSpec { real, log, int, log_int, choices } = spec;
    let given = [real.is_some(), log.is_some(), int.is_some(), log_int.is_some()];
    if given.into_iter().chain([choices.is_some()]).filter(|&given| given).count() != 1 {
        faults.add(at, "must give one of real, log, int, log_int and choices");
        return;
    }
    let wide = |bounds: &[u32]| bounds.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
    let reals = [real.clone(), int.as_deref().map(wide)].into_iter().flatten();
    let logs = [log.clone(), log_int.as_deref().map(wide)].into_iter().flatten();
    for (bounds, least) in reals.map(|b| (b, f64::MIN)).chain(logs.map(|b| (b, f64::MIN_POSITIVE)))
    {
        match bounds.as_slice() {
            [low, high] if *low < least => {
                faults.add(at, format!("a logarithm needs bounds above 0, not {low} and {high}"));
            }
            [low, high] if low < high && high.is_finite() => {}
            [low, high] => {
                faults.add(at, format!("{low} is not below {high}"));
            }
            other => {
                faults.add(at, format!("needs two bounds, has {}", other.len()));
            }
        }
    }
    let Some(choices) = choices else { return };
    faults.within(&format!("{at}.choices"), choices.len(), 2..=CHOICES_MAX);
    if choices.iter().enumerate().any(|(place, choice)| choices[..place].contains(choice)) {
        faults.add(format!("{at}.choices"), "holds a value twice");
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use crate::config::validate::tests::check;

    #[track_caller]
    fn check_tune(section: &str, expect: Expect) {
        check(&[("[split]", &format!("[tune]\n{section}\n[split]"))], expect);
    }

    #[test]
    fn search_settings() {
        check_tune(
            "halvings = 11\nreduction = 1\nfolds = [1, 2, 1]",
            expect![[r#"
                `tune.halvings`: must lie in [0, 10], is 11
                `tune.reduction`: must lie in [2, 16], is 1
                `tune.folds`: holds a fold twice
            "#]],
        );
        check_tune(
            r#"[tune.space]
"features.windows" = { choices = [[3], [3, 6]] }
"models.gru.hidden" = { log_int = [16, 128] }
"train.learning_rate" = { log = [1e-4, 1e-2] }
"train.average" = { real = [0.9, 0.999] }
"models.mlp.blocks" = { int = [1, 3] }"#,
            expect![[""]],
        );
        check_tune(
            r#"[tune.space]
"label.horizon" = { int = [1, 3] }
"train.epochs_max" = { int = [1, 3] }
"train.clip_norm" = {}
"train.average" = { real = [0.9, 0.999], int = [1, 2] }
"train.learning_rate" = { log = [0.0, 1e-2] }
"train.weight_decay" = { real = [2.0, 1.0] }
"train.warmup" = { real = [0.1] }
"train.positive_weight" = { real = [nan, 1.0] }
"models.gru.layers" = { choices = [1, 1] }
"models.mlp.blocks" = { choices = [2] }"#,
            expect![[r#"
                `tune.space."label.horizon"`: only values of features, models and train can be searched
                `tune.space."models.gru.layers".choices`: holds a value twice
                `tune.space."models.mlp.blocks".choices`: must lie in [2, 64], is 1
                `tune.space."train.average"`: must give one of real, log, int, log_int and choices
                `tune.space."train.clip_norm"`: must give one of real, log, int, log_int and choices
                `tune.space."train.epochs_max"`: is the same for all trials
                `tune.space."train.learning_rate"`: a logarithm needs bounds above 0, not 0 and 0.01
                `tune.space."train.positive_weight"`: NaN is not below 1
                `tune.space."train.warmup"`: needs two bounds, has 1
                `tune.space."train.weight_decay"`: 2 is not below 1
            "#]],
        );
    }
}

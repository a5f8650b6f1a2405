//! The result in plain words, for the person who decides whom to contact.
//!
//! Nothing is said here that is not one of the numbers in the tables.

use super::html::{self, count, percent};
use super::{Model, ReportInput, Role};
use crate::eval::Metrics;
use crate::eval::results::{Measure, ModelMetrics, RunMetrics};

/// Lead sentence, supporting facts, and what speaks against the networks, if anything does.
pub(super) fn headline(input: &ReportInput, cast: &[Model]) -> String {
    let metrics = input.metrics;
    let Some(chosen) = chosen(metrics, cast) else {
        let lead = "No model can be recommended: none has a log loss on the validation split.";
        return card(lead, &checks(input).into_iter().collect::<Vec<_>>())
            + &against(metrics, cast);
    };
    let Some((split, numbers)) = shown(&metrics.models[chosen.name]) else {
        return against(metrics, cast);
    };
    let facts: Vec<String> = [
        Some(choice(metrics, cast, chosen)),
        shares(metrics, chosen),
        in_a_hundred(numbers),
        trust(numbers),
        Some(format!("Leaving means: {}.", html::escape(input.label))),
        Some(measured_on(split, numbers, &metrics.models[chosen.name])),
        better_on_test(metrics, cast, chosen),
        checks(input),
    ]
    .into_iter()
    .flatten()
    .collect();
    card(&lead(split, numbers), &facts) + &against(metrics, cast)
}

fn card(lead: &str, facts: &[String]) -> String {
    let facts = if facts.is_empty() { String::new() } else { html::list(facts) };
    format!("<div class=\"headline\">\n<p class=\"lead\">{lead}</p>\n{facts}</div>\n")
}

/// The champion; without one, the model with the lowest log loss on validation. Test numbers must
/// not choose.
fn chosen<'a>(metrics: &RunMetrics, cast: &'a [Model<'a>]) -> Option<&'a Model<'a>> {
    let champion = cast.iter().find(|model| metrics.champion.as_deref() == Some(model.name));
    champion.or_else(|| lowest(metrics, cast, "validation"))
}

fn lowest<'a>(metrics: &RunMetrics, cast: &'a [Model<'a>], split: &str) -> Option<&'a Model<'a>> {
    cast.iter()
        .filter_map(|model| Some((model, log_loss(metrics, model, split)?)))
        .min_by(|(_, a), (_, b)| a.total_cmp(b))
        .map(|(model, _)| model)
}

fn log_loss(metrics: &RunMetrics, model: &Model, split: &str) -> Option<f64> {
    let numbers = metrics.models.get(model.name)?.splits.get(split)?;
    Some(numbers.log_loss).filter(|loss| loss.is_finite())
}

/// The split that the headline speaks of: test, or validation where there is no test.
fn shown(model: &ModelMetrics) -> Option<(&'static str, &Metrics)> {
    let with_rows = |name| model.splits.get(name).filter(|m| m.rows > 0).map(|m| (name, m));
    with_rows("test").or_else(|| with_rows("validation"))
}

fn lead(split: &str, m: &Metrics) -> String {
    let share = percent(m.contact_share);
    let (Some(recall), Some(lift)) = (m.recall_at_contact, lift(m)) else {
        return format!(
            "Nobody leaves in the {split} split, so nothing can be said about whom to contact."
        );
    };
    let reach = format!(
        "Contacting the <b>{share}</b> of customers with the highest risk reaches <b>{}</b> of \
         those who leave",
        percent(recall)
    );
    // One decimal is what the sentence shows; what rounds to one is no advantage.
    let times = format!("{lift:.1}");
    if lift > 1.0 && times != "1.0" {
        format!("{reach}: <b>{times} times</b> as many as choosing the same number at random.")
    } else {
        format!("{reach}: no better than choosing the same number at random.")
    }
}

/// Churn rate among the contacted over that of all.
fn lift(m: &Metrics) -> Option<f64> {
    let lift = m.precision_at_contact? / m.positive_rate;
    lift.is_finite().then_some(lift)
}

fn choice(metrics: &RunMetrics, cast: &[Model], chosen: &Model) -> String {
    let measured = |model: &&Model| log_loss(metrics, model, "validation").is_some();
    match cast.iter().filter(measured).count() {
        1 => format!("The model is {}, the only one measured on validation.", chosen.label),
        n => format!(
            "The model is {}: of {n} models it has the lowest log loss on the validation split.",
            chosen.label
        ),
    }
}

/// What an ensemble is made of, the largest share first.
fn shares(metrics: &RunMetrics, chosen: &Model) -> Option<String> {
    let weights = &metrics.models[chosen.name].weights;
    let mut parts: Vec<(&String, f64)> =
        weights.iter().map(|(name, w)| (name, *w)).filter(|(_, w)| *w > 0.0).collect();
    parts.sort_by(|a, b| b.1.total_cmp(&a.1));
    let part =
        |(name, weight): &(&String, f64)| format!("{} ({})", super::label(name), percent(*weight));
    let parts: Vec<String> = parts.iter().map(part).collect();
    (!parts.is_empty()).then(|| format!("It averages {}.", parts.join(", ")))
}

fn in_a_hundred(m: &Metrics) -> Option<String> {
    let precision = m.precision_at_contact?;
    let people = |share: f64| format!("{:.0}", share * 100.0);
    lift(m)?;
    Some(format!(
        "Of 100 customers contacted, about {} leave; of 100 chosen at random, about {}.",
        people(precision),
        people(m.positive_rate)
    ))
}

fn trust(m: &Metrics) -> Option<String> {
    m.ece.is_finite().then(|| {
        format!(
            "In groups of similar risk, the predicted and the actual share of leavers differ by \
             {:.1} percentage points on average; {} leave in all.",
            m.ece * 100.0,
            percent(m.positive_rate)
        )
    })
}

fn measured_on(split: &str, m: &Metrics, model: &ModelMetrics) -> String {
    let what = match split {
        "test" => "test snapshots, which no model saw in training",
        _ => {
            "validation snapshots, which also chose the model: expect somewhat less. There is \
              no test split"
        }
    };
    let folds = match model.folds.len() {
        0 => String::new(),
        n => format!(" The numbers are means over {n} folds."),
    };
    format!(
        "Measured on {} {what}. A snapshot is one customer at the end of one month.{folds}",
        count(m.rows)
    )
}

/// Says so where another model does better on test than the chosen one.
fn better_on_test(metrics: &RunMetrics, cast: &[Model], chosen: &Model) -> Option<String> {
    let best = lowest(metrics, cast, "test")?;
    let (own, other) = (log_loss(metrics, chosen, "test")?, log_loss(metrics, best, "test")?);
    (other < own).then(|| {
        format!(
            "On test, {} has the lower log loss ({other:.4} against {own:.4}); it was not chosen, \
             since test must not choose.",
            best.label
        )
    })
}

fn checks(input: &ReportInput) -> Option<String> {
    let failed = input.quality.iter().filter(|line| !line.passed).count();
    (failed > 0).then(|| {
        let total = input.quality.len();
        format!("<a href=\"#quality\">{failed} of {total} data checks did not pass.</a>")
    })
}

/// One line per network and baseline that the network loses to, or that none loses.
fn against(metrics: &RunMetrics, cast: &[Model]) -> String {
    let of =
        |role| cast.iter().filter(move |m| m.role == role && metrics.models.contains_key(m.name));
    if of(Role::Network).next().is_none() {
        return String::new();
    }
    if of(Role::Baseline).next().is_none() {
        return "<p class=\"loses\">No baseline was trained beside the networks: nothing shows that \
                they are worth their cost.</p>\n"
            .to_owned();
    }
    let pairs = of(Role::Network).flat_map(|network| of(Role::Baseline).map(move |b| (network, b)));
    let (mut lines, mut compared) = (String::new(), 0);
    for (network, baseline) in pairs {
        let duel = Duel::new(metrics, network, baseline);
        compared += duel.compared;
        if !duel.lost.is_empty() {
            lines += &format!(
                "<p class=\"loses\">{} loses to {} on test: {}.</p>\n",
                network.label,
                baseline.label,
                duel.lost.join(", ")
            );
        }
    }
    match (compared, lines.is_empty()) {
        (0, _) => "<p class=\"loses\">Networks and baselines cannot be compared: they share no \
                   number on test.</p>\n"
            .to_owned(),
        (_, true) => {
            "<p class=\"wins\">No network loses to a baseline on test, neither in log loss \
                      nor in AUROC.</p>\n"
                .to_owned()
        }
        (_, false) => lines,
    }
}

/// A network against a baseline on test.
struct Duel {
    /// Numbers that both have.
    compared: usize,
    /// What the network is worse in, in words.
    lost: Vec<String>,
}

impl Duel {
    fn new(metrics: &RunMetrics, network: &Model, baseline: &Model) -> Self {
        // Signs make lower better for both.
        let measures: [(&str, f64, Measure); 2] =
            [("log loss", 1.0, |m| Some(m.log_loss)), ("AUROC", -1.0, |m| m.auroc)];
        let (a, b) = (&metrics.models[network.name], &metrics.models[baseline.name]);
        let mut duel = Self { compared: 0, lost: Vec::new() };
        for (name, sign, measure) in measures {
            let value =
                |m: &ModelMetrics| m.splits.get("test").and_then(measure).filter(|v| v.is_finite());
            let (Some(own), Some(other)) = (value(a), value(b)) else { continue };
            duel.compared += 1;
            if own * sign > other * sign {
                let folds = lost_folds(a, b, |m| measure(m).map(|v| v * sign));
                duel.lost.push(format!("{name} {own:.4} against {other:.4}{folds}"));
            }
        }
        duel
    }
}

/// ` (worse in 4 of 5 folds)`; nothing without folds. Lower is better.
fn lost_folds(
    a: &ModelMetrics,
    b: &ModelMetrics,
    measure: impl Fn(&Metrics) -> Option<f64>,
) -> String {
    let value = |model: &ModelMetrics, fold: u32| {
        let of = model.folds.iter().find(|f| f.fold == fold)?;
        of.splits.get("test").and_then(&measure).filter(|v| v.is_finite())
    };
    let pairs: Vec<(f64, f64)> =
        a.folds.iter().filter_map(|f| Some((value(a, f.fold)?, value(b, f.fold)?))).collect();
    let lost = pairs.iter().filter(|(own, other)| own > other).count();
    match pairs.len() {
        0 | 1 => String::new(),
        n => format!(" (worse in {lost} of {n} folds)"),
    }
}

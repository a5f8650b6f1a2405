//! The champion out of a finished run, as a bundle.

use std::path::Path;

use super::fold::FoldResult;
use super::predictions::View;
use super::train::Outcome;
use crate::bundle::{self, Champion, Contents, GOLDEN_ROWS, Member, Model, Origin, Scorer};
use crate::clock::Clock;
use crate::config::SplitSpec;
use crate::error::{Kind, Result};
use crate::panel::{Part, Snapshots};
use crate::{onnx, tensors};

/// Snapshots that are scored to time the champion: enough to fill batches, done in a moment.
const TIMED_ROWS: usize = 2048;

/// Exports the champion; where there are folds, that of the first one, which was learned without
/// its validation and test customers, or with rolling origins of the last one, the newest.
pub fn export(outcome: &Outcome, clock: &dyn Clock, path: &Path) -> Result<String> {
    let Outcome { resolved, data, folds, metrics, .. } = outcome;
    let nothing = || Kind::Internal.msg("no model has a finite log loss on the validation part");
    let name = metrics.champion.as_deref().ok_or_else(nothing)?;
    let exported = match resolved.config.split {
        SplitSpec::Rolling { .. } => folds.len() - 1,
        _ => 0,
    };
    let fold = &folds[exported];
    let at = fold.names().position(|of| of == name).ok_or_else(nothing)?;
    let (members, learned) = members(fold, at).into_iter().unzip();
    let model = Model {
        members,
        calibrator: fold.models[at].calibrated.calibrator.clone(),
        intake: data.intake.clone(),
        label: resolved.config.label.clone(),
    };
    let features = fold.features.clone();
    let cpu = tensors::choose(tensors::Want::Cpu)?;
    let mut contents = Contents { model, features, learned, golden: Vec::new() };
    let scorer =
        Scorer::new(&contents.model, contents.features.clone(), &contents.learned, &cpu.device)?;
    let sample = data.sample(exported);
    let places = golden_places(sample)?;
    contents.golden = scorer.golden(sample.panel, &places, &contents.model.intake)?;
    let champion = Champion {
        name,
        metrics: &metrics.models[name],
        microseconds_per_row: microseconds_per_row(&scorer, sample, clock)?,
    };
    let origin = Origin {
        data_set: resolved.config.name.clone(),
        run_id: outcome.folder.id.clone(),
        seed: resolved.config.seed,
        config_sha256: outcome.sha256.clone(),
        data_sha256: data.facts.sha256.clone(),
        fold: fold.number,
    };
    let derive = |bundle_id: &str| {
        let identity = bundle::Identity { bundle_id, model: name };
        match onnx::export(&contents, identity, onnx::Style::default()) {
            Ok(exported) => Ok(vec![(bundle::ONNX.to_owned(), exported.bytes)]),
            // The bundle is whole without it.
            Err(error) if error.kind == Kind::Usage => {
                tracing::warn!("no {} in the bundle: {error}", bundle::ONNX);
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    };
    bundle::publish(path, &contents, (&champion, &origin), &derive)
}

/// The learners that a model is made of.
fn members(fold: &FoldResult, at: usize) -> Vec<(Member, bundle::Learned)> {
    let shares = fold.models[at].weights.iter().zip(&fold.learners);
    let member = |(&weight, learner): (&f64, &super::fold::Learner)| {
        let (name, form) = (learner.name.to_owned(), learner.form.clone());
        (Member { name, weight, form }, learner.learned.clone())
    };
    shares.filter(|(weight, _)| **weight > 0.0).map(member).collect()
}

/// Test snapshots, evenly over all of them.
fn golden_places(sample: View) -> Result<Vec<(usize, usize)>> {
    let members = sample.fold.members(Part::Test);
    if members.is_empty() {
        let error = Kind::Data.msg("the sample of customers holds no snapshot of the test part");
        return Err(error.hint("raise train.memory_gb"));
    }
    Ok(evenly(sample, &members, GOLDEN_ROWS))
}

/// The places of at most `count` of some snapshots.
fn evenly(sample: View, members: &[u32], count: usize) -> Vec<(usize, usize)> {
    let rows = count.min(members.len());
    let place = |&s: &u32| {
        let s = s as usize;
        (sample.snapshots.customers[s] as usize, sample.snapshots.months[s] as usize)
    };
    (0..rows).map(|row| place(&members[row * members.len() / rows])).collect()
}

/// What a snapshot takes when some are scored at once; the faster of two times, since the first
/// one warms caches.
fn microseconds_per_row(scorer: &Scorer, sample: View, clock: &dyn Clock) -> Result<f64> {
    let places = evenly(sample, &sample.fold.members(Part::Test), TIMED_ROWS);
    let snapshots = Snapshots::unlabelled(places.iter().copied());
    let mut least = f64::INFINITY;
    for _ in 0..2 {
        let start = clock.elapsed();
        scorer.risks(sample.panel, &snapshots)?;
        least = least.min((clock.elapsed() - start).as_secs_f64());
    }
    Ok((least * 1e6 / places.len() as f64 * 10.0).round() / 10.0)
}

//! Which loss the networks of a fold learn by: as declared, or the best of short trainings.

use super::fold::{Fitted, Session};
use crate::config::{Auto, Loss, ModelKind, StopOn, TrainSpec};
use crate::error::Result;
use crate::eval::LossTrial;
use crate::train::{self, EpochRecord};

/// Epochs of a short training, with a schedule of its own.
const EPOCHS: u32 = 4;

/// The losses that are compared; the first wins a draw.
const COMPARED: [(Loss, &str); 3] =
    [(Loss::Bce, "bce"), (Loss::Weighted, "weighted"), (Loss::Focal, "focal")];

/// The settings of a fold's networks, and how its losses compared where they were.
pub struct Settled {
    pub spec: TrainSpec,
    pub trials: Vec<LossTrial>,
}

/// Settles what the declared loss leaves open.
///
/// # Errors
/// Those of a training.
pub fn settle(session: &Session, fitted: &Fitted) -> Result<Settled> {
    let rates = session.train_rates(fitted);
    let declared = &session.config.train;
    if declared.loss != Loss::Auto {
        return Ok(Settled { spec: train::weighed(declared, &rates), trials: Vec::new() });
    }
    let kind = session.config.models.kinds[0];
    let mut trials = Vec::new();
    for (loss, name) in COMPARED {
        let log_loss = trial(session, fitted, kind, (loss, name))?;
        tracing::info!("loss {name}: validation log loss {log_loss:.5} ({})", kind.name());
        trials.push(LossTrial {
            loss: name.to_owned(),
            network: kind.name().to_owned(),
            validation_log_loss: log_loss,
            chosen: 0,
        });
    }
    let losses = trials.iter().map(|trial| trial.validation_log_loss);
    let best = losses.enumerate().min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(at, _)| at);
    trials[best].chosen = 1;
    tracing::info!("loss {} is used", trials[best].loss);
    let spec = TrainSpec { loss: COMPARED[best].0, ..declared.clone() };
    Ok(Settled { spec: train::weighed(&spec, &rates), trials })
}

/// The best validation log loss of a short training, after calibration.
fn trial(
    session: &Session,
    fitted: &Fitted,
    kind: ModelKind,
    (loss, name): (Loss, &str),
) -> Result<f64> {
    let declared = &session.config.train;
    let spec = TrainSpec {
        loss,
        epochs_max: Auto::Given(EPOCHS.min(declared.epochs_max.or(EPOCHS))),
        patience: EPOCHS,
        stop_on: StopOn::Calibrated,
        ..declared.clone()
    };
    let spec = train::weighed(&spec, &session.train_rates(fitted));
    let name = format!("{}-{name}", fitted.job_name(kind));
    let trained = session.train(fitted, &session.architecture(fitted, kind)?, (&spec, &name))?;
    Ok(trained.history.iter().map(EpochRecord::decisive).fold(f64::INFINITY, f64::min))
}

//! What happens when a loss is not finite: back to the start of the epoch at half the rate.

use super::checkpoint::Generation;
use crate::error::{Error, Kind, Result};

/// Halvings before a training gives up.
const RETRIES_MAX: u32 = 3;

/// The generation to go on from: the start of the epoch, with half the learning rate.
pub fn back_off(start_of_epoch: &Generation) -> Result<Generation> {
    let mut generation = start_of_epoch.clone();
    generation.state.retries += 1;
    generation.state.rate_scale *= 0.5;
    if generation.state.retries > RETRIES_MAX {
        return Err(diverged());
    }
    tracing::warn!(
        "the loss was not finite in epoch {}; repeating it at {} of the learning rate",
        generation.state.epoch,
        generation.state.rate_scale
    );
    Ok(generation)
}

fn diverged() -> Error {
    Kind::Data
        .msg(format!("the loss was not finite, also after {RETRIES_MAX} halvings of the rate"))
        .hint("lower train.learning_rate, and look for extreme values with `churn check`")
}

//! The world that verbs are given: clock and stop flag.

use std::sync::Arc;

use crate::clock::{Clock, SystemClock};
use crate::error::{Kind, Result};
use crate::train::{SIGINT, SIGTERM, Stop};

pub struct Context {
    pub clock: Arc<dyn Clock>,
}

impl Context {
    pub fn new() -> Self {
        Context { clock: Arc::new(SystemClock::new()) }
    }
}

/// From now on SIGINT and SIGTERM set the flag instead of ending the process; a training looks at
/// it after every step. Before, a signal ends the process at once: there is nothing to save.
pub fn catch_signals() -> Result<Stop> {
    let stop = Stop::default();
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_usize(signal as i32, stop.0.clone(), signal)
            .map_err(|error| Kind::Internal.msg(format!("cannot catch signals: {error}")))?;
    }
    Ok(stop)
}

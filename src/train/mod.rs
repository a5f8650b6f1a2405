//! Trains one network: own loop, data resident on the device or fed to it part by part, resumable
//! to the bit on a CPU.

pub mod bench;
mod checkpoint;
mod feed;
mod guard;
mod loss;
mod optimizer;
mod predict;
mod record;
mod replicas;
mod run;
pub mod scaling;
mod schedule;
pub mod sink;

pub use feed::{Feed, PartSize, Parts};
pub use loss::{log_loss, prior_correction, weighed};
pub use predict::{Outlook, Reading, end_at, log_odds, outlook, read, risk};
pub use record::{EpochRecord, Progress, Step};
pub use run::{Job, NEVER, Start, Trained, run};
pub use sink::Sink;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::Kind;

/// Set by a signal handler; looked at after every step.
#[derive(Debug, Clone, Default)]
pub struct Stop(pub Arc<AtomicUsize>);

/// Value of the flag for SIGINT and SIGTERM, as in POSIX.
pub const SIGINT: usize = 2;
pub const SIGTERM: usize = 15;

impl Stop {
    /// What stopped us, if anything did.
    pub fn requested(&self) -> Option<Kind> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            SIGTERM => Some(Kind::Terminated),
            _ => Some(Kind::Interrupted),
        }
    }
}

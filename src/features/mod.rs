//! From the panel to numbers a network can use. One code path for training, batch and server.
//!
//! [`derive`] computes raw features, causal by construction; [`scale`] maps one raw number to the
//! network's range; [`fit`] learns the statistics from the train part only; the resulting
//! [`FittedFeatures`] is the only carrier of statistics, and [`encode`] applies it.
//!
//! Three blocks leave this module, all row-major `f32` without gaps:
//!
//! | block | rows | holds |
//! |---|---|---|
//! | static | customers | attributes that do not change, and category codes |
//! | months | panel rows | measures, deltas, months since, tenure, calendar, dated attributes |
//! | windows | chosen snapshots | trailing-window aggregates of each measure |

pub mod derive;
pub mod encode;
pub mod fit;
pub mod scale;

pub use encode::{Block, Encoded, MonthBlock, StaticBlock, design, snapshots_block};
pub use fit::{FittedCategory, FittedFeatures, fit};
pub use scale::FittedNumber;

//! From the panel to numbers a network can use. One code path for training, batch and server.
//!
//! [`derive`] computes raw features, causal by construction; [`scale`] maps one raw number to the
//! network's range; [`fit`] learns the statistics from the train part only; the resulting
//! [`FittedFeatures`] is the only carrier of statistics, and [`encode`] applies it.
//!
//! Three kinds of numbers leave this module, each written into the caller's `f32` buffer, so that
//! no encoded copy of a panel stands beside what trains or scores:
//!
//! | kind | of | holds |
//! |---|---|---|
//! | fixed | a customer | attributes that do not change, and category codes |
//! | months | a panel row | measures, deltas, months since, tenure, calendar, dated attributes |
//! | windows | a snapshot | trailing-window aggregates of each measure |

pub mod derive;
pub mod encode;
pub mod fit;
mod raw;
pub mod scale;

pub use encode::{Block, Encoder, dense_block, dense_kinds, design, design_width, snapshots_block};
pub use fit::{FittedCategory, FittedFeatures, fit};
pub use raw::{RawColumn, RawKind, raw_block};
pub use scale::FittedNumber;

//! The search for good settings: what is tried next, how long, and a journal that forgets nothing.
//!
//! [`space`] says what may vary, [`tpe`] draws the next trial from what the earlier ones told,
//! [`halving`] decides which of them go on, [`study`] is the state of it all as a function of the
//! records that [`journal`] keeps in the study's folder, and [`worker`] is one of any number of
//! processes that take work from there.

pub mod halving;
pub mod journal;
pub(crate) mod normal;
mod parzen;
pub mod space;
pub mod study;
pub mod tpe;
pub mod worker;

pub use halving::Halving;
pub use journal::Journal;
pub use space::{Params, Space};
pub use study::{Fit, Header, Record, Study, Trial};
pub use worker::{Assignment, Outcome, Plan, Trials, Worker};

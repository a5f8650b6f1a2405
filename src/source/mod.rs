//! Tables in and out. The only door between files and the rest, through polars.
//!
//! [`files`] finds the files of a declared source, [`csv_scan`] proves a CSV file well formed,
//! [`read`] streams typed batches out of any format, [`write`] publishes tables; [`rows`] holds the
//! rows of a partition between the two, and [`pack`] turns vectors into bytes for scratch files.
//! [`Texts`] are a column of them in one piece of memory.
//! [`stream`] reads and writes Arrow streams, whose [`messages`] are checked first.

mod bounds;
mod cells;
pub mod csv_scan;
pub mod files;
pub mod messages;
mod ndjson_scan;
pub mod pack;
pub mod read;
pub mod rows;
pub mod stream;
mod texts;
pub mod write;

pub use cells::{BadCell, Cells};
pub use files::{DataFile, expand};
pub use read::{Batch, Limits, ScanStats, Wanted, scan};
pub use texts::Texts;

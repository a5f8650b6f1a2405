//! Customers x months: the whole data set on one monthly calendar, stored once.
//!
//! A customer's months lie in consecutive rows of one flat array; a snapshot is an index into it,
//! so that no window is ever copied. [`intake`] says what to read, [`build`] reads it,
//! [`labels`] says who churned when, [`split`] who trains and who tests. What does not fit into
//! memory is divided by customer: [`scatter`] deals the tables to partitions, [`shards`] builds each
//! partition's panel alone, [`store`] keeps it in a scratch file.

mod activity;
mod attributes;
pub mod build;
mod events;
pub mod intake;
mod known;
pub mod labels;
mod partition;
pub mod raw;
mod scatter;
mod shards;
pub mod split;
mod store;

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::clock::Month;
use crate::fsx;

pub use attributes::{AttributeCells, AttributeColumn, AttributeTable};
pub use build::{Extent, MONTHS_MAX, build, is_empty_panel, last_month, no_dated_row};
pub use intake::{Inputs, Intake};
pub use known::{HazardExamples, open_tests};
pub use labels::{
    FollowUp, OpenWindow, Snapshots, label, nothing_labelled, still_there, tells_who_left,
};
pub use partition::{hash, partition};
pub use raw::{RawCell, RawCustomer};
pub use scatter::{PARTITIONS_MAX, Sampled, Tables, forget, inputs, scatter};
pub use shards::{Cut, Shard, Shards};
pub use split::{Declared, Division, Fold, Part, PartCounts, declared_folds, split};

/// Values that are handed to the hash at once.
const HASHED_VALUES: usize = 4096;

/// The months that the panel covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calendar {
    pub first: Month,
    pub months: u32,
    /// False when no source is dated: the only month then has no name.
    pub dated: bool,
}

impl Calendar {
    pub fn month(&self, index: usize) -> Month {
        self.first.plus(index as i32)
    }

    pub fn last(&self) -> Month {
        self.month(self.months as usize - 1)
    }

    /// Position of a month; None outside the calendar.
    pub fn index(&self, month: Month) -> Option<usize> {
        let index = month.0 - self.first.0;
        (0..self.months as i32).contains(&index).then_some(index as usize)
    }
}

/// What the build met on its way; shown to the user, never used by a model.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct BuildReport {
    /// Cells that could not be read and were set missing.
    pub cells_nulled: u64,
    /// Activity rows known only after their month; their measures are missing.
    pub rows_late: u64,
    /// Rows dated outside the panel's months.
    pub rows_outside: u64,
    pub sources: BTreeMap<String, SourceRows>,
}

/// Rows of a source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct SourceRows {
    pub read: u64,
    /// Of customers that the attributes table does not hold.
    pub orphan: u64,
}

impl BuildReport {
    /// Sums up partitions.
    pub fn add(&mut self, other: &BuildReport) {
        self.cells_nulled += other.cells_nulled;
        self.rows_late += other.rows_late;
        self.rows_outside += other.rows_outside;
        for (name, rows) in &other.sources {
            let own = self.sources.entry(name.clone()).or_default();
            own.read += rows.read;
            own.orphan += rows.orphan;
        }
    }

    /// What was mended or left out, and how often.
    pub fn repairs(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = [
            ("unreadable cells set missing", self.cells_nulled),
            ("activity rows known too late, left out", self.rows_late),
            ("rows outside the panel's months", self.rows_outside),
            ("rows of unknown customers", self.sources.values().map(|rows| rows.orphan).sum()),
        ];
        all.into_iter().filter(|(_, count)| *count > 0)
    }

    /// Sources of which most rows belong to nobody: their keys may be written in another way.
    pub fn astray(&self) -> impl Iterator<Item = (&str, SourceRows)> {
        let all = self.sources.iter().map(|(name, rows)| (name.as_str(), *rows));
        all.filter(|(_, rows)| 2 * rows.orphan > rows.read)
    }
}

/// The data set. Rows are (customer, month) pairs, customers in the order of their ids.
#[derive(Debug, Clone)]
pub struct Panel {
    /// Sorted ids.
    pub customers: Vec<String>,
    pub calendar: Calendar,
    /// Names of the monthly measures.
    pub measures: Vec<String>,
    /// Customer `c` owns the rows `offsets[c]..offsets[c + 1]`; never empty.
    pub offsets: Vec<usize>,
    /// Calendar index of each customer's first row.
    pub starts: Vec<u16>,
    /// `[rows, measures]`, row-major; NaN is missing.
    pub values: Vec<f32>,
    pub attributes: Vec<AttributeTable>,
    pub report: BuildReport,
}

impl Panel {
    pub fn rows(&self) -> usize {
        self.offsets.last().copied().unwrap_or(0)
    }

    /// Months of history that a customer has.
    pub fn months_of(&self, customer: usize) -> usize {
        self.offsets[customer + 1] - self.offsets[customer]
    }

    /// The row of a customer at a calendar index; None before its history begins.
    pub fn row(&self, customer: usize, month: usize) -> Option<usize> {
        let since = month.checked_sub(self.starts[customer] as usize)?;
        (since < self.months_of(customer)).then(|| self.offsets[customer] + since)
    }

    /// The measures of one row.
    pub fn at(&self, row: usize) -> &[f32] {
        let width = self.measures.len();
        &self.values[row * width..(row + 1) * width]
    }

    pub fn measure(&self, name: &str) -> Option<usize> {
        self.measures.iter().position(|m| m == name)
    }

    pub fn customer(&self, id: &str) -> Option<usize> {
        self.customers.binary_search_by(|c| c.as_str().cmp(id)).ok()
    }

    /// What the panel takes in memory, without what the allocator rounds up.
    pub fn bytes(&self) -> usize {
        let ids: usize = self.customers.iter().map(|id| size_of::<String>() + id.capacity()).sum();
        let attributes: usize = self.attributes.iter().map(AttributeTable::bytes).sum();
        size_of_val(self.values.as_slice())
            + size_of_val(self.offsets.as_slice())
            + size_of_val(self.starts.as_slice())
            + ids
            + attributes
    }

    /// Sha256 over all that a model can see. It does not depend on the order of input rows.
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        for id in &self.customers {
            hash.update(id.as_bytes());
            hash.update([0]);
        }
        hash.update(self.calendar.first.0.to_le_bytes());
        hash.update(self.calendar.months.to_le_bytes());
        for (start, offset) in self.starts.iter().zip(&self.offsets) {
            hash.update(start.to_le_bytes());
            hash.update((*offset as u64).to_le_bytes());
        }
        let mut bytes = Vec::with_capacity(HASHED_VALUES * 4);
        for values in self.values.chunks(HASHED_VALUES) {
            bytes.clear();
            values.iter().for_each(|v| bytes.extend_from_slice(&v.to_bits().to_le_bytes()));
            hash.update(&bytes);
        }
        self.attributes.iter().for_each(|table| table.hash_into(&mut hash));
        fsx::hex(&hash.finalize())
    }
}

//! Data quality: the declared rules, and those that a panel cannot do without, over every source.
//!
//! [`plan`] says which rules run and what they read, [`table`] reads a source once for all its
//! rules, [`checkers`] are the rules at work, [`report`] is what was found.

mod checkers;
mod histories;
mod plan;
mod report;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use crate::clock::Month;
use crate::config::{CheckRule, Config, SourceKind};
use crate::error::{Kind, Result};
use table::{Scanned, Table};

pub use report::{Finding, Report, Size};

/// Checks every source under `root`. Beside the declared rules these always run: no two activity
/// rows of a customer and month, no customer twice among attributes without `valid_from` (a
/// declared rule of that kind replaces them, with its severity and `mostly`), and `readable`: no
/// unreadable cell in a date column, the label's date or a declared column whose `on_bad` is `error`.
///
/// # Errors
/// Only what keeps a source from being read at all: [`Kind::Data`] for a missing file,
/// [`Kind::Schema`] for a missing column, a ragged record or a row without customer;
/// [`Kind::Config`] for a rule that does not fit its column's type. Broken rules are findings.
pub fn run(config: &Config, root: &Path) -> Result<Report> {
    let open = |source| Table::open(config, root, source);
    let tables = config.sources.iter().map(open).collect::<Result<Vec<_>>>()?;
    let customers = related_customers(&tables)?;
    let scan = |table| Table::scan(table, &customers);
    let scanned = tables.iter().map(scan).collect::<Result<Vec<_>>>()?;
    let last = config.panel.last.or_else(|| scanned.iter().filter_map(|s| s.last_month).max());
    if last.is_none() && tables.iter().any(|t| t.has_rule(CheckRule::FutureDates)) {
        return Err(Kind::Config
            .msg("`future_dates` has no month to compare with: no dated source holds a row")
            .hint("set `panel.last`"));
    }
    let size = size(config, &tables, &scanned, last);
    let mut findings = Vec::new();
    for (table, scanned) in tables.iter().zip(scanned) {
        findings.extend(table.findings(scanned, last));
    }
    Ok(Report { findings, size })
}

/// Customers by the first source that says who is one, months from the first date to the last.
fn size(config: &Config, tables: &[Table], scanned: &[Scanned], last: Option<Month>) -> Size {
    let rows = |kind| {
        let of_kind = tables.iter().zip(scanned).filter(move |(t, _)| t.source.kind == kind);
        of_kind.map(|(_, scanned)| scanned.rows())
    };
    let first = config.panel.first.or_else(|| scanned.iter().filter_map(|s| s.first_month).min());
    let months = match (first, last) {
        (Some(first), Some(last)) => (last.0 - first.0 + 1).max(1) as u64,
        _ => 1,
    };
    let customers = rows(SourceKind::Attributes).next();
    // Without attributes every customer has rows; half of their months at least.
    let customers = customers.unwrap_or_else(|| {
        rows(SourceKind::Activity).chain(rows(SourceKind::Events)).max().unwrap_or(0) * 2 / months
    });
    Size { customers, months }
}

/// Hashes of the customers of each source that a `relationships` rule points to. They are needed
/// before the pointing source is read, and two sources may point to each other, so that no order
/// of reading would do.
fn related_customers<'t>(tables: &'t [Table]) -> Result<HashMap<&'t str, HashSet<u64>>> {
    let mut customers = HashMap::new();
    for name in tables.iter().flat_map(|table| &table.rules).filter_map(|rule| rule.to.as_deref()) {
        if customers.contains_key(name) {
            continue;
        }
        let named = tables.iter().find(|table| table.source.name == name);
        let table = named.ok_or_else(|| {
            Kind::Config.msg(format!("a rule points to the source `{name}`, which is not there"))
        })?;
        customers.insert(name, table.customers()?);
    }
    Ok(customers)
}

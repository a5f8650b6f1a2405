//! Reads the declared sources and lays them out on the calendar.

use std::collections::{HashMap, HashSet};

use super::activity::{MonthRows, time_columns};
use super::attributes::RawAttributes;
use super::intake::{Inputs, Intake};
use super::{BuildReport, Calendar, Panel};
use crate::clock::Month;
use crate::config::{Absent, PanelStart, SourceKind};
use crate::error::{Error, Kind, Result};
use crate::source::{Batch, Cells, Wanted, scan};

/// A panel of more months than this is a wrong date, not a history.
pub const MONTHS_MAX: i32 = 1200;

/// Which part of the world to build.
pub struct Extent<'a> {
    /// First month instead of the configured one: partitions share one calendar.
    pub first: Option<Month>,
    /// Last month instead of the configured one, e.g. the as-of month of a scoring run.
    pub last: Option<Month>,
    /// Customers to keep; scoring in partitions keeps one at a time.
    pub keep: &'a dyn Fn(&str) -> bool,
}

impl Extent<'_> {
    /// Everything.
    pub fn all() -> Extent<'static> {
        Extent { first: None, last: None, keep: &|_| true }
    }
}

/// Builds the panel.
///
/// # Errors
/// What [`scan`] finds wrong in a file; [`Kind::Data`] for duplicate customer-months, for months
/// far apart and for no customers at all.
pub fn build(intake: &Intake, inputs: &Inputs, extent: &Extent) -> Result<Panel> {
    let mut reader = Reader::new(intake, inputs, extent);
    let mut attributes: Vec<(usize, RawAttributes)> = Vec::new();
    let mut monthly: Vec<MonthRows> = Vec::new();
    for at in reader.order() {
        match intake.sources[at].kind {
            SourceKind::Attributes => attributes.push((at, reader.attributes(at)?)),
            SourceKind::Activity => monthly.push(reader.activity(at)?),
            SourceKind::Events => monthly.push(reader.events(at)?),
        }
        reader.source_is_read(at);
    }
    let Reader { ids, mut report, .. } = reader;
    if ids.is_empty() {
        return Err(Kind::Data.msg(NO_CUSTOMER).hint("are the files empty?"));
    }
    report.rows_late = monthly.iter().map(|rows| rows.late).sum();
    let calendar = calendar(intake, &monthly, extent)?;
    let (customers, rank) = sort_ids(ids, &not_yet(&monthly, calendar));
    if customers.is_empty() {
        return Err(Kind::Data.msg(NO_CUSTOMER).hint("does their history begin later?"));
    }
    let attributes = attributes
        .into_iter()
        .map(|(at, raw)| raw.finish(&intake.sources[at], &rank, &customers))
        .collect::<Result<_>>()?;
    let layout = Layout::new(intake, calendar, &monthly, (&rank, customers.len()));
    let mut panel = Panel {
        customers,
        calendar,
        measures: monthly.iter().flat_map(|rows| rows.measures.clone()).collect(),
        offsets: layout.offsets,
        starts: layout.starts,
        values: Vec::new(),
        attributes,
        report,
    };
    fill(&mut panel, monthly, &rank)?;
    Ok(panel)
}

const NO_CUSTOMER: &str = "the sources hold no customer";

/// Whether an error of [`build`] only says that no customer was kept.
pub fn is_empty_panel(error: &Error) -> bool {
    error.message == NO_CUSTOMER
}

/// The last month in which any dated source has a row.
pub fn last_month(intake: &Intake, inputs: &Inputs) -> Result<Month> {
    let mut last = None;
    for (source, files) in intake.sources.iter().zip(&inputs.files) {
        if source.kind == SourceKind::Attributes {
            continue;
        }
        let wanted = &time_columns(source)?[..1];
        scan(files, intake.key(source), wanted, &intake.limits(), &mut |batch| {
            if let Cells::Date(days) = &batch.cells[0] {
                last = last.max(days.iter().flatten().max().copied());
            }
            Ok(())
        })?;
    }
    last.map(Month::of_day).ok_or_else(no_dated_row)
}

/// The error for dated sources in which nothing happens.
pub fn no_dated_row() -> Error {
    Kind::Data.msg("the dated sources hold no row")
}

/// Scans sources and hands out customer numbers in order of arrival.
pub(super) struct Reader<'a> {
    pub intake: &'a Intake,
    inputs: &'a Inputs,
    extent: &'a Extent<'a>,
    ids: HashMap<String, u32>,
    /// The customer of the row before: most tables have a customer's rows together.
    before: Option<(String, u32)>,
    /// Set once the first attributes source said who is a customer.
    closed: bool,
    /// Rows of unknown customers in the source that is read.
    orphans: u64,
    report: BuildReport,
}

impl<'a> Reader<'a> {
    fn new(intake: &'a Intake, inputs: &'a Inputs, extent: &'a Extent<'a>) -> Self {
        let report = BuildReport::default();
        Reader {
            intake,
            inputs,
            extent,
            ids: HashMap::new(),
            before: None,
            closed: false,
            orphans: 0,
            report,
        }
    }

    /// Attributes first: they decide who is a customer.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.intake.sources.len()).collect();
        order.sort_by_key(|&at| self.intake.sources[at].kind != SourceKind::Attributes);
        order
    }

    fn source_is_read(&mut self, at: usize) {
        self.closed |= self.intake.sources[at].kind == SourceKind::Attributes;
    }

    /// The number of a customer; None if it is not to be kept or not known.
    pub(super) fn customer(&mut self, key: &str) -> Option<u32> {
        if let Some((_, number)) = self.before.as_ref().filter(|(before, _)| before == key) {
            return Some(*number);
        }
        if let Some(&number) = self.ids.get(key) {
            let (mut before, _) = self.before.take().unwrap_or_default();
            before.clear();
            before.push_str(key);
            self.before = Some((before, number));
            return Some(number);
        }
        if !(self.extent.keep)(key) {
            return None;
        }
        if self.closed {
            self.orphans += 1;
            return None;
        }
        let number = self.ids.len() as u32;
        self.ids.insert(key.to_owned(), number);
        Some(number)
    }

    pub(super) fn scan(
        &mut self,
        at: usize,
        wanted: &[Wanted],
        consume: &mut dyn FnMut(&mut Self, Batch) -> Result<()>,
    ) -> Result<()> {
        let source = &self.intake.sources[at];
        let (key, limits) = (self.intake.key(source), self.intake.limits());
        let inputs = self.inputs;
        self.orphans = 0;
        let stats =
            scan(&inputs.files[at], key, wanted, &limits, &mut |batch| consume(self, batch))?;
        self.report.cells_nulled += stats.nulled.values().sum::<u64>();
        let rows = self.report.sources.entry(source.name.clone()).or_default();
        rows.read += stats.rows;
        rows.orphan += self.orphans;
        Ok(())
    }

    pub(super) fn day(&self, times: &Cells, row: usize, batch: &Batch) -> Result<i32> {
        let Cells::Date(days) = times else { unreachable!("times are read as dates") };
        days[row].ok_or_else(|| batch.error(Kind::Data, row, "a dated row has no date"))
    }

    pub(super) fn month(&self, times: &Cells, row: usize, batch: &Batch) -> Result<Month> {
        self.day(times, row, batch).map(Month::of_day)
    }
}

/// Customers, by number of arrival, who have rows and all of them after the last month: at its end
/// they were not there yet. (A customer without any row is there and did nothing.)
fn not_yet(monthly: &[MonthRows], calendar: Calendar) -> HashSet<u32> {
    let rows = || monthly.iter().flat_map(|rows| rows.customers.iter().zip(&rows.months));
    let mut later: HashSet<u32> =
        rows().filter(|(_, month)| **month > calendar.last()).map(|(c, _)| *c).collect();
    if !later.is_empty() {
        rows().filter(|(_, month)| **month <= calendar.last()).for_each(|(customer, _)| {
            later.remove(customer);
        });
    }
    later
}

/// The final number of a customer that is left out.
pub(super) const LEFT_OUT: u32 = u32::MAX;

/// Sorted ids, and the final number of each number of arrival.
fn sort_ids(ids: HashMap<String, u32>, left_out: &HashSet<u32>) -> (Vec<String>, Vec<u32>) {
    let mut rank = vec![LEFT_OUT; ids.len()];
    let mut sorted: Vec<(String, u32)> =
        ids.into_iter().filter(|(_, old)| !left_out.contains(old)).collect();
    sorted.sort();
    for (new, (_, old)) in sorted.iter().enumerate() {
        rank[*old as usize] = new as u32;
    }
    (sorted.into_iter().map(|(id, _)| id).collect(), rank)
}

fn calendar(intake: &Intake, monthly: &[MonthRows], extent: &Extent) -> Result<Calendar> {
    if monthly.is_empty() {
        return Ok(Calendar { first: Month(0), months: 1, dated: false });
    }
    let months = || monthly.iter().flat_map(|rows| rows.months.iter().copied());
    let last = extent.last.or(intake.panel.last).or_else(|| months().max());
    let first = extent.first.or(intake.panel.first);
    // A given last month may lie before all rows: then nobody is there yet.
    let first = first.or_else(|| months().min().min(last).or(last));
    let (Some(first), Some(last)) = (first, last) else {
        return Err(Kind::Data.msg("the dated sources hold no row, and no month is configured"));
    };
    let count = last.0 - first.0 + 1;
    if count < 1 {
        return Err(no_months(first, last));
    }
    if count > MONTHS_MAX {
        return Err(Kind::Data
            .msg(format!("the data runs from {first} to {last}, more than {MONTHS_MAX} months"))
            .hint("find the wrong date, or set panel.first and panel.last"));
    }
    Ok(Calendar { first, months: count as u32, dated: true })
}

fn no_months(first: Month, last: Month) -> Error {
    Kind::Data
        .msg(format!("the panel would begin in {first} and end in {last}"))
        .hint("the as-of month, panel.first and panel.last must leave at least one month of data")
}

/// Where each customer's rows lie.
struct Layout {
    offsets: Vec<usize>,
    starts: Vec<u16>,
}

impl Layout {
    /// A customer without any row gets one, at the last month: it is there, it did nothing.
    fn new(
        intake: &Intake,
        calendar: Calendar,
        monthly: &[MonthRows],
        (rank, customers): (&[u32], usize),
    ) -> Self {
        let last = calendar.months as usize - 1;
        let mut starts = vec![last as u16; customers];
        if intake.panel.start == PanelStart::Calendar {
            starts.fill(0);
        } else {
            for rows in monthly {
                for (&customer, &month) in rows.customers.iter().zip(&rows.months) {
                    // Customers that are left out have no place here.
                    let Some(start) = starts.get_mut(rank[customer as usize] as usize) else {
                        continue;
                    };
                    let index = (month.0 - calendar.first.0).clamp(0, last as i32);
                    *start = (*start).min(index as u16);
                }
            }
        }
        let mut offsets = Vec::with_capacity(customers + 1);
        offsets.push(0);
        let mut rows = 0;
        for &start in &starts {
            rows += last + 1 - start as usize;
            offsets.push(rows);
        }
        Layout { offsets, starts }
    }
}

/// Lays the rows of each source into the panel and frees them before the next.
fn fill(panel: &mut Panel, monthly: Vec<MonthRows>, rank: &[u32]) -> Result<()> {
    let width = panel.measures.len();
    let absent: Vec<f32> = monthly
        .iter()
        .flat_map(|rows| {
            let value = if rows.absent == Absent::Zero { 0.0 } else { f32::NAN };
            std::iter::repeat_n(value, rows.measures.len())
        })
        .collect();
    let mut values = absent.repeat(panel.rows());
    let mut first_column = 0;
    for rows in monthly {
        let columns = rows.measures.len();
        let mut seen = vec![false; panel.rows()];
        for (i, (&customer, &month)) in rows.customers.iter().zip(&rows.months).enumerate() {
            let customer = rank[customer as usize] as usize;
            let Some(index) = panel.calendar.index(month) else {
                panel.report.rows_outside += 1;
                continue;
            };
            let row = panel.row(customer, index).expect("a history starts at its first row");
            if std::mem::replace(&mut seen[row], true) {
                return Err(duplicate(&rows.source, &panel.customers[customer], month));
            }
            let from = row * width + first_column;
            values[from..from + columns]
                .copy_from_slice(&rows.values[i * columns..(i + 1) * columns]);
        }
        first_column += columns;
    }
    panel.values = values;
    Ok(())
}

fn duplicate(source: &str, customer: &str, month: Month) -> Error {
    Kind::Data
        .msg(format!("source `{source}` has two rows of customer `{customer}` in {month}"))
        .hint("remove one, or declare the source as events with an aggregation for each measure")
}

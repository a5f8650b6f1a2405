//! Lives into columns, columns into files.

use std::path::{Path, PathBuf};

use super::bayes::{Bayes, Line, Outcome};
use super::life::{Life, Row};
use super::market::{Cell, Event, MEASURES, Market};
use crate::error::Result;
use crate::source::write::{OutColumn, TableDraft};

/// Sizes of what was simulated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub customer_months: u64,
    pub events: u64,
    pub churned: u64,
}

/// The four tables, written piece by piece as customers come.
pub struct Tables {
    market: &'static dyn Market,
    files: [PathBuf; 4],
    drafts: [TableDraft; 4],
    customers: Customers,
    activity: Activity,
    events: Events,
    truth: Truth,
    bayes: Bayes,
    counts: Counts,
}

struct Customers {
    ids: Vec<String>,
    attributes: Vec<Vec<Option<Cell>>>,
    signup: Vec<i32>,
    churn: Vec<Option<i32>>,
}

#[derive(Default)]
struct Activity {
    ids: Vec<String>,
    months: Vec<i32>,
    measures: [Vec<Option<f64>>; MEASURES],
    loaded_at: Vec<i32>,
}

#[derive(Default)]
struct Events {
    ids: Vec<String>,
    days: Vec<i32>,
    labels: [Vec<String>; 2],
    numbers: [Vec<f64>; 2],
}

#[derive(Default)]
struct Truth {
    ids: Vec<String>,
    months: Vec<i32>,
    hazard: Vec<f64>,
}

impl Tables {
    /// Begins all files; none appears before the end.
    pub fn begin(market: &'static dyn Market, out: &Path) -> Result<Self> {
        let events_file = market.profile().events_file;
        let files = ["customers.csv", "activity.parquet", events_file, "truth/hazard.parquet"];
        let files = files.map(|name| out.join(name));
        let [a, b, c, d] = files.each_ref().map(|file| TableDraft::begin(file));
        Ok(Self {
            market,
            drafts: [a?, b?, c?, d?],
            files,
            customers: Customers::new(market),
            activity: Activity::default(),
            events: Events::default(),
            truth: Truth::default(),
            bayes: Bayes::default(),
            counts: Counts::default(),
        })
    }

    /// Appends a customer.
    pub fn push(&mut self, life: Life) {
        self.counts.customer_months += life.truth.len() as u64;
        self.counts.events += life.events.len() as u64;
        self.counts.churned += u64::from(life.churn.is_some());
        outcomes(&life).for_each(|outcome| self.bayes.observe(outcome));
        life.activity.iter().for_each(|row| self.activity.push(&life.id, row));
        life.events.iter().for_each(|event| self.events.push(&life.id, event));
        for &(month, hazard) in &life.truth {
            self.truth.ids.push(life.id.clone());
            self.truth.months.push(month.first_day());
            self.truth.hazard.push(hazard);
        }
        for (column, cell) in self.customers.attributes.iter_mut().zip(life.cells) {
            column.push(cell);
        }
        self.customers.ids.push(life.id);
        self.customers.signup.push(life.signup);
        self.customers.churn.push(life.churn);
    }

    /// Writes what was appended, a row group of each file.
    pub fn flush(&mut self) -> Result<()> {
        let market = self.market;
        let customers = std::mem::replace(&mut self.customers, Customers::new(market));
        self.drafts[0].write(customers.columns(market))?;
        self.drafts[1].write(std::mem::take(&mut self.activity).columns(market))?;
        self.drafts[2].write(std::mem::take(&mut self.events).columns(market))?;
        self.drafts[3].write(std::mem::take(&mut self.truth).columns())
    }

    /// Publishes the files; their paths, what they hold, and how well it can be predicted.
    pub fn publish(self) -> Result<(Vec<PathBuf>, Counts, Line)> {
        self.drafts.into_iter().try_for_each(TableDraft::publish)?;
        Ok((self.files.into(), self.counts, self.bayes.line()))
    }
}

/// The snapshots of a customer whose next month lies inside the calendar: all months of one who
/// churned, all but the calendar's last of one who stayed.
pub(super) fn outcomes(life: &Life) -> impl Iterator<Item = Outcome> {
    let labelled = life.truth.len() - usize::from(life.churn.is_none());
    let last = life.truth.len() - 1;
    let churned = move |i| life.churn.is_some() && i == last;
    let cells = life.truth[..labelled].iter().enumerate();
    cells.map(move |(i, &(_, risk))| Outcome { risk, churned: churned(i) })
}

impl Customers {
    fn new(market: &dyn Market) -> Self {
        let attributes = market.profile().attributes.iter().map(|_| Vec::new()).collect();
        let (ids, signup, churn) = (Vec::new(), Vec::new(), Vec::new());
        Customers { ids, attributes, signup, churn }
    }

    fn columns(self, market: &dyn Market) -> Vec<(&'static str, OutColumn)> {
        let mut columns = vec![("customer_id", OutColumn::Text(self.ids))];
        for (&(name, _), cells) in market.profile().attributes.iter().zip(self.attributes) {
            columns.push((name, attribute(cells)));
        }
        columns.push(("signup_date", OutColumn::Day(self.signup)));
        columns.push(("churn_date", OutColumn::MaybeDay(self.churn)));
        columns
    }
}

/// Numbers or labels, whichever the column holds.
fn attribute(cells: Vec<Option<Cell>>) -> OutColumn {
    let is_label = cells.iter().any(|cell| matches!(cell, Some(Cell::Label(_))));
    let label = |cell: Option<Cell>| match cell {
        Some(Cell::Label(label)) => Some(label.to_string()),
        _ => None,
    };
    let number = |cell: Option<Cell>| match cell {
        Some(Cell::Number(number)) => Some(number),
        _ => None,
    };
    if is_label {
        OutColumn::MaybeText(cells.into_iter().map(label).collect())
    } else {
        OutColumn::MaybeNumber(cells.into_iter().map(number).collect())
    }
}

impl Activity {
    fn push(&mut self, id: &str, row: &Row) {
        self.ids.push(id.into());
        self.months.push(row.month.first_day());
        self.loaded_at.push(row.loaded_at);
        for (column, &cell) in self.measures.iter_mut().zip(&row.measures) {
            column.push(cell);
        }
    }

    fn columns(self, market: &dyn Market) -> Vec<(&'static str, OutColumn)> {
        let mut columns = vec![
            ("customer_id", OutColumn::Text(self.ids)),
            ("month", OutColumn::Day(self.months)),
        ];
        for (&(name, _), cells) in market.profile().measures.iter().zip(self.measures) {
            columns.push((name, OutColumn::MaybeNumber(cells)));
        }
        columns.push(("loaded_at", OutColumn::Day(self.loaded_at)));
        columns
    }
}

impl Events {
    fn push(&mut self, id: &str, event: &Event) {
        self.ids.push(id.into());
        self.days.push(event.day);
        for (column, label) in self.labels.iter_mut().zip(event.labels) {
            column.push(label.into());
        }
        for (column, number) in self.numbers.iter_mut().zip(event.numbers) {
            column.push(number);
        }
    }

    fn columns(self, market: &dyn Market) -> Vec<(&'static str, OutColumn)> {
        let profile = market.profile();
        let labels = profile.events_labels.into_iter().zip(self.labels.map(OutColumn::Text));
        let numbers = profile.events_numbers.into_iter().zip(self.numbers.map(OutColumn::Number));
        let key = [
            ("customer_id", OutColumn::Text(self.ids)),
            (profile.events_day, OutColumn::Day(self.days)),
        ];
        key.into_iter().chain(labels).chain(numbers).collect()
    }
}

impl Truth {
    fn columns(self) -> Vec<(&'static str, OutColumn)> {
        // One month ahead, the risk within the horizon is the hazard of its only month.
        let risk = self.hazard.clone();
        vec![
            ("customer_id", OutColumn::Text(self.ids)),
            ("month", OutColumn::Day(self.months)),
            ("hazard", OutColumn::Number(self.hazard)),
            ("risk", OutColumn::Number(risk)),
        ]
    }
}

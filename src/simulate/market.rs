//! What an industry has to say about its customers; everything else is shared.

use std::ops::RangeInclusive;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Poisson, StandardNormal};

use super::law::Law;
use super::rhythm::{Beat, Season};

/// Measures per activity row. The first [`SHARED`] mean the same in every industry and are what
/// the law reads; the others are the industry's own and follow from them.
pub const MEASURES: usize = 8;
/// Days with use, volume of use, contacts by our staff, price rise in percent.
pub const SHARED: usize = 4;

/// One industry.
pub trait Market: Sync {
    fn profile(&self) -> &'static Profile;

    /// A new customer: attributes and what follows from them.
    fn person(&self, rng: &mut ChaCha8Rng) -> Person;

    /// The industry's own measures of a month with use.
    fn extras(
        &self,
        person: &Person,
        beat: &Beat,
        rng: &mut ChaCha8Rng,
    ) -> [f64; MEASURES - SHARED];

    /// The event rows of a month with use, dated within `days`.
    fn events(&self, beat: &Beat, days: RangeInclusive<i32>, rng: &mut ChaCha8Rng) -> Vec<Event>;

    /// Whether a month's event rows are a burst of trouble.
    fn is_burst(&self, events: &[Event]) -> bool;
}

/// The fixed facts of an industry: names, rates of missing cells, and the law of churn.
#[derive(Debug)]
pub struct Profile {
    /// First letter of the customer ids.
    pub letter: char,
    /// (name, share of missing cells) per attribute.
    pub attributes: &'static [(&'static str, f64)],
    /// (name, share of missing cells) per measure.
    pub measures: [(&'static str, f64); MEASURES],
    pub events_file: &'static str,
    /// Date column of the event table.
    pub events_day: &'static str,
    pub events_labels: [&'static str; 2],
    pub events_numbers: [&'static str; 2],
    pub season: Season,
    pub law: Law,
}

/// A customer as drawn at sign-up.
#[derive(Debug, Clone)]
pub struct Person {
    /// One cell per attribute of the profile.
    pub cells: Vec<Cell>,
    /// Static part of the log-odds of churn.
    pub log_odds: f64,
    /// The customer's own volume of use.
    pub volume: f64,
    /// What the customer pays per month now.
    pub price: f64,
}

/// An attribute's value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell {
    Number(f64),
    Label(&'static str),
}

/// An event row without its customer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Event {
    /// Days since 1970-01-01.
    pub day: i32,
    pub labels: [&'static str; 2],
    pub numbers: [f64; 2],
}

/// One of the names, by their weights.
pub fn pick(rng: &mut ChaCha8Rng, weighted: &[(&'static str, f64)]) -> &'static str {
    let total: f64 = weighted.iter().map(|(_, weight)| weight).sum();
    let mut left = rng.random_range(0.0..total);
    for &(name, weight) in weighted {
        if left < weight {
            return name;
        }
        left -= weight;
    }
    // Rounding can leave a sliver of the total: it belongs to the last name.
    weighted[weighted.len() - 1].0
}

/// exp(mean + deviation x standard normal).
pub fn log_normal(rng: &mut ChaCha8Rng, mean: f64, deviation: f64) -> f64 {
    let z: f64 = StandardNormal.sample(rng);
    (mean + deviation * z).exp()
}

/// A Poisson count; a mean of zero or less gives zero.
pub fn count(rng: &mut ChaCha8Rng, mean: f64) -> f64 {
    Poisson::new(mean).map_or(0.0, |law| law.sample(rng))
}

/// Rounded to a number of decimals, as a table would show it.
pub fn round(x: f64, decimals: i32) -> f64 {
    let unit = 10f64.powi(decimals);
    (x * unit).round() / unit
}

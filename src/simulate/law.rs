//! The law of churn: a state that observed behaviour drives, and the hazard that follows from it.
//!
//! ```text
//! log-odds(hazard) = base + static + tenure + season
//!                  + resentment * w_r + fading * w_f - loyalty * w_l
//! ```
//!
//! *Resentment* rises to 1 when a dip in use follows trouble (a burst, a price rise) within two
//! months; the same dip before the trouble, or in its month, does nothing. *Loyalty* rises to 1,
//! and resentment ends, when a surge in use follows a contact within two months; not the other
//! way round. *Fading* rises to 1 when the volume goes down, down, flat in consecutive months
//! with use, and ends when it goes up; down, flat, down does nothing, alternation does nothing.
//! All three then fade away slowly, over more months than the windows of the aggregates hold.

use super::market::{Event, MEASURES, Market};

/// Months after trouble, or after a contact, in which the answer to it counts.
const MEMORY_MONTHS: u32 = 2;
/// A month with at most this many days with use is a dip; with at least the other, a surge.
const DIP_DAYS_MAX: f64 = 12.0;
const SURGE_DAYS_MIN: f64 = 26.0;
/// A change of the logarithm of the volume beyond this is a move.
const MOVE: f64 = 0.2;

/// The weights of an industry, in log-odds.
#[derive(Debug)]
pub struct Law {
    pub base: f64,
    pub resentment: f64,
    pub loyalty: f64,
    pub fading: f64,
    /// Share of each state that is left after a month.
    pub keep: f64,
    /// Per natural logarithm of (1 + tenure in years).
    pub tenure: f64,
    /// Height of the yearly wave of churn, and the as-of month (1 = January) of its top.
    pub season: f64,
    pub season_month: u32,
}

/// What the law sees of a month; read from the rows as they would be written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Signals {
    trouble: bool,
    contact: bool,
    dip: bool,
    surge: bool,
    /// Logarithm of the volume; none in a pause.
    volume: Option<f64>,
}

impl Signals {
    pub fn read(market: &dyn Market, measures: &[f64; MEASURES], events: &[Event]) -> Self {
        let [days, volume, contacts, price_rise, ..] = *measures;
        Self {
            trouble: market.is_burst(events) || price_rise > 0.0,
            contact: contacts > 0.0,
            dip: days <= DIP_DAYS_MAX,
            surge: days >= SURGE_DAYS_MIN,
            volume: (volume > 0.0).then(|| volume.ln()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Move {
    Down,
    Flat,
    Up,
}

/// The state of a customer at the end of a month.
#[derive(Debug, Clone)]
pub struct Mood {
    resentment: f64,
    loyalty: f64,
    fading: f64,
    months_since_trouble: u32,
    months_since_contact: u32,
    volume: Option<f64>,
    /// The last two moves, the latest last.
    moves: [Move; 2],
}

impl Mood {
    /// A customer of whom nothing has been observed.
    pub fn new() -> Self {
        Self {
            resentment: 0.0,
            loyalty: 0.0,
            fading: 0.0,
            months_since_trouble: u32::MAX,
            months_since_contact: u32::MAX,
            volume: None,
            moves: [Move::Flat; 2],
        }
    }

    /// Takes in one month.
    pub fn observe(&mut self, law: &Law, seen: &Signals) {
        for state in [&mut self.resentment, &mut self.loyalty, &mut self.fading] {
            *state *= law.keep;
        }
        self.months_since_trouble = self.months_since_trouble.saturating_add(1);
        self.months_since_contact = self.months_since_contact.saturating_add(1);
        if seen.dip && self.months_since_trouble <= MEMORY_MONTHS {
            self.resentment = 1.0;
        }
        if seen.surge && self.months_since_contact <= MEMORY_MONTHS {
            self.resentment = 0.0;
            self.loyalty = 1.0;
        }
        // Only now: the answer to trouble or a contact must come in a later month.
        if seen.trouble {
            self.months_since_trouble = 0;
        }
        if seen.contact {
            self.months_since_contact = 0;
        }
        self.follow(seen.volume);
    }

    fn follow(&mut self, volume: Option<f64>) {
        let Some(now) = volume else { return };
        if let Some(before) = self.volume.replace(now) {
            let latest = match now - before {
                change if change < -MOVE => Move::Down,
                change if change > MOVE => Move::Up,
                _ => Move::Flat,
            };
            match (self.moves, latest) {
                ([Move::Down, Move::Down], Move::Flat) => self.fading = 1.0,
                (_, Move::Up) => self.fading = 0.0,
                _ => {}
            }
            self.moves = [self.moves[1], latest];
        }
    }

    /// The part of the log-odds that depends on the order of what happened.
    pub fn log_odds(&self, law: &Law) -> f64 {
        law.resentment * self.resentment - law.loyalty * self.loyalty + law.fading * self.fading
    }
}

impl Law {
    /// The part of the log-odds that the calendar gives: age of the contract and season at the
    /// end of an as-of month that is month `of_year` of its year.
    pub fn calendar(&self, tenure_months: u32, of_year: u32) -> f64 {
        let turn = (f64::from(of_year) - f64::from(self.season_month)) / 12.0;
        self.tenure * (f64::from(tenure_months) / 12.0).ln_1p()
            + self.season * (std::f64::consts::TAU * turn).cos()
    }
}

/// 1 / (1 + exp(-x)), in (0, 1) for every log-odds a law can give.
pub fn sigmoid(log_odds: f64) -> f64 {
    1.0 / (1.0 + (-log_odds).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::Industry;

    /// One letter per month: T trouble, C contact, d dip, s surge, `-` nothing, and the moves of
    /// the volume D, U; a month whose letter is no move is flat.
    fn states(story: &str) -> [bool; 3] {
        let law = &Industry::Telecom.market().profile().law;
        let (mut mood, mut volume) = (Mood::new(), 0.0);
        for letter in story.chars() {
            volume += match letter {
                'D' => -0.4,
                'U' => 0.4,
                _ => 0.0,
            };
            let seen = Signals {
                trouble: letter == 'T',
                contact: letter == 'C',
                dip: letter == 'd',
                surge: letter == 's',
                volume: Some(volume),
            };
            mood.observe(law, &seen);
        }
        [mood.resentment > 0.0, mood.loyalty > 0.0, mood.fading > 0.0]
    }

    #[test]
    fn the_order_decides() {
        let cases = [
            ("Td", [true, false, false]),
            ("T-d", [true, false, false]),
            ("T--d", [false, false, false]),
            ("dT", [false, false, false]),
            ("TdCs", [false, true, false]),
            ("TdsC", [true, false, false]),
            ("C-s", [false, true, false]),
            ("sC--", [false, false, false]),
            ("-DD-", [false, false, true]),
            ("-DDD", [false, false, false]),
            ("-D-D-", [false, false, false]),
            ("-DD-U", [false, false, false]),
            ("-DDUU", [false, false, false]),
            ("-UDUD-", [false, false, false]),
        ];
        for (story, expected) in cases {
            assert_eq!(states(story), expected, "{story}");
        }
    }
}

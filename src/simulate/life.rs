//! One customer from sign-up to the end of the calendar or to churn, whichever comes first.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::law::{Mood, Signals, sigmoid};
use super::market::{Cell, Event, MEASURES, Market, Person, SHARED};
use super::rhythm::{Beat, Rhythm};
use super::{Industry, SimulateSpec};
use crate::clock::Month;
use crate::seeds::Seeds;

/// Share of rows that reach us after the end of their month.
const LATE: f64 = 0.01;
/// Largest number of days by which a row can be late.
const LATE_DAYS_MAX: i32 = 12;
/// Share of new customers per month in a stock that stays level: about the churn rate.
const INFLOW: f64 = 0.024;
/// Days on which contracts begin and end and events fall, so that every month has them all.
const DAYS: i32 = 28;

/// All that is the same for all customers.
pub struct World {
    market: &'static dyn Market,
    seeds: Seeds,
    first: Month,
    last: Month,
    /// Share of customers who signed up before the calendar.
    before: f64,
}

/// What the tables will say about one customer.
#[derive(Debug, Clone, PartialEq)]
pub struct Life {
    pub id: String,
    /// One cell per attribute; none where it is missing.
    pub cells: Vec<Option<Cell>>,
    /// Days since 1970-01-01, as all days here.
    pub signup: i32,
    pub churn: Option<i32>,
    pub activity: Vec<Row>,
    pub events: Vec<Event>,
    /// The hazard at the end of each month in which the customer still was one.
    pub truth: Vec<(Month, f64)>,
}

/// One activity row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    pub month: Month,
    pub loaded_at: i32,
    pub measures: [Option<f64>; MEASURES],
}

/// What happened in a month, complete, before holes are made.
struct Lived {
    measures: [f64; MEASURES],
    events: Vec<Event>,
}

impl World {
    pub fn new(spec: &SimulateSpec) -> Self {
        let last = Month::new(2024, 12);
        Self {
            market: Industry::market(spec.industry),
            seeds: Seeds::new(spec.seed).child(spec.industry.name(), 0),
            first: last.plus(1 - spec.months as i32),
            last,
            before: 1.0 / (1.0 + INFLOW * f64::from(spec.months)),
        }
    }

    /// The life of customer `index`, a function of the spec's seed, industry and months alone.
    pub fn live(&self, index: u32) -> Life {
        let stream = |name| self.seeds.stream(name, u64::from(index));
        let (profile, mut acts) = (self.market.profile(), stream("behaviour"));
        let (mut fate, mut holes) = (stream("churn"), stream("holes"));
        let mut person = self.market.person(&mut stream("person"));
        let signup = self.signup(&mut stream("signup"));
        let cells = profile.attributes.iter().zip(&person.cells);
        let cells = cells.map(|(&(_, rate), &cell)| present(cell, rate, &mut holes)).collect();
        let id = format!("{}{:07}", profile.letter, index + 1);
        let (activity, events, truth) = (Vec::new(), Vec::new(), Vec::new());
        let mut life = Life { id, cells, signup, churn: None, activity, events, truth };

        let (mut rhythm, mut mood) = (Rhythm::new(), Mood::new());
        let signup_month = Month::of_day(signup);
        let mut month = signup_month.max(self.first);
        loop {
            let beat = rhythm.next(&profile.season, month.of_year(), &mut acts);
            let lived = self.dress(&mut person, &beat, month.first_day().max(signup), &mut acts);
            mood.observe(&profile.law, &Signals::read(self.market, &lived.measures, &lived.events));
            let hazard = sigmoid(
                profile.law.base
                    + person.log_odds
                    + profile.law.calendar((month.0 - signup_month.0) as u32, month.of_year())
                    + mood.log_odds(&profile.law),
            );
            self.record(&mut life, month, lived, &mut holes);
            life.truth.push((month, hazard));
            if month == self.last {
                return life;
            }
            month = month.plus(1);
            let (leaves, day) = (fate.random::<f64>() < hazard, fate.random_range(0..DAYS));
            if leaves {
                life.churn = Some(month.first_day() + day);
                return life;
            }
        }
    }

    /// Before the calendar, by an exponential law with a mean of three years, or within it.
    fn signup(&self, rng: &mut ChaCha8Rng) -> i32 {
        let (before, age): (f64, f64) = (rng.random(), rng.random_range(1e-3..1.0));
        let (within, day) = (rng.random_range(0.0..1.0), rng.random_range(0..DAYS));
        let months_back = (1 - (age.ln() * 36.0) as i32).min(240);
        let span = self.last.0 - self.first.0;
        let month = if before < self.before {
            self.first.plus(-months_back)
        } else {
            self.first.plus((within * f64::from(span)) as i32)
        };
        month.first_day() + day
    }

    /// Turns a beat into the rows of the industry. A pause leaves zeros and no events.
    fn dress(&self, person: &mut Person, beat: &Beat, from: i32, rng: &mut ChaCha8Rng) -> Lived {
        let mut measures = [0.0; MEASURES];
        if beat.is_pause() {
            return Lived { measures, events: Vec::new() };
        }
        person.price *= 1.0 + beat.price_rise_pct / 100.0;
        // Two decimals at any scale we use keep the moves of the volume visible.
        measures[..SHARED].copy_from_slice(&[
            f64::from(beat.active_days),
            super::market::round(person.volume * beat.volume.exp(), 2),
            f64::from(beat.contacts),
            beat.price_rise_pct,
        ]);
        measures[SHARED..].copy_from_slice(&self.market.extras(person, beat, rng));
        let until = from.max(Month::of_day(from).first_day() + DAYS - 1);
        Lived { measures, events: self.market.events(beat, from..=until, rng) }
    }

    /// Appends the month with holes: no row in a pause, missing cells, late rows.
    fn record(&self, life: &mut Life, month: Month, lived: Lived, holes: &mut ChaCha8Rng) {
        let Lived { measures, events } = lived;
        let (late, days) = (holes.random::<f64>() < LATE, holes.random_range(1..=LATE_DAYS_MAX));
        let specs = &self.market.profile().measures;
        let cell = |i: usize| present(measures[i], specs[i].1, holes);
        let cells = std::array::from_fn(cell);
        life.events.extend(events);

        // The first row is never held back: a history begins with the first row in hand.
        let first = life.truth.is_empty();
        let end = month.plus(1).first_day() - 1;
        let loaded_at = if late && !first { end + days } else { end };
        let paused = measures[0] == 0.0;
        // The export is drawn when the calendar ends, so what is late then is not in it.
        let unseen = loaded_at >= self.last.plus(1).first_day();
        if !paused && !unseen {
            life.activity.push(Row { month, loaded_at, measures: cells });
        }
    }
}

fn present<T>(cell: T, missing: f64, holes: &mut ChaCha8Rng) -> Option<T> {
    (holes.random::<f64>() >= missing).then_some(cell)
}

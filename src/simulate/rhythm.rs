//! How customers behave: episodes that come in both orders, so that the order tells.
//!
//! Each episode that matters has a mirror that holds the same months in another order and does
//! not matter: trouble before a dip and after it, a contact before a surge and after it, down,
//! down, flat and down, flat, down. Means, extremes and deviations over a window are the same for
//! both.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::market::round;

/// Months that an episode can reach ahead.
const AHEAD: usize = 5;
/// A step of the logarithm of the volume, about a factor of 1.45.
const STEP: f64 = 0.37;
/// Deviation of the logarithm of the volume around its level, small against [`STEP`].
const NOISE: f64 = 0.04;
/// Share of months in which a customer pauses: no use, no bill, no row.
const PAUSE: f64 = 0.008;
/// Share of troubles that are a price rise and not a burst of events.
const TROUBLE_IS_PRICE: f64 = 0.3;
/// Chance of a rebound per month for a customer who fell.
const REBOUND: f64 = 0.07;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Nothing,
    Trouble,
    Dip,
    Surge,
    Contact,
}

/// (chance per month, first mark, second mark one or two months later).
const EPISODES: [(f64, Mark, Mark); 8] = [
    (0.020, Mark::Trouble, Mark::Dip),
    (0.030, Mark::Dip, Mark::Trouble),
    (0.020, Mark::Contact, Mark::Surge),
    (0.025, Mark::Surge, Mark::Contact),
    (0.020, Mark::Trouble, Mark::Nothing),
    (0.035, Mark::Dip, Mark::Nothing),
    (0.025, Mark::Surge, Mark::Nothing),
    (0.025, Mark::Contact, Mark::Nothing),
];

/// (chance per month, steps of the volume in units of [`STEP`]).
const TRENDS: [(f64, [f64; 4]); 5] = [
    (0.015, [-1.0, -1.0, 0.0, 0.0]),
    (0.022, [-1.0, 0.0, -1.0, 0.0]),
    (0.010, [-1.0, -1.0, 1.0, 1.0]),
    (0.010, [1.0, -1.0, 1.0, -1.0]),
    (0.010, [-1.0, 1.0, -1.0, 1.0]),
];

/// The industry's year.
#[derive(Debug)]
pub struct Season {
    /// Month of the yearly price round, 1 = January.
    pub price_month: u32,
    /// Share of customers whose price rises in it.
    pub price_share: f64,
    /// Months of holidays, in which dips are common and mean nothing by themselves.
    pub holidays: [u32; 2],
    pub holiday_dips: f64,
    /// Month in which the volume is highest, and by how much of the logarithm.
    pub peak_month: u32,
    pub peak: f64,
}

/// What a customer does in a month, before the industry dresses it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Beat {
    /// Days with use: dip 3 to 12, normal 15 to 24, surge 26 to 28; 0 in a pause.
    pub active_days: u32,
    /// Logarithm of the volume over the customer's own.
    pub volume: f64,
    /// A burst of trouble in the event table.
    pub burst: Burst,
    /// Contacts by our staff.
    pub contacts: u32,
    pub price_rise_pct: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Burst {
    No,
    Yes,
}

impl Beat {
    const PAUSE: Beat =
        Beat { active_days: 0, volume: 0.0, burst: Burst::No, contacts: 0, price_rise_pct: 0.0 };

    pub fn is_pause(&self) -> bool {
        self.active_days == 0
    }
}

/// A customer's behaviour under way.
#[derive(Debug)]
pub struct Rhythm {
    /// Marks of this month and the next ones; two can fall on one month.
    marks: [[Mark; 2]; AHEAD],
    /// Steps of the volume of this month and the next ones.
    steps: [f64; AHEAD],
    level: f64,
    trend_months_left: u32,
    /// Months behind us. The first is never a pause: a history begins with a row.
    months: u32,
}

impl Rhythm {
    pub fn new() -> Self {
        Self {
            marks: [[Mark::Nothing; 2]; AHEAD],
            steps: [0.0; AHEAD],
            level: 0.0,
            trend_months_left: 0,
            months: 0,
        }
    }

    /// The behaviour of the next month, which is month `of_year` (1 = January) of its year.
    pub fn next(&mut self, season: &Season, of_year: u32, rng: &mut ChaCha8Rng) -> Beat {
        self.start_episode(rng);
        self.start_trend(rng);
        let marks = self.advance();
        let beat = self.beat(marks, season, of_year, rng);
        // The draw is taken in every month, so that a pause does not shift what comes after it.
        let pause = rng.random::<f64>() < PAUSE && self.months > 1;
        if pause { Beat::PAUSE } else { beat }
    }

    /// Moves on by a month; the marks that fall on it.
    fn advance(&mut self) -> [Mark; 2] {
        self.months += 1;
        self.level += self.steps[0];
        self.steps.rotate_left(1);
        self.steps[AHEAD - 1] = 0.0;
        self.marks.rotate_left(1);
        std::mem::replace(&mut self.marks[AHEAD - 1], [Mark::Nothing; 2])
    }

    fn beat(&self, marks: [Mark; 2], season: &Season, of_year: u32, rng: &mut ChaCha8Rng) -> Beat {
        let (holiday, days) = (rng.random::<f64>(), rng.random::<f64>());
        let (in_share, kind) = (rng.random::<f64>(), rng.random::<f64>());
        let (rise, noise): (f64, f64) = (rng.random_range(4.0..12.0), StandardNormal.sample(rng));
        let has = |mark| marks.contains(&mark);

        let holiday = season.holidays.contains(&of_year) && holiday < season.holiday_dips;
        let (low, high) = match (has(Mark::Dip) || holiday, has(Mark::Surge)) {
            (true, _) => (3.0, 13.0),
            (false, true) => (26.0, 29.0),
            (false, false) => (15.0, 25.0),
        };
        let in_round = of_year == season.price_month && in_share < season.price_share;
        let trouble_is_price = has(Mark::Trouble) && kind < TROUBLE_IS_PRICE;
        let trouble_is_burst = has(Mark::Trouble) && !trouble_is_price;
        let turn = f64::from(of_year as i32 - season.peak_month as i32) / 12.0;
        let peak = season.peak * (std::f64::consts::TAU * turn).cos();
        Beat {
            active_days: (low + days * (high - low)) as u32,
            volume: self.level + peak + NOISE * noise,
            burst: if trouble_is_burst { Burst::Yes } else { Burst::No },
            contacts: u32::from(has(Mark::Contact)),
            price_rise_pct: if in_round || trouble_is_price { round(rise, 1) } else { 0.0 },
        }
    }

    fn start_episode(&mut self, rng: &mut ChaCha8Rng) {
        let (mut left, lag) = (rng.random::<f64>(), rng.random_range(1..=2));
        for (chance, first, second) in EPISODES {
            if left < chance {
                self.mark(0, first);
                self.mark(lag, second);
                return;
            }
            left -= chance;
        }
    }

    fn mark(&mut self, lag: usize, mark: Mark) {
        if mark != Mark::Nothing {
            let cell = &mut self.marks[lag];
            *cell = [mark, cell[0]];
        }
    }

    fn start_trend(&mut self, rng: &mut ChaCha8Rng) {
        let mut left = rng.random::<f64>();
        if self.trend_months_left > 0 {
            self.trend_months_left -= 1;
            return;
        }
        // A customer has two levels, so that the volume neither dies out nor runs away.
        if self.level < -STEP {
            if left < REBOUND {
                self.plan([1.0, 1.0, 0.0, 0.0]);
            }
            return;
        }
        for (chance, steps) in TRENDS {
            if left < chance {
                self.plan(steps);
                return;
            }
            left -= chance;
        }
    }

    fn plan(&mut self, steps: [f64; 4]) {
        for (ahead, step) in self.steps.iter_mut().zip(steps) {
            *ahead = step * STEP;
        }
        self.trend_months_left = steps.len() as u32 - 1;
    }
}

//! Current accounts of a bank.

use std::ops::RangeInclusive;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::law::Law;
use super::market::{Cell, Event, MEASURES, Market, Person, Profile, SHARED};
use super::market::{count, log_normal, pick, round};
use super::rhythm::{Beat, Burst, Season};

pub struct Finance;

/// Returned payments that make a burst; a quiet month has none or one.
const BURST_MIN: usize = 2;
/// What the bank takes for a returned payment.
const RETURN_FEE: f64 = 7.5;

static PROFILE: Profile = Profile {
    letter: 'F',
    attributes: &[
        ("segment", 0.0),
        ("main_channel", 0.01),
        ("mortgage", 0.0),
        ("region", 0.02),
        ("age", 0.02),
        ("income", 0.08),
        ("products", 0.0),
        ("branch_km", 0.05),
    ],
    measures: [
        ("active_days", 0.004),
        ("card_spend", 0.004),
        ("advisor_calls", 0.0),
        ("fee_rise_pct", 0.0),
        ("card_payments", 0.02),
        ("app_logins", 0.02),
        ("transfers_out", 0.02),
        ("account_fee", 0.01),
    ],
    events_file: "payments.parquet",
    events_day: "paid_on",
    events_labels: ["kind", "outcome"],
    events_numbers: ["amount", "fee"],
    season: Season {
        price_month: 1,
        price_share: 0.10,
        holidays: [8, 9],
        holiday_dips: 0.08,
        peak_month: 12,
        peak: 0.08,
    },
    law: Law {
        base: -4.2,
        resentment: 3.0,
        loyalty: 0.9,
        fading: 1.5,
        keep: 0.95,
        tenure: -0.4,
        season: 0.15,
        season_month: 2,
    },
};

impl Market for Finance {
    fn profile(&self) -> &'static Profile {
        &PROFILE
    }

    fn person(&self, rng: &mut ChaCha8Rng) -> Person {
        let segment = pick(rng, &[("student", 0.2), ("standard", 0.6), ("premium", 0.2)]);
        let channel = pick(rng, &[("app", 0.55), ("web", 0.25), ("branch", 0.2)]);
        let mortgage = pick(rng, &[("yes", 0.25), ("no", 0.75)]);
        let region = pick(
            rng,
            &[("north", 1.0), ("east", 1.0), ("south", 1.0), ("west", 1.0), ("capital", 1.5)],
        );
        let age = f64::from(match segment {
            "student" => rng.random_range(18..=29_u32),
            _ => rng.random_range(24..=84_u32),
        });
        let scale = match segment {
            "student" => 9.2,
            "standard" => 10.5,
            _ => 11.2,
        };
        let income = round(log_normal(rng, scale, 0.3), 0);
        let products = (1.0 + count(rng, 1.0)).min(6.0);
        let branch_km = round(log_normal(rng, 1.2, 0.8), 1);
        let volume = round(log_normal(rng, 6.6, 0.2), 2);
        let price = if segment == "premium" { 12.0 } else { 5.0 };

        let mut log_odds = match segment {
            "student" => 0.45,
            "standard" => 0.0,
            _ => -0.2,
        };
        log_odds += if mortgage == "yes" { -0.8 } else { 0.15 };
        log_odds += if channel == "branch" && branch_km > 5.0 { 0.7 } else { 0.0 };
        // One product alone is harmless on a small income and a second bank on a large one.
        log_odds += match (products < 2.0, income > 40_000.0) {
            (true, true) => 1.0,
            (true, false) => 0.2,
            (false, _) => -0.15 * products,
        };
        let cells = vec![
            Cell::Label(segment),
            Cell::Label(channel),
            Cell::Label(mortgage),
            Cell::Label(region),
            Cell::Number(age),
            Cell::Number(income),
            Cell::Number(products),
            Cell::Number(branch_km),
        ];
        Person { cells, log_odds, volume, price }
    }

    fn extras(
        &self,
        person: &Person,
        beat: &Beat,
        rng: &mut ChaCha8Rng,
    ) -> [f64; MEASURES - SHARED] {
        let days = f64::from(beat.active_days);
        let transfers = round(log_normal(rng, 6.0, 0.6), 2);
        [days + count(rng, days), count(rng, 1.2 * days), transfers, round(person.price, 2)]
    }

    fn events(&self, beat: &Beat, days: RangeInclusive<i32>, rng: &mut ChaCha8Rng) -> Vec<Event> {
        let returned = match beat.burst {
            Burst::No => usize::from(rng.random::<f64>() < 0.03),
            Burst::Yes => BURST_MIN + count(rng, 0.5) as usize,
        };
        let settled = count(rng, 1.0).min(4.0) as usize;
        let payment = |i| {
            let (outcome, fee) =
                if i < returned { ("returned", RETURN_FEE) } else { ("settled", 0.0) };
            let kind =
                pick(rng, &[("rent", 2.0), ("energy", 2.0), ("insurance", 2.0), ("loan", 1.0)]);
            let amount = round(log_normal(rng, 4.8, 0.7), 2);
            let day = rng.random_range(days.clone());
            Event { day, labels: [kind, outcome], numbers: [amount, fee] }
        };
        (0..returned + settled).map(payment).collect()
    }

    fn is_burst(&self, events: &[Event]) -> bool {
        events.iter().filter(|event| event.labels[1] == "returned").count() >= BURST_MIN
    }
}

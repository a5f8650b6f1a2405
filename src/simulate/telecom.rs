//! Phone and internet contracts.

use std::ops::RangeInclusive;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::law::Law;
use super::market::{Cell, Event, MEASURES, Market, Person, Profile, SHARED};
use super::market::{count, log_normal, pick, round};
use super::rhythm::{Beat, Burst, Season};

pub struct Telecom;

/// Tickets of a quiet month at most, and of a burst at least.
const QUIET_MAX: f64 = 2.0;
const BURST_MIN: usize = 3;

static PROFILE: Profile = Profile {
    letter: 'T',
    attributes: &[
        ("contract", 0.0),
        ("payment", 0.0),
        ("network", 0.01),
        ("region", 0.02),
        ("age", 0.05),
        ("household", 0.03),
        ("list_price", 0.0),
    ],
    measures: [
        ("active_days", 0.004),
        ("data_gb", 0.004),
        ("care_calls", 0.0),
        ("price_rise_pct", 0.0),
        ("voice_minutes", 0.02),
        ("sms", 0.02),
        ("roaming_days", 0.03),
        ("bill", 0.01),
    ],
    events_file: "tickets.parquet",
    events_day: "opened_on",
    events_labels: ["topic", "channel"],
    events_numbers: ["hours_to_solve", "satisfaction"],
    season: Season {
        price_month: 4,
        price_share: 0.12,
        holidays: [7, 8],
        holiday_dips: 0.10,
        peak_month: 12,
        peak: 0.06,
    },
    law: Law {
        base: -4.65,
        resentment: 3.0,
        loyalty: 0.8,
        fading: 1.5,
        keep: 0.95,
        tenure: -0.35,
        season: 0.15,
        season_month: 1,
    },
};

impl Market for Telecom {
    fn profile(&self) -> &'static Profile {
        &PROFILE
    }

    fn person(&self, rng: &mut ChaCha8Rng) -> Person {
        let contract = pick(rng, &[("month-to-month", 0.5), ("one-year", 0.3), ("two-year", 0.2)]);
        let payment = pick(rng, &[("direct-debit", 0.5), ("card", 0.3), ("invoice", 0.2)]);
        let network = pick(rng, &[("mobile", 0.4), ("cable", 0.3), ("fibre", 0.3)]);
        let region = pick(
            rng,
            &[("north", 1.0), ("east", 1.0), ("south", 1.0), ("west", 1.0), ("islands", 0.2)],
        );
        let age = f64::from(rng.random_range(18..=84_u32));
        let household = (1.0 + count(rng, 1.2)).min(6.0);
        let own = if network == "fibre" { 3.9 } else { 3.5 };
        let price = round(log_normal(rng, own, 0.3), 2);
        let volume = round(log_normal(rng, 2.9, 0.2), 2);

        let mut log_odds = match contract {
            "month-to-month" => 0.6,
            "one-year" => 0.0,
            _ => -0.8,
        };
        log_odds += if payment == "invoice" { 0.35 } else { 0.0 };
        log_odds += if age < 28.0 { 0.4 } else { 0.0 };
        // Neither fibre nor a high price matters alone: together, and free to go, they do.
        let free = contract == "month-to-month";
        log_odds += if network == "fibre" && price > 50.0 && free { 0.9 } else { 0.0 };
        let cells = vec![
            Cell::Label(contract),
            Cell::Label(payment),
            Cell::Label(network),
            Cell::Label(region),
            Cell::Number(age),
            Cell::Number(household),
            Cell::Number(price),
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
        let roaming = if rng.random::<f64>() < 0.06 { 1.0 + count(rng, 4.0) } else { 0.0 };
        let minutes = round(days * log_normal(rng, 2.3, 0.3), 0);
        let bill = round(person.price * log_normal(rng, 0.0, 0.03) + 1.5 * roaming, 2);
        [minutes, count(rng, days), roaming.min(days), bill]
    }

    fn events(&self, beat: &Beat, days: RangeInclusive<i32>, rng: &mut ChaCha8Rng) -> Vec<Event> {
        let tickets = match beat.burst {
            Burst::No => count(rng, 0.25).min(QUIET_MAX),
            Burst::Yes => BURST_MIN as f64 + count(rng, 0.7),
        };
        let ticket = |_| Event {
            day: rng.random_range(days.clone()),
            labels: [
                pick(rng, &[("billing", 3.0), ("outage", 2.0), ("device", 2.0), ("contract", 1.0)]),
                pick(rng, &[("phone", 5.0), ("chat", 4.0), ("shop", 1.0)]),
            ],
            numbers: [round(log_normal(rng, 2.5, 0.8), 1), f64::from(rng.random_range(1..=5_u32))],
        };
        (0..tickets as usize).map(ticket).collect()
    }

    fn is_burst(&self, events: &[Event]) -> bool {
        events.len() >= BURST_MIN
    }
}

//! Software by subscription; a customer is a company.

use std::ops::RangeInclusive;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::law::Law;
use super::market::{Cell, Event, MEASURES, Market, Person, Profile, SHARED};
use super::market::{count, log_normal, pick, round};
use super::rhythm::{Beat, Burst, Season};

pub struct Saas;

/// Tickets of a quiet month at most, and of a burst at least.
const QUIET_MAX: f64 = 3.0;
const BURST_MIN: usize = 5;

static PROFILE: Profile = Profile {
    letter: 'S',
    attributes: &[
        ("plan", 0.0),
        ("billing", 0.0),
        ("sector", 0.04),
        ("found_by", 0.02),
        ("employees", 0.06),
        ("seats", 0.0),
        ("integrations", 0.02),
    ],
    measures: [
        ("active_days", 0.004),
        ("tasks_done", 0.004),
        ("success_calls", 0.0),
        ("price_rise_pct", 0.0),
        ("active_seats", 0.02),
        ("api_calls", 0.03),
        ("exports", 0.02),
        ("invoice", 0.01),
    ],
    events_file: "tickets.parquet",
    events_day: "opened_on",
    events_labels: ["topic", "priority"],
    events_numbers: ["hours_to_solve", "messages"],
    season: Season {
        price_month: 1,
        price_share: 0.15,
        holidays: [8, 12],
        holiday_dips: 0.12,
        peak_month: 3,
        peak: 0.08,
    },
    law: Law {
        base: -4.45,
        resentment: 2.9,
        loyalty: 1.0,
        fading: 1.7,
        keep: 0.95,
        tenure: -0.45,
        season: 0.2,
        season_month: 12,
    },
};

impl Market for Saas {
    fn profile(&self) -> &'static Profile {
        &PROFILE
    }

    fn person(&self, rng: &mut ChaCha8Rng) -> Person {
        let plan = pick(rng, &[("starter", 0.45), ("team", 0.35), ("business", 0.2)]);
        let billing = pick(rng, &[("monthly", 0.6), ("annual", 0.4)]);
        let sector = pick(
            rng,
            &[
                ("retail", 3.0),
                ("agency", 3.0),
                ("industry", 2.0),
                ("health", 1.0),
                ("public", 1.0),
            ],
        );
        let found_by =
            pick(rng, &[("search", 4.0), ("partner", 2.0), ("event", 1.0), ("advert", 3.0)]);
        let employees = (log_normal(rng, 3.3, 1.1)).ceil();
        let seats = (employees * rng.random_range(0.1..0.6)).ceil();
        let integrations = count(rng, 1.8).min(8.0);
        let per_seat = match plan {
            "starter" => 9.0,
            "team" => 15.0,
            _ => 24.0,
        };
        let volume = round(log_normal(rng, 5.5, 0.2), 2);

        let mut log_odds = match plan {
            "starter" => 0.45,
            "team" => 0.0,
            _ => -0.6,
        };
        log_odds += if billing == "monthly" { 0.4 } else { -0.4 };
        log_odds += if found_by == "advert" { 0.3 } else { 0.0 };
        // A product that is tied into others stays; this counts most for small teams.
        let loose = integrations < 2.0;
        log_odds += match (loose, seats < 8.0) {
            (true, true) => 0.7,
            (true, false) => 0.1,
            (false, _) => -0.2,
        };
        let cells = vec![
            Cell::Label(plan),
            Cell::Label(billing),
            Cell::Label(sector),
            Cell::Label(found_by),
            Cell::Number(employees),
            Cell::Number(seats),
            Cell::Number(integrations),
        ];
        Person { cells, log_odds, volume, price: per_seat * seats }
    }

    fn extras(
        &self,
        person: &Person,
        beat: &Beat,
        rng: &mut ChaCha8Rng,
    ) -> [f64; MEASURES - SHARED] {
        let days = f64::from(beat.active_days);
        let seats = (1.0 + count(rng, 0.3 * days)).round();
        let api_calls = round(days * log_normal(rng, 3.0, 0.5), 0);
        [seats, api_calls, count(rng, 0.2 * days), round(person.price, 2)]
    }

    fn events(&self, beat: &Beat, days: RangeInclusive<i32>, rng: &mut ChaCha8Rng) -> Vec<Event> {
        let tickets = match beat.burst {
            Burst::No => count(rng, 0.5).min(QUIET_MAX),
            Burst::Yes => BURST_MIN as f64 + count(rng, 1.0),
        };
        let ticket = |_| Event {
            day: rng.random_range(days.clone()),
            labels: [
                pick(rng, &[("bug", 4.0), ("how-to", 3.0), ("billing", 1.0), ("feature", 2.0)]),
                pick(rng, &[("low", 5.0), ("normal", 4.0), ("urgent", 1.0)]),
            ],
            numbers: [round(log_normal(rng, 2.8, 0.9), 1), 1.0 + count(rng, 2.0)],
        };
        (0..tickets as usize).map(ticket).collect()
    }

    fn is_burst(&self, events: &[Event]) -> bool {
        events.len() >= BURST_MIN
    }
}

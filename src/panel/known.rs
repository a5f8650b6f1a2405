//! What a fold may know of windows that it does not see whole.
//!
//! In a split by time the label windows of the train part end by the first as-of month of the next
//! part, and the as-of months in between are purged. Of the windows of those, the first months are
//! known by then: a hazard head learns from them, censored where knowledge ends. At the panel's end
//! it is the same for the test part.

use super::{Fold, OpenWindow, Part, Snapshots};

/// The train examples of a hazard head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HazardExamples {
    /// Rising snapshot numbers: the train part, and the purged snapshots behind it of whose windows
    /// a month is known.
    pub chosen: Vec<u32>,
    /// Calendar index of the last as-of month whose windows are known whole; behind it, each month
    /// knows one month less.
    pub complete_to: u16,
}

impl HazardExamples {
    /// Nothing is used that the train part's own windows do not reach.
    pub fn of(snapshots: &Snapshots, fold: &Fold) -> Self {
        let complete_to = last_month(snapshots, fold, Part::Train).unwrap_or(0);
        let behind = complete_to + 1..complete_to.saturating_add(snapshots.horizon as u16);
        let in_time_order = is_out_of_time(snapshots, fold);
        let is_chosen = |&s: &u32| match fold.parts[s as usize] {
            Part::Train => true,
            Part::Purged => in_time_order && behind.contains(&snapshots.months[s as usize]),
            Part::Validation | Part::Test => false,
        };
        let chosen = (0..snapshots.len() as u32).filter(is_chosen).collect();
        HazardExamples { chosen, complete_to }
    }
}

/// The open windows on which the fold's test part goes on: all of them where the last as-of months
/// test, those of the test customers where customers are divided.
pub fn open_tests(snapshots: &Snapshots, fold: &Fold) -> Vec<OpenWindow> {
    if is_out_of_time(snapshots, fold) {
        let last = snapshots.months.iter().copied().max();
        let goes_on = last.is_some() && last_month(snapshots, fold, Part::Test) == last;
        return if goes_on { snapshots.open.clone() } else { Vec::new() };
    }
    let members = fold.members(Part::Test);
    let mut customers: Vec<u32> =
        members.iter().map(|&s| snapshots.customers[s as usize]).collect();
    customers.dedup();
    let tests = |o: &&OpenWindow| customers.binary_search(&o.customer).is_ok();
    snapshots.open.iter().filter(tests).copied().collect()
}

fn last_month(snapshots: &Snapshots, fold: &Fold, part: Part) -> Option<u16> {
    let months = snapshots.months.iter().zip(&fold.parts);
    months.filter(|(_, p)| **p == part).map(|(month, _)| *month).max()
}

/// Whether every train snapshot lies before all others that are used.
fn is_out_of_time(snapshots: &Snapshots, fold: &Fold) -> bool {
    let months = snapshots.months.iter().zip(&fold.parts);
    let later = months.filter(|(_, p)| matches!(p, Part::Validation | Part::Test));
    let first = later.map(|(month, _)| *month).min();
    last_month(snapshots, fold, Part::Train) < first
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panel::FollowUp;

    /// Two customers over as-of months 0..=6 with horizon 2, and an open window each at 7.
    fn snapshots() -> Snapshots {
        let places = (0..2).flat_map(|customer| (0..7).map(move |month| (customer, month)));
        let mut snapshots = Snapshots::unlabelled(places);
        snapshots.horizon = 2;
        snapshots.hazards = vec![0; 28];
        let follow_up = FollowUp { months: 1, churned: false };
        snapshots.open =
            (0..2).map(|customer| OpenWindow { customer, month: 7, follow_up }).collect();
        snapshots
    }

    fn fold(snapshots: &Snapshots, part: impl Fn(u32, u16) -> Part) -> Fold {
        let pairs = snapshots.customers.iter().zip(&snapshots.months);
        Fold { number: None, parts: pairs.map(|(&c, &m)| part(c, m)).collect() }
    }

    #[test]
    fn purged_windows_are_known_up_to_where_the_train_part_reaches() {
        let snapshots = snapshots();
        let by_time = |_: u32, month: u16| match month {
            0 | 1 => Part::Train,
            4 => Part::Validation,
            6 => Part::Test,
            _ => Part::Purged,
        };
        let fold = fold(&snapshots, by_time);
        let found = HazardExamples::of(&snapshots, &fold);
        // Month 2 knows the first of its two months, month 3 none.
        assert_eq!(found, HazardExamples { chosen: vec![0, 1, 2, 7, 8, 9], complete_to: 1 });
        assert_eq!(open_tests(&snapshots, &fold), snapshots.open);
    }

    #[test]
    fn an_earlier_test_part_has_no_open_windows() {
        let snapshots = snapshots();
        let early = |_: u32, month: u16| match month {
            0 => Part::Train,
            2 => Part::Validation,
            4 => Part::Test,
            _ => Part::Purged,
        };
        assert!(open_tests(&snapshots, &fold(&snapshots, early)).is_empty());
    }

    #[test]
    fn divided_customers_have_no_time_order() {
        let snapshots = snapshots();
        let by_customer =
            |customer: u32, _: u16| if customer == 0 { Part::Train } else { Part::Test };
        let fold = fold(&snapshots, by_customer);
        assert_eq!(HazardExamples::of(&snapshots, &fold).chosen, [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(open_tests(&snapshots, &fold), snapshots.open[1..]);
    }
}

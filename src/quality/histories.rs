//! Which months each customer has rows of, in about 40 bytes a customer however long its history.

use std::collections::{BTreeSet, HashMap};

use crate::clock::Month;

/// Months by number of the customer.
#[derive(Default)]
pub(super) struct Histories {
    /// Customers by the hash of their name, in order of arrival.
    numbers: HashMap<u64, u32>,
    spans: Vec<Span>,
    /// The few histories that span more than 64 months.
    wide: HashMap<u32, BTreeSet<Month>>,
}

/// Up to 64 months from the first one on, a bit each. No bit: the months are in `wide`.
#[derive(Debug, Clone, Copy)]
struct Span {
    first: Month,
    bits: u64,
}

/// Whether a customer is new, and whether the month is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrival {
    pub new_customer: bool,
    pub new_month: bool,
}

impl Histories {
    pub(super) fn insert(&mut self, customer: u64, month: Month) -> Arrival {
        let next = self.spans.len() as u32;
        let number = *self.numbers.entry(customer).or_insert(next);
        if number == next {
            self.spans.push(Span { first: month, bits: 1 });
            return Arrival { new_customer: true, new_month: true };
        }
        let span = &mut self.spans[number as usize];
        let new_month = match span.insert(month) {
            Some(new) => new,
            None => {
                let months = span.months().collect::<BTreeSet<Month>>();
                span.bits = 0;
                self.wide.entry(number).or_insert(months).insert(month)
            }
        };
        Arrival { new_customer: false, new_month }
    }

    /// For each customer in order of arrival: months from first to last row, months with a row,
    /// and the first month without one.
    pub(super) fn gaps(&self) -> impl Iterator<Item = (u64, u64, Option<Month>)> + '_ {
        self.spans.iter().enumerate().map(|(number, span)| match self.wide.get(&(number as u32)) {
            Some(months) => gaps(months.iter().copied()),
            None => gaps(span.months()),
        })
    }
}

impl Span {
    /// Whether the month is new; None if it does not fit.
    fn insert(&mut self, month: Month) -> Option<bool> {
        if self.bits == 0 {
            return None;
        }
        if month < self.first {
            let shift = (self.first.0 - month.0) as u32;
            if shift > self.bits.leading_zeros() || shift >= u64::BITS {
                return None;
            }
            *self = Span { first: month, bits: self.bits << shift | 1 };
            return Some(true);
        }
        let bit = 1u64.checked_shl((month.0 - self.first.0) as u32)?;
        let new = self.bits & bit == 0;
        self.bits |= bit;
        Some(new)
    }

    fn months(self) -> impl Iterator<Item = Month> {
        let set = move |at: &i32| self.bits >> at & 1 == 1;
        (0..u64::BITS as i32).filter(set).map(move |at| self.first.plus(at))
    }
}

fn gaps(months: impl Iterator<Item = Month>) -> (u64, u64, Option<Month>) {
    let (mut first, mut last, mut count, mut gap) = (None, None::<Month>, 0, None);
    for month in months {
        first = first.or(Some(month));
        let expected = last.map(|last| last.plus(1));
        gap = gap.or(expected.filter(|expected| *expected != month));
        last = Some(month);
        count += 1;
    }
    match (first, last) {
        (Some(first), Some(last)) => ((last.0 - first.0) as u64 + 1, count, gap),
        _ => (0, 0, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeds::Seeds;

    #[test]
    fn months_in_any_order_and_of_any_span() {
        for (span, seed) in [(5, 1), (40, 2), (64, 3), (65, 4), (400, 5)] {
            let (mut histories, mut plain) = (Histories::default(), BTreeSet::new());
            for draw in 0..200 {
                let month = Month((Seeds::new(seed).number("month", draw) % span) as i32 - 20);
                let arrival = histories.insert(7, month);
                assert_eq!(arrival.new_month, plain.insert(month), "{month:?} of {span}");
                assert_eq!(arrival.new_customer, draw == 0);
            }
            let found: Vec<_> = histories.gaps().collect();
            assert_eq!(found, [gaps(plain.iter().copied())], "{span}");
            assert_eq!(found[0].1, plain.len() as u64);
        }
        let story = [3, 1, 4, 8].map(Month);
        let mut histories = Histories::default();
        for month in story {
            histories.insert(1, month);
        }
        assert_eq!(histories.gaps().collect::<Vec<_>>(), [(8, 4, Some(Month(2)))]);
    }
}

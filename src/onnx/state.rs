//! The step form: what is kept of a customer from one month to the next, as one vector.
//!
//! It begins with the number of months so far, so that zeros are a customer before the first month.
//! The rest is whatever the model needs: the latest measures, when each was last active, the states
//! of recurrent layers.

use std::cell::RefCell;

use super::graph::{Axis, Graph, Value};
use super::proto::ElementType::{F32, I64};

/// Names of the input and the output.
pub const STATE_IN: &str = "state_in";
pub const STATE_OUT: &str = "state_out";

pub const IN_MEANING: &str = "What `state_out` was after the month before; zeros before the first \
    month of a customer.";
const OUT_MEANING: &str = "What is kept of the customer: `state_in` of the next month.";

/// A vector for each customer, `[N, S]` of 32-bit numbers.
pub struct State {
    input: Value,
    /// Months of history, this one included, `[N, 1]`.
    pub length: Value,
    /// Whether this is the first one, `[N, 1]`.
    first: Value,
    kept: RefCell<Kept>,
}

/// The parts of the next state, `[N, ..]`, and how many numbers they are.
struct Kept {
    parts: Vec<Value>,
    width: usize,
}

impl State {
    pub fn declare(g: &mut Graph) -> Self {
        let input = g.input(STATE_IN, F32, &axes(1), IN_MEANING);
        g.within("state", |g| {
            let before = g.slice(&input, 1, 0, Some(1));
            let first = g.compare_number("Equal", &before, 0.0);
            let months = g.add_number(&before, 1.0);
            let length = g.cast(&months, I64);
            let kept = RefCell::new(Kept { parts: vec![months], width: 1 });
            State { input, length, first, kept }
        })
    }

    /// Keeps `width` numbers. `next` is given those of the month before, in the first month `start`,
    /// and makes a result and the numbers of this month, `[N, width]` both times.
    pub fn carry<T>(
        &self,
        g: &mut Graph,
        (width, start): (usize, &Value),
        next: impl FnOnce(&mut Graph, &Value) -> (T, Value),
    ) -> T {
        let from = self.kept.borrow().width as i64;
        let before = g.slice(&self.input, 1, from, Some(from + width as i64));
        let before = g.choose(&self.first, start, &before);
        let (made, after) = next(g, &before);
        let mut kept = self.kept.borrow_mut();
        kept.width += width;
        kept.parts.push(after);
        made
    }

    /// Makes the next state an output, when all that is kept is known.
    pub fn finish(&self, g: &mut Graph) {
        let kept = self.kept.borrow();
        g.resize_input(STATE_IN, &axes(kept.width));
        let state = g.within("state", |g| g.concat(1, &kept.parts));
        g.output(&state, STATE_OUT, &axes(kept.width), OUT_MEANING);
    }

    pub fn width(&self) -> usize {
        self.kept.borrow().width
    }
}

fn axes(width: usize) -> [Axis; 2] {
    [Axis::Any("N"), Axis::Fixed(width)]
}

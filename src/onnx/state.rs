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
    parts: RefCell<Vec<Part>>,
}

/// Some numbers of the state, and what they are after this month.
struct Part {
    width: usize,
    next: Option<Value>,
}

/// Where the numbers of the next state go.
pub struct Slot(usize);

impl State {
    pub fn declare(g: &mut Graph) -> Self {
        let input = g.input(STATE_IN, F32, &axes(1), IN_MEANING);
        g.within("state", |g| {
            let before = g.slice(&input, 1, 0, Some(1));
            let first = g.compare_number("Equal", &before, 0.0);
            let months = g.add_number(&before, 1.0);
            let length = g.cast(&months, I64);
            let parts = RefCell::new(vec![Part { width: 1, next: Some(months) }]);
            State { input, length, first, parts }
        })
    }

    /// Numbers of the month before, `[N, width]`, in the first month `start`, and where those of this
    /// month are to be kept.
    pub fn before(&self, g: &mut Graph, width: usize, start: &Value) -> (Value, Slot) {
        let from = self.width() as i64;
        let kept = g.slice(&self.input, 1, from, Some(from + width as i64));
        let before = g.choose(&self.first, start, &kept);
        let mut parts = self.parts.borrow_mut();
        parts.push(Part { width, next: None });
        (before, Slot(parts.len() - 1))
    }

    /// `[N, width]`.
    pub fn keep(&self, Slot(at): Slot, value: &Value) {
        self.parts.borrow_mut()[at].next = Some(value.clone());
    }

    /// Makes the next state an output, when all that is kept is known.
    pub fn finish(&self, g: &mut Graph) {
        g.resize_input(STATE_IN, &axes(self.width()));
        let parts = self.parts.borrow();
        let next = parts.iter().map(|part| part.next.clone().expect("every slot is kept"));
        let next: Vec<Value> = next.collect();
        let state = g.within("state", |g| g.concat(1, &next));
        g.output(&state, STATE_OUT, &axes(self.width()), OUT_MEANING);
    }

    pub fn width(&self) -> usize {
        self.parts.borrow().iter().map(|part| part.width).sum()
    }
}

fn axes(width: usize) -> [Axis; 2] {
    [Axis::Any("N"), Axis::Fixed(width)]
}

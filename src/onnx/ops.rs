//! Operators as methods, and the few functions that ONNX lacks, composed of them.

use super::graph::{Attr, Graph, Value};
use super::proto::ElementType::{self, Bool, F32, F64, I64};

/// Below this, log(1 + x) and 1 - exp(-x) are x to eight digits, and the sum with 1 loses more.
const SMALL: f64 = 1e-8;

/// 2^27 + 1 splits a 64-bit number into halves of 26 digits each (Veltkamp 1968).
const HALVES: f64 = 134_217_729.0;

/// The end of an axis, whatever its length.
const END: i64 = i64::MAX;

impl Graph {
    /// One number as 0-dimensional constant of the type of `like`.
    pub fn scalar(&mut self, number: f64, like: ElementType) -> Value {
        match like {
            F32 => self.f32s("number", &[], &[number as f32]),
            F64 => self.f64s("number", &[], &[number]),
            _ => self.i64s("number", &[], &[number as i64]),
        }
    }

    /// Whole numbers as a vector.
    pub fn ints(&mut self, values: &[i64]) -> Value {
        self.i64s("integers", &[values.len()], values)
    }

    /// An element-wise operator of two values of one type.
    fn pair(&mut self, operator: &str, a: &Value, b: &Value) -> Value {
        assert_eq!(a.of, b.of, "{operator} of two types");
        self.op(operator, &[a, b], vec![], a.of)
    }

    fn unary(&mut self, operator: &str, x: &Value) -> Value {
        self.op(operator, &[x], vec![], x.of)
    }

    pub fn add(&mut self, a: &Value, b: &Value) -> Value {
        self.pair("Add", a, b)
    }

    pub fn sub(&mut self, a: &Value, b: &Value) -> Value {
        self.pair("Sub", a, b)
    }

    pub fn mul(&mut self, a: &Value, b: &Value) -> Value {
        self.pair("Mul", a, b)
    }

    pub fn div(&mut self, a: &Value, b: &Value) -> Value {
        self.pair("Div", a, b)
    }

    pub fn matmul(&mut self, a: &Value, b: &Value) -> Value {
        self.pair("MatMul", a, b)
    }

    /// a / b of 32-bit numbers, where a decision or a narrow bin hangs on the last bit. In 64 bits it
    /// is the same also in a runtime that multiplies with 1 / b, as tract does.
    pub fn quotient(&mut self, a: &Value, b: &Value) -> Value {
        let [a, b] = [a, b].map(|x| self.cast(x, F64));
        let quotient = self.div(&a, &b);
        self.cast(&quotient, F32)
    }

    /// a / n of 64-bit numbers, where n is a whole number below 2^26, rounded as a division rounds.
    /// tract multiplies with 1 / n, which is off in the last place for a fifth of all a; where equal
    /// numbers cancel behind it, 1e-16 comes out in place of 0, on the other side of a tree's
    /// threshold. So the remainder, which is exact (Dekker 1971), corrects the quotient.
    pub fn quotient_by_count(&mut self, a: &Value, n: &Value) -> Value {
        let quotient = self.div(a, n);
        let scaled = self.mul_number(&quotient, HALVES);
        let high = self.sub(&scaled, &quotient);
        let high = self.sub(&scaled, &high);
        let low = self.sub(&quotient, &high);
        let [high, low] = [high, low].map(|part| self.mul(&part, n));
        let remainder = self.sub(a, &high);
        let remainder = self.sub(&remainder, &low);
        let missing = self.div(&remainder, n);
        self.add(&quotient, &missing)
    }

    pub fn add_number(&mut self, x: &Value, number: f64) -> Value {
        let number = self.scalar(number, x.of);
        self.add(x, &number)
    }

    pub fn mul_number(&mut self, x: &Value, number: f64) -> Value {
        let number = self.scalar(number, x.of);
        self.mul(x, &number)
    }

    pub fn div_number(&mut self, x: &Value, number: f64) -> Value {
        let number = self.scalar(number, x.of);
        self.div(x, &number)
    }

    /// Remainder of whole numbers that are not negative.
    pub fn modulo(&mut self, x: &Value, number: i64) -> Value {
        let number = self.i64s("number", &[], &[number]);
        self.pair("Mod", x, &number)
    }

    /// Element-wise, from left to right.
    pub fn sum(&mut self, values: &[Value]) -> Value {
        self.variadic("Sum", values)
    }

    /// The least, or the largest, of several values, element by element.
    pub fn least(&mut self, values: &[Value]) -> Value {
        self.variadic("Min", values)
    }

    pub fn most(&mut self, values: &[Value]) -> Value {
        self.variadic("Max", values)
    }

    fn variadic(&mut self, operator: &str, values: &[Value]) -> Value {
        let of = values[0].of;
        assert!(values.iter().all(|value| value.of == of), "{operator} of several types");
        if let [only] = values {
            return only.clone();
        }
        self.op(operator, &values.iter().collect::<Vec<_>>(), vec![], of)
    }

    pub fn relu(&mut self, x: &Value) -> Value {
        self.unary("Relu", x)
    }

    pub fn tanh(&mut self, x: &Value) -> Value {
        self.unary("Tanh", x)
    }

    pub fn sigmoid(&mut self, x: &Value) -> Value {
        self.unary("Sigmoid", x)
    }

    pub fn neg(&mut self, x: &Value) -> Value {
        self.unary("Neg", x)
    }

    pub fn abs(&mut self, x: &Value) -> Value {
        self.unary("Abs", x)
    }

    pub fn sqrt(&mut self, x: &Value) -> Value {
        self.unary("Sqrt", x)
    }

    pub fn exp(&mut self, x: &Value) -> Value {
        self.unary("Exp", x)
    }

    pub fn log(&mut self, x: &Value) -> Value {
        self.unary("Log", x)
    }

    pub fn sign(&mut self, x: &Value) -> Value {
        self.unary("Sign", x)
    }

    /// In 32 bits, since tract knows it of those only.
    pub fn is_nan(&mut self, x: &Value) -> Value {
        let x = self.cast(x, F32);
        self.op("IsNaN", &[&x], vec![], Bool)
    }

    pub fn not(&mut self, x: &Value) -> Value {
        self.unary("Not", x)
    }

    pub fn and(&mut self, a: &Value, b: &Value) -> Value {
        self.pair("And", a, b)
    }

    /// `operator` is Greater, GreaterOrEqual, Less, LessOrEqual or Equal.
    pub fn compare(&mut self, operator: &str, a: &Value, b: &Value) -> Value {
        assert_eq!(a.of, b.of, "{operator} of two types");
        self.op(operator, &[a, b], vec![], Bool)
    }

    pub fn compare_number(&mut self, operator: &str, x: &Value, number: f64) -> Value {
        let number = self.scalar(number, x.of);
        self.compare(operator, x, &number)
    }

    /// `yes` where the condition holds, else `no`.
    pub fn choose(&mut self, condition: &Value, yes: &Value, no: &Value) -> Value {
        assert_eq!(yes.of, no.of, "a choice of two types");
        self.op("Where", &[condition, yes, no], vec![], yes.of)
    }

    /// A number where the condition holds.
    pub fn number_where(&mut self, condition: &Value, number: f64, no: &Value) -> Value {
        let number = self.scalar(number, no.of);
        self.choose(condition, &number, no)
    }

    pub fn cast(&mut self, x: &Value, to: ElementType) -> Value {
        match x.of == to {
            true => x.clone(),
            false => self.op("Cast", &[x], vec![("to", Attr::Int(to as i64))], to),
        }
    }

    /// Within 0 and 1.
    pub fn unit(&mut self, x: &Value) -> Value {
        let (low, high) = (self.scalar(0.0, x.of), self.scalar(1.0, x.of));
        self.op("Clip", &[x, &low, &high], vec![], x.of)
    }

    pub fn concat(&mut self, axis: i64, values: &[Value]) -> Value {
        if let [only] = values {
            return only.clone();
        }
        let of = values[0].of;
        assert!(values.iter().all(|value| value.of == of), "joined values of several types");
        let axis = vec![("axis", Attr::Int(axis))];
        self.op("Concat", &values.iter().collect::<Vec<_>>(), axis, of)
    }

    /// `[from, to)` of an axis; negative numbers count from its end, and `None` is the end.
    pub fn slice(&mut self, x: &Value, axis: i64, from: i64, to: Option<i64>) -> Value {
        let bounds = [from, to.unwrap_or(END), axis].map(|bound| self.ints(&[bound]));
        let [from, to, axis] = &bounds;
        self.op("Slice", &[x, from, to, axis], vec![], x.of)
    }

    pub fn gather(&mut self, table: &Value, at: &Value, axis: i64) -> Value {
        self.op("Gather", &[table, at], vec![("axis", Attr::Int(axis))], table.of)
    }

    /// 0 keeps an axis, -1 is what is left.
    pub fn reshape(&mut self, x: &Value, dims: &[i64]) -> Value {
        let dims = self.ints(dims);
        self.op("Reshape", &[x, &dims], vec![], x.of)
    }

    pub fn unsqueeze(&mut self, x: &Value, axes: &[i64]) -> Value {
        let axes = self.ints(axes);
        self.op("Unsqueeze", &[x, &axes], vec![], x.of)
    }

    pub fn squeeze(&mut self, x: &Value, axes: &[i64]) -> Value {
        let axes = self.ints(axes);
        self.op("Squeeze", &[x, &axes], vec![], x.of)
    }

    pub fn transpose(&mut self, x: &Value, order: &[i64]) -> Value {
        self.op("Transpose", &[x], vec![("perm", Attr::Ints(order.to_vec()))], x.of)
    }

    /// Puts `count` times a number before the first place of axis 1 of a value of three axes.
    pub fn pad_before(&mut self, x: &Value, count: usize, number: f64) -> Value {
        let pads = self.ints(&[0, count as i64, 0, 0, 0, 0]);
        let number = self.scalar(number, x.of);
        self.op("Pad", &[x, &pads, &number], vec![("mode", Attr::Text("constant"))], x.of)
    }

    /// Over one axis, which keeps its place with length 1.
    pub fn reduce_sum(&mut self, x: &Value, axis: i64) -> Value {
        let axes = self.ints(&[axis]);
        self.op("ReduceSum", &[x, &axes], vec![("keepdims", Attr::Int(1))], x.of)
    }

    pub fn reduce_max(&mut self, x: &Value, axis: i64) -> Value {
        self.reduce("ReduceMax", x, axis)
    }

    pub fn reduce_mean(&mut self, x: &Value, axis: i64) -> Value {
        self.reduce("ReduceMean", x, axis)
    }

    fn reduce(&mut self, operator: &str, x: &Value, axis: i64) -> Value {
        let attributes = vec![("axes", Attr::Ints(vec![axis])), ("keepdims", Attr::Int(1))];
        self.op(operator, &[x], attributes, x.of)
    }

    /// Sums from the beginning of an axis.
    pub fn cumulative_sum(&mut self, x: &Value, axis: i64) -> Value {
        let axis = self.i64s("number", &[], &[axis]);
        self.op("CumSum", &[x, &axis], vec![], x.of)
    }

    /// Length of an axis, 0-dimensional.
    pub fn length(&mut self, x: &Value, axis: i64) -> Value {
        let shape = self.op("Shape", &[x], vec![], I64);
        let axis = self.i64s("number", &[], &[axis]);
        self.gather(&shape, &axis, 0)
    }

    /// Zeros `[N, 1]` of 32-bit numbers for a value of N rows.
    pub fn zero_column(&mut self, like: &Value) -> Value {
        self.zeros(like, 1)
    }

    /// Zeros `[N, width]`.
    pub fn zeros(&mut self, like: &Value, width: usize) -> Value {
        let shape = self.op("Shape", &[like], vec![], I64);
        let rows = self.slice(&shape, 0, 0, Some(1));
        let width = self.ints(&[width as i64]);
        let shape = self.concat(0, &[rows, width]);
        let zero = self.scalar(0.0, F32);
        self.op("Expand", &[&zero, &shape], vec![], F32)
    }

    /// log(1 + x) of 64-bit numbers above -1.
    pub fn log_1p(&mut self, x: &Value) -> Value {
        self.within("log_1p", |g| {
            let size = g.abs(x);
            let small = g.compare_number("Less", &size, SMALL);
            let sum = g.add_number(x, 1.0);
            let log = g.log(&sum);
            g.choose(&small, x, &log)
        })
    }

    /// 1 - exp(-x) of 64-bit numbers that are not negative.
    pub fn one_minus_exp(&mut self, x: &Value) -> Value {
        self.within("one_minus_exp", |g| {
            let small = g.compare_number("Less", x, SMALL);
            let falling = g.neg(x);
            let falling = g.exp(&falling);
            let one = g.scalar(1.0, F64);
            let rest = g.sub(&one, &falling);
            g.choose(&small, x, &rest)
        })
    }
}

//! A graph that grows node by node: typed values, readable names, constants that are shared.
//!
//! Nodes are named `scope/Operator`, where scopes say what is computed (`months/delta/Sub`), so that
//! a viewer shows the model as it is described. A value can only be used after the call that made
//! it, so that nodes stand in the order in which they can run.

use std::collections::{BTreeSet, HashMap};

use super::proto::{
    Attribute, AttributeKind, ElementType, Extent, GraphDef, Message, Model, Node, OperatorSet,
    Property, TensorDef, TensorType, ValueInfo,
};

/// Of the file format: the first with operator set 15, which all runtimes of today read.
const IR_VERSION: i64 = 8;

/// Operators of ai.onnx. 17 is the last where reductions take axes as attributes, which tract and
/// older runtimes want; nothing newer is needed.
pub const OPSET: i64 = 17;

/// Operators of ai.onnx.ml: category look-up and trees.
pub const OPSET_ML: i64 = 3;

/// The domain of [`OPSET_ML`].
pub const ML: &str = "ai.onnx.ml";

/// A tensor of the graph, by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    name: String,
    pub of: ElementType,
}

/// Extent of an axis of an input or output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    Fixed(usize),
    /// Any, but the same in all inputs: `N` rows, `T` months.
    Any(&'static str),
}

impl Axis {
    fn extent(&self) -> Extent {
        match self {
            Axis::Fixed(size) => Extent::Fixed(*size as i64),
            Axis::Any(name) => Extent::Named((*name).to_owned()),
        }
    }
}

/// A value of an operator's attribute.
pub enum Attr<'a> {
    Int(i64),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Text(&'a str),
    Texts(Vec<String>),
}

/// What an operator is called with.
pub struct Call<'a> {
    pub operator: &'a str,
    pub domain: &'a str,
    pub inputs: &'a [Option<&'a Value>],
    pub attributes: Vec<(&'a str, Attr<'a>)>,
    /// Element types of the outputs.
    pub outputs: &'a [ElementType],
}

#[derive(Debug, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    constants: Vec<TensorDef>,
    inputs: Vec<ValueInfo>,
    outputs: Vec<ValueInfo>,
    scope: Vec<String>,
    taken: BTreeSet<String>,
    /// How often each name was asked for.
    counts: HashMap<String, u32>,
    /// Constants by contents.
    shared: HashMap<(i32, Vec<i64>, Vec<u8>), Value>,
}

impl Graph {
    /// What is made inside is named under `scope`.
    pub fn within<T>(&mut self, scope: &str, make: impl FnOnce(&mut Self) -> T) -> T {
        self.scope.push(scope.to_owned());
        let made = make(self);
        self.scope.pop();
        made
    }

    /// Declares an input. It is dropped from the model if nothing reads it.
    pub fn input(&mut self, name: &str, of: ElementType, axes: &[Axis], doc: &str) -> Value {
        self.taken.insert(name.to_owned());
        self.inputs.push(info(name, of, axes, doc));
        Value { name: name.to_owned(), of }
    }

    /// Changes the axes of an input that was declared before they were known.
    pub fn resize_input(&mut self, name: &str, axes: &[Axis]) {
        let input = self.inputs.iter_mut().find(|input| input.name == name);
        let input = input.expect("an input that was declared");
        input.of.shape = axes.iter().map(Axis::extent).collect();
    }

    /// Makes a value an output under its final name.
    pub fn output(&mut self, value: &Value, name: &str, axes: &[Axis], doc: &str) {
        assert!(self.taken.insert(name.to_owned()), "{name} is the name of another value");
        self.nodes.push(Node {
            input: vec![value.name.clone()],
            output: vec![name.to_owned()],
            name: format!("{name}/Identity"),
            op_type: "Identity".into(),
            ..Node::default()
        });
        self.outputs.push(info(name, value.of, axes, doc));
    }

    /// Adds a node.
    pub fn call(&mut self, call: Call) -> Vec<Value> {
        let name = self.fresh(call.operator);
        let output = |at: usize| if at == 0 { name.clone() } else { format!("{name}_out{at}") };
        let outputs: Vec<Value> = (call.outputs.iter().enumerate())
            .map(|(at, &of)| Value { name: output(at), of })
            .collect();
        let text = |input: &Option<&Value>| input.map_or(String::new(), |v| v.name.clone());
        self.nodes.push(Node {
            input: call.inputs.iter().map(text).collect(),
            output: outputs.iter().map(|value| value.name.clone()).collect(),
            name,
            op_type: call.operator.to_owned(),
            attribute: call.attributes.into_iter().map(attribute).collect(),
            domain: call.domain.to_owned(),
        });
        outputs
    }

    /// Adds a node of ai.onnx with one output.
    pub fn op(
        &mut self,
        operator: &str,
        inputs: &[&Value],
        attributes: Vec<(&str, Attr)>,
        of: ElementType,
    ) -> Value {
        let inputs: Vec<Option<&Value>> = inputs.iter().map(|&value| Some(value)).collect();
        let call = Call { operator, domain: "", inputs: &inputs, attributes, outputs: &[of] };
        self.call(call).remove(0)
    }

    /// A constant of 32-bit numbers.
    pub fn f32s(&mut self, name: &str, dims: &[usize], values: &[f32]) -> Value {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, ElementType::F32, (dims, values.len()), bytes)
    }

    pub fn f64s(&mut self, name: &str, dims: &[usize], values: &[f64]) -> Value {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, ElementType::F64, (dims, values.len()), bytes)
    }

    pub fn i64s(&mut self, name: &str, dims: &[usize], values: &[i64]) -> Value {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, ElementType::I64, (dims, values.len()), bytes)
    }

    pub fn bools(&mut self, name: &str, dims: &[usize], values: &[bool]) -> Value {
        let bytes = values.iter().map(|&value| u8::from(value)).collect();
        self.constant(name, ElementType::Bool, (dims, values.len()), bytes)
    }

    /// The same contents are stored once.
    fn constant(
        &mut self,
        name: &str,
        of: ElementType,
        (dims, count): (&[usize], usize),
        bytes: Vec<u8>,
    ) -> Value {
        assert_eq!(dims.iter().product::<usize>(), count, "{name}: a value for every place");
        let dims: Vec<i64> = dims.iter().map(|&dim| dim as i64).collect();
        let key = (of as i32, dims.clone(), bytes.clone());
        if let Some(value) = self.shared.get(&key) {
            return value.clone();
        }
        let value = Value { name: self.fresh(name), of };
        self.constants.push(TensorDef {
            dims,
            data_type: of,
            name: value.name.clone(),
            raw_data: bytes,
        });
        self.shared.insert(key, value.clone());
        value
    }

    fn fresh(&mut self, last: &str) -> String {
        let mut name = self.scope.join("/");
        if !name.is_empty() {
            name.push('/');
        }
        name.push_str(last);
        let mut unique = name.clone();
        while self.taken.contains(&unique) {
            let count = self.counts.entry(name.clone()).or_insert(1);
            *count += 1;
            unique = format!("{name}_{count}");
        }
        self.taken.insert(unique.clone());
        unique
    }

    /// The bytes of the model, and the names of the inputs that it reads, in their order.
    pub fn finish(mut self, name: &str, doc: &str, facts: &[(&str, String)]) -> Finished {
        let read: BTreeSet<&String> = self.nodes.iter().flat_map(|node| &node.input).collect();
        self.inputs.retain(|input| read.contains(&input.name));
        let inputs = self.inputs.iter().map(|input| input.name.clone()).collect();
        let nodes = self.nodes.len();
        let set = |domain: &str, version| OperatorSet { domain: domain.to_owned(), version };
        let property = |(key, value): &(&str, String)| Property {
            key: (*key).to_owned(),
            value: value.clone(),
        };
        let model = Model {
            ir_version: IR_VERSION,
            producer_name: "churn".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            doc_string: doc.to_owned(),
            graph: GraphDef {
                node: self.nodes,
                name: name.to_owned(),
                initializer: self.constants,
                input: self.inputs,
                output: self.outputs,
            },
            opset_import: vec![set("", OPSET), set(ML, OPSET_ML)],
            metadata_props: facts.iter().map(property).collect(),
        };
        Finished { bytes: model.to_bytes(), inputs, nodes }
    }

    /// The inputs that some node reads so far.
    pub fn read_inputs(&self) -> BTreeSet<&str> {
        let read: BTreeSet<&str> =
            self.nodes.iter().flat_map(|node| &node.input).map(String::as_str).collect();
        let names = self.inputs.iter().map(|input| input.name.as_str());
        names.filter(|name| read.contains(name)).collect()
    }
}

/// A model as a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    pub bytes: Vec<u8>,
    pub inputs: Vec<String>,
    pub nodes: usize,
}

fn info(name: &str, of: ElementType, axes: &[Axis], doc: &str) -> ValueInfo {
    let shape = axes.iter().map(Axis::extent).collect();
    ValueInfo {
        name: name.to_owned(),
        of: TensorType { element: of, shape },
        doc_string: doc.to_owned(),
    }
}

fn attribute((name, value): (&str, Attr)) -> Attribute {
    let mut attribute = Attribute { name: name.to_owned(), ..Attribute::default() };
    let kind = match value {
        Attr::Int(value) => {
            attribute.i = Some(value);
            AttributeKind::Int
        }
        Attr::Text(value) => {
            attribute.s = Some(value.as_bytes().to_vec());
            AttributeKind::Text
        }
        Attr::Ints(values) => {
            attribute.ints = values;
            AttributeKind::Ints
        }
        Attr::Floats(values) => {
            attribute.floats = values;
            AttributeKind::Floats
        }
        Attr::Texts(values) => {
            attribute.strings = values.into_iter().map(String::into_bytes).collect();
            AttributeKind::Texts
        }
    };
    attribute.kind = Some(kind);
    attribute
}

//! The messages of ONNX that a model of ours needs, with the field numbers of `onnx.proto` (IR
//! version 8), on the wire format of prost. Fields that we never write are left out, which the
//! format allows.

use prost::encoding::{self, WireType};

/// A message that can be written.
pub trait Message {
    fn write(&self, out: &mut Vec<u8>);

    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }
}

fn text(tag: u32, text: &str, out: &mut Vec<u8>) {
    if !text.is_empty() {
        bytes(tag, text.as_bytes(), out);
    }
}

fn bytes(tag: u32, bytes: &[u8], out: &mut Vec<u8>) {
    encoding::encode_key(tag, WireType::LengthDelimited, out);
    encoding::encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn integer(tag: u32, number: i64, out: &mut Vec<u8>) {
    encoding::int64::encode(tag, &number, out);
}

fn message(tag: u32, message: &impl Message, out: &mut Vec<u8>) {
    bytes(tag, &message.to_bytes(), out);
}

fn messages(tag: u32, all: &[impl Message], out: &mut Vec<u8>) {
    all.iter().for_each(|one| message(tag, one, out));
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Model {
    pub ir_version: i64,
    pub producer_name: String,
    pub producer_version: String,
    pub doc_string: String,
    pub graph: GraphDef,
    pub opset_import: Vec<OperatorSet>,
    pub metadata_props: Vec<Property>,
}

impl Message for Model {
    fn write(&self, out: &mut Vec<u8>) {
        integer(1, self.ir_version, out);
        text(2, &self.producer_name, out);
        text(3, &self.producer_version, out);
        text(6, &self.doc_string, out);
        message(7, &self.graph, out);
        messages(8, &self.opset_import, out);
        messages(14, &self.metadata_props, out);
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct OperatorSet {
    pub domain: String,
    pub version: i64,
}

impl Message for OperatorSet {
    fn write(&self, out: &mut Vec<u8>) {
        text(1, &self.domain, out);
        integer(2, self.version, out);
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Property {
    pub key: String,
    pub value: String,
}

impl Message for Property {
    fn write(&self, out: &mut Vec<u8>) {
        text(1, &self.key, out);
        text(2, &self.value, out);
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct GraphDef {
    pub node: Vec<Node>,
    pub name: String,
    pub initializer: Vec<TensorDef>,
    pub input: Vec<ValueInfo>,
    pub output: Vec<ValueInfo>,
}

impl Message for GraphDef {
    fn write(&self, out: &mut Vec<u8>) {
        messages(1, &self.node, out);
        text(2, &self.name, out);
        messages(5, &self.initializer, out);
        messages(11, &self.input, out);
        messages(12, &self.output, out);
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Node {
    pub input: Vec<String>,
    pub output: Vec<String>,
    pub name: String,
    pub op_type: String,
    pub attribute: Vec<Attribute>,
    pub domain: String,
}

impl Message for Node {
    fn write(&self, out: &mut Vec<u8>) {
        // An input that is left out is an empty text, which must be there.
        self.input.iter().for_each(|name| bytes(1, name.as_bytes(), out));
        self.output.iter().for_each(|name| bytes(2, name.as_bytes(), out));
        text(3, &self.name, out);
        text(4, &self.op_type, out);
        messages(5, &self.attribute, out);
        text(7, &self.domain, out);
    }
}

/// Its value stands in the field that `kind` tells. Optional fields are written even where they
/// are zero, since a reader of proto2 asks whether they are there.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Attribute {
    pub name: String,
    pub i: Option<i64>,
    pub s: Option<Vec<u8>>,
    pub floats: Vec<f32>,
    pub ints: Vec<i64>,
    pub strings: Vec<Vec<u8>>,
    pub kind: Option<AttributeKind>,
}

impl Message for Attribute {
    fn write(&self, out: &mut Vec<u8>) {
        text(1, &self.name, out);
        if let Some(number) = self.i {
            integer(3, number, out);
        }
        if let Some(text) = &self.s {
            bytes(4, text, out);
        }
        encoding::float::encode_packed(7, &self.floats, out);
        encoding::int64::encode_packed(8, &self.ints, out);
        self.strings.iter().for_each(|text| bytes(9, text, out));
        if let Some(kind) = self.kind {
            integer(20, kind as i64, out);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum AttributeKind {
    Int = 2,
    Text = 3,
    Floats = 6,
    Ints = 7,
    Texts = 8,
}

#[derive(Debug, Clone, PartialEq)]
pub struct TensorDef {
    pub dims: Vec<i64>,
    pub data_type: ElementType,
    pub name: String,
    /// Little endian.
    pub raw_data: Vec<u8>,
}

impl Message for TensorDef {
    fn write(&self, out: &mut Vec<u8>) {
        encoding::int64::encode_packed(1, &self.dims, out);
        integer(2, self.data_type as i64, out);
        text(8, &self.name, out);
        bytes(9, &self.raw_data, out);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum ElementType {
    F32 = 1,
    I64 = 7,
    Text = 8,
    Bool = 9,
    F64 = 11,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ValueInfo {
    pub name: String,
    pub of: TensorType,
    pub doc_string: String,
}

impl Message for ValueInfo {
    fn write(&self, out: &mut Vec<u8>) {
        text(1, &self.name, out);
        message(2, &self.of, out);
        text(3, &self.doc_string, out);
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct TensorType {
    pub element: ElementType,
    pub shape: Vec<Extent>,
}

/// Wrapped as the tensor case of a type, and its shape as a list of dimensions.
impl Message for TensorType {
    fn write(&self, out: &mut Vec<u8>) {
        let (mut tensor, mut shape) = (Vec::new(), Vec::new());
        integer(1, self.element as i64, &mut tensor);
        messages(1, &self.shape, &mut shape);
        bytes(2, &shape, &mut tensor);
        bytes(1, &tensor, out);
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Extent {
    Fixed(i64),
    /// By name, the same wherever the name is the same.
    Named(String),
}

impl Message for Extent {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Extent::Fixed(size) => integer(1, *size, out),
            Extent::Named(name) => text(2, name, out),
        }
    }
}

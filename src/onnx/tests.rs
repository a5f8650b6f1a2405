use super::graph::{Axis, Graph, OPSET};
use super::proto::ElementType::{F32, Text};
use super::proto::{Attribute, AttributeKind, Message, OperatorSet};
use super::*;

#[test]
fn names_are_unique_and_constants_shared() {
    let mut g = Graph::default();
    let x = g.input("months/Add", F32, &[Axis::Any("N")], "");
    let values = g.within("months", |g| {
        let one = g.add_number(&x, 1.0);
        let same = g.add_number(&one, 1.0);
        [one, same]
    });
    g.output(&values[1], "risk", &[Axis::Any("N")], "");
    let unread = g.input("unread", Text, &[Axis::Any("N")], "");
    assert_eq!(unread.of, Text);
    let text = String::from_utf8_lossy(&g.finish("g", "", &[]).bytes).into_owned();
    for (part, times) in [("months/number", 3), ("months/Add_2", 3), ("unread", 0)] {
        assert_eq!(text.matches(part).count(), times, "{part}");
    }
}

#[test]
fn what_nothing_reads_is_no_input() {
    let mut g = Graph::default();
    let x = g.input("x", F32, &[Axis::Any("N")], "");
    g.input("y", F32, &[Axis::Any("N")], "");
    let y = g.relu(&x);
    g.output(&y, "risk", &[Axis::Any("N")], "");
    assert_eq!(g.read_inputs().into_iter().collect::<Vec<_>>(), ["x"]);
    assert_eq!(g.finish("g", "", &[]).inputs, ["x"]);
}

/// Bytes as `protoc --encode` writes them for the same messages of onnx.proto.
#[test]
fn messages_are_those_of_the_format() {
    let set = OperatorSet { domain: "ai.onnx.ml".into(), version: OPSET };
    assert_eq!(set.to_bytes(), b"\x0a\x0aai.onnx.ml\x10\x11");
    let zero = Attribute {
        name: "axis".into(),
        i: Some(0),
        kind: Some(AttributeKind::Int),
        ..Attribute::default()
    };
    // The zero is there, since a reader of proto2 asks for it.
    assert_eq!(zero.to_bytes(), b"\x0a\x04axis\x18\x00\xa0\x01\x02");
    let many = Attribute {
        name: "p".into(),
        ints: vec![1, -1],
        kind: Some(AttributeKind::Ints),
        ..Attribute::default()
    };
    let minus_one = b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
    let expected = [&b"\x0a\x01p\x42\x0b\x01"[..], minus_one, b"\xa0\x01\x07"].concat();
    assert_eq!(many.to_bytes(), expected);
}

#[test]
fn a_signature_has_a_name() {
    for signature in [Signature::Columns, Signature::Matrix, Signature::Step] {
        assert_eq!(signature.name().parse(), Ok(signature));
    }
    assert!("rows".parse::<Signature>().is_err());
}

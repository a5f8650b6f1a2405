//! The few protocol-buffer messages of a TensorBoard event file, encoded by hand.
//!
//! tensorboard-rs holds the generated types but does not re-export them, and what it offers
//! through its writers has no hyper-parameters (`unimplemented!()`). Field numbers are those of
//! `tensorboard/compat/proto/{event,summary,tensor,types}.proto` and
//! `tensorboard/plugins/hparams/plugin_data.proto` (TensorBoard 2.21); the tests hold the bytes
//! equal to what Python's TensorBoard writes.

/// One message; fields are appended in the order of the calls.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Message(Vec<u8>);

/// Wire types: how a field's value is laid out.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

impl Message {
    fn varint(mut self, mut value: u64) -> Self {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }

    fn key(self, field: u64, wire: u64) -> Self {
        self.varint(field << 3 | wire)
    }

    fn integer(self, field: u64, value: u64) -> Self {
        self.key(field, VARINT).varint(value)
    }

    fn double(self, field: u64, value: f64) -> Self {
        self.key(field, FIXED64).raw(&value.to_le_bytes())
    }

    fn float(self, field: u64, value: f32) -> Self {
        self.key(field, FIXED32).raw(&value.to_le_bytes())
    }

    fn bytes(self, field: u64, value: &[u8]) -> Self {
        self.key(field, BYTES).varint(value.len() as u64).raw(value)
    }

    fn text(self, field: u64, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    fn message(self, field: u64, value: Message) -> Self {
        self.bytes(field, &value.0)
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
}

/// The first record of every file.
pub fn version_event(wall_s: f64) -> Vec<u8> {
    event(wall_s, 0).text(3, "brain.Event:2").0
}

/// One point of a curve.
pub fn scalar_event(wall_s: f64, step: u64, name: &str, value: f32) -> Vec<u8> {
    let value = Message::default().text(1, name).float(2, value);
    event(wall_s, step).message(5, Message::default().message(1, value)).0
}

/// The settings of a training, for the page "HPARAMS"; texts that are numbers become numbers,
/// so that they can be sorted there.
pub fn hparams_event(wall_s: f64, pairs: &[(String, String)]) -> Vec<u8> {
    let settings = pairs.iter().fold(Message::default(), |message, (name, value)| {
        let value = match value.parse::<f64>() {
            Ok(number) if number.is_finite() => Message::default().double(2, number),
            _ => match value.as_str() {
                "true" => Message::default().integer(4, 1),
                "false" => Message::default().integer(4, 0),
                text => Message::default().text(3, text),
            },
        };
        message.message(1, Message::default().text(1, name).message(2, value))
    });
    // SessionStartInfo inside HParamsPluginData inside SummaryMetadata.PluginData.
    let content = Message::default().message(3, settings.double(5, wall_s));
    let plugin = Message::default().text(1, "hparams").message(2, content);
    // An empty float tensor of shape [0]: a value must hold something, and this one holds nothing.
    let nothing = Message::default().integer(1, 1).message(2, Message::default().bytes(2, &[]));
    let value = Message::default()
        .text(1, "_hparams_/session_start_info")
        .message(8, nothing)
        .message(9, Message::default().message(1, plugin));
    event(wall_s, 0).message(5, Message::default().message(1, value)).0
}

fn event(wall_s: f64, step: u64) -> Message {
    let message = Message::default().double(1, wall_s);
    // Like every protocol-buffer writer: a zero is left out.
    if step == 0 { message } else { message.integer(2, step) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsx::hex;

    /// Golden bytes: `SerializeToString()` of the same messages in Python (TensorBoard 2.21).
    #[test]
    fn the_bytes_are_those_of_tensorboard() {
        assert_eq!(hex(&version_event(1.5)), "09000000000000f83f1a0d627261696e2e4576656e743a32");
        assert_eq!(
            hex(&scalar_event(1.5, 300, "loss", 0.25)),
            "09000000000000f83f10ac022a0d0a0b0a046c6f7373150000803e"
        );
        let pairs = [("lr".to_owned(), "0.5".to_owned()), ("model".to_owned(), "mlp".to_owned())];
        assert_eq!(
            hex(&hparams_event(1.5, &pairs)),
            "09000000000000f83f2a630a610a1c5f68706172616d735f2f73657373696f6e5f73746172745f696e666f42060801120212004a390a370a0768706172616d73122c1a2a0a0f0a026c72120911000000000000e03f0a0e0a056d6f64656c12051a036d6c7029000000000000f83f"
        );
    }
}

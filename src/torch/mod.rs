//! A bundle's networks as one safetensors file with the names and the layout of PyTorch, and all
//! that is needed to compute a risk with them beside: features, architectures, calibration.
//!
//! `scripts/interop/torch_model.py` is the other side: the same architectures as PyTorch modules
//! whose `load_state_dict` takes the file as it is.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::bundle::{Contents, Form, Identity, Learned, Member};
use crate::config::ModelKind;
use crate::error::{Kind, Result};
use crate::features::derive::{Layout, column};
use crate::nn::params::{self, HostTensor, Parameters};
use crate::panel::{AttributeCells, Panel, RawCustomer};

/// The metadata's only key: a map of several has no order, and the same contents give the same
/// bytes.
pub const FACTS: &str = "churn";

/// Raised when a reader of the old facts would misread the new ones.
const FORMAT_VERSION: u32 = 1;

/// A model as a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    pub bytes: Vec<u8>,
    pub tensors: usize,
}

/// Makes the file. Names begin with the member's: `gru.head.weight`.
///
/// # Errors
/// [`Kind::Usage`] for a model that is not made of networks alone; [`Kind::Corrupt`] if the
/// contents do not fit together.
pub fn export(contents: &Contents, identity: Identity) -> Result<Exported> {
    let model = &contents.model;
    let mut tensors = Parameters::new();
    let mut members = Vec::new();
    for (member, learned) in model.members.iter().zip(&contents.learned) {
        let (Form::Network { architecture, log_odds_shift }, Learned::Network(parameters)) =
            (&member.form, learned)
        else {
            return Err(no_network(member));
        };
        for (name, tensor) in parameters {
            let (name, tensor) = in_torch(architecture.kind, name, tensor)?;
            tensors.insert(format!("{}.{name}", member.name), tensor);
        }
        members.push(json!({
            "name": member.name,
            "weight": member.weight,
            "log_odds_shift": log_odds_shift,
            "architecture": architecture,
        }));
    }
    let facts = json!({
        "format_version": FORMAT_VERSION,
        "bundle_id": identity.bundle_id,
        "model": identity.model,
        "members": members,
        "calibrator": model.calibrator,
        "label": model.label,
        "columns": columns(contents)?,
        "features": contents.features,
    });
    let metadata = BTreeMap::from([(FACTS.to_owned(), facts.to_string())]);
    let bytes = params::to_safetensors_with(&tensors, metadata)?;
    Ok(Exported { bytes, tensors: tensors.len() })
}

fn no_network(member: &Member) -> crate::error::Error {
    let what = format!("`{}` is no network, and PyTorch holds networks alone", member.name);
    Kind::Usage.msg(what).hint(
        "train with models.champion = \"mlp\", \"gru\" or \"hybrid\", or export --format onnx, \
         which holds every model",
    )
}

/// A parameter as PyTorch calls it and lays it out. Linear layers are `[out, in]` there, ours
/// `[in, out]`; gates stand in the order r, z, n in both.
fn in_torch(kind: ModelKind, name: &str, tensor: &HostTensor) -> Result<(String, HostTensor)> {
    let as_it_is = |name: String| Ok((name, tensor.clone()));
    let turned = |name: String| Ok((name, transposed(tensor)?));
    let parts: Vec<&str> = name.split('.').collect();
    match parts[..] {
        [.., "pieces", _] | [.., "embeddings", _, "weight"] | ["scale", _] => {
            as_it_is(name.to_owned())
        }
        // A layer of each member's own, `[members K, in]` here as well.
        ["head", _] if matches!(kind, ModelKind::Static | ModelKind::Mlp) => {
            as_it_is(name.to_owned())
        }
        ["stack", "layers", layer, "input_weight"] => turned(format!("gru.weight_ih_l{layer}")),
        ["stack", "layers", layer, "hidden_weight"] => turned(format!("gru.weight_hh_l{layer}")),
        ["stack", "layers", layer, "input_bias"] => as_it_is(format!("gru.bias_ih_l{layer}")),
        ["stack", "layers", layer, "hidden_bias"] => as_it_is(format!("gru.bias_hh_l{layer}")),
        [.., "gamma"] => as_it_is(name.replace(".gamma", ".weight")),
        [.., "beta"] => as_it_is(name.replace(".beta", ".bias")),
        [.., "weight"] => turned(name.to_owned()),
        [.., "bias"] => as_it_is(name.to_owned()),
        _ => Err(Kind::Corrupt.msg(format!("the network has an unknown parameter `{name}`"))),
    }
}

fn transposed(tensor: &HostTensor) -> Result<HostTensor> {
    let [rows, columns] = tensor.shape[..] else {
        return Err(Kind::Corrupt.msg("a layer's weight is no matrix"));
    };
    let of_column = |column| (0..rows).map(move |row| row * columns + column);
    let values = (0..columns).flat_map(of_column).map(|at| tensor.values[at]).collect();
    Ok(HostTensor { shape: vec![columns, rows], values })
}

/// Which columns the features are made of, in their order.
fn columns(contents: &Contents) -> Result<Value> {
    let (model, fitted) = (&contents.model, &contents.features);
    let dated = model.intake.sources.iter().any(|source| source.time.is_some());
    let nobody = RawCustomer::nobody(dated, &fitted.measures);
    let panel = Panel::from_raw(&[nobody], &model.intake)?;
    let layout: Layout = fitted.check(&panel)?;
    let of = |places: &[(usize, usize)]| -> Vec<Value> {
        let describe = |&at: &(usize, usize)| {
            let (table, column) = column(&panel, at);
            let date = matches!(column.cells, AttributeCells::Date(_));
            json!({ "source": table.source, "name": column.name, "date": date })
        };
        places.iter().map(describe).collect()
    };
    Ok(json!({
        "dated": dated,
        "calendar": layout.calendar,
        "measures": fitted.measures,
        "static_numbers": of(&layout.static_numbers),
        "static_categories": of(&layout.static_categories),
        "dated_numbers": of(&layout.dated_numbers),
        "dated_categories": of(&layout.dated_categories),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_layouts() {
        use ModelKind::{Gru, Hybrid, Mlp};
        let square = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let turned = vec![1.0, 4.0, 2.0, 5.0, 3.0, 6.0];
        let tensor = HostTensor { shape: vec![2, 3], values: square.clone() };
        for (kind, name, expected, transposes) in [
            (Mlp, "layers.0.weight", "layers.0.weight", true),
            (Mlp, "inputs.embeddings.0.weight", "inputs.embeddings.0.weight", false),
            (Mlp, "inputs.pieces.weight", "inputs.pieces.weight", false),
            (Mlp, "inputs.pieces.bias", "inputs.pieces.bias", false),
            (Mlp, "scale.weight", "scale.weight", false),
            (Mlp, "head.weight", "head.weight", false),
            (Gru, "head.weight", "head.weight", true),
            (Gru, "stack.layers.1.input_weight", "gru.weight_ih_l1", true),
            (Gru, "stack.layers.0.hidden_weight", "gru.weight_hh_l0", true),
            (Gru, "stack.layers.0.hidden_bias", "gru.bias_hh_l0", false),
            (Hybrid, "trunk.blocks.0.norm.gamma", "trunk.blocks.0.norm.weight", false),
            (Hybrid, "trunk.blocks.0.norm.beta", "trunk.blocks.0.norm.bias", false),
            (Hybrid, "trunk.blocks.0.wide.weight", "trunk.blocks.0.wide.weight", true),
            (Hybrid, "gate.of_state.weight", "gate.of_state.weight", true),
        ] {
            let (found, layout) = in_torch(kind, name, &tensor).expect("known");
            assert_eq!(found, expected);
            let values = if transposes { &turned } else { &square };
            assert_eq!(&layout.values, values, "{name}");
            assert_eq!(layout.shape == [3, 2], transposes, "{name}");
        }
        assert!(in_torch(Mlp, "layers.0.odd", &tensor).is_err());
    }
}

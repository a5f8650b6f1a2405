//! Parameters by name: out of a network, into a network, to and from safetensors.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::Network;
use crate::error::{Kind, Result};

/// A named tensor on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// All parameters, ordered by name, e.g. `trunk.input.weight`.
pub type Parameters = BTreeMap<String, HostTensor>;

/// Reads all parameters back from the device.
pub fn collect(network: &Network) -> Parameters {
    let mut visitor = Collect { path: Vec::new(), found: BTreeMap::new() };
    network.visit(&mut visitor);
    visitor.found
}

/// Replaces all parameters.
///
/// # Errors
/// [`Kind::Corrupt`] if a name is missing, left over, or has another shape.
pub fn load(network: Network, parameters: &Parameters) -> Result<Network> {
    let mut mapper = Load { path: Vec::new(), from: parameters, used: 0, wrong: None };
    let network = network.map(&mut mapper);
    if let Some(wrong) = mapper.wrong {
        return Err(Kind::Corrupt.msg(wrong));
    }
    if mapper.used != parameters.len() {
        let (used, all) = (mapper.used, parameters.len());
        return Err(Kind::Corrupt.msg(format!("{all} tensors, of which the network knows {used}")));
    }
    Ok(network)
}

pub fn count(parameters: &Parameters) -> u64 {
    parameters.values().map(|tensor| tensor.values.len() as u64).sum()
}

pub fn are_finite(parameters: &Parameters) -> bool {
    parameters.values().flat_map(|tensor| &tensor.values).all(|value| value.is_finite())
}

/// The safetensors bytes of named tensors; the same tensors always give the same bytes.
pub fn to_safetensors(parameters: &Parameters) -> Result<Vec<u8>> {
    to_safetensors_with(parameters, BTreeMap::new())
}

/// The same with texts by name in the header; more than one have no order there.
pub fn to_safetensors_with(
    parameters: &Parameters,
    metadata: BTreeMap<String, String>,
) -> Result<Vec<u8>> {
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = parameters
        .iter()
        .map(|(name, tensor)| {
            let bytes = tensor.values.iter().flat_map(|v| v.to_le_bytes()).collect();
            (name.clone(), tensor.shape.clone(), bytes)
        })
        .collect();
    let wrong = |error: safetensors::SafeTensorError| Kind::Internal.msg(error.to_string());
    let views = bytes
        .iter()
        .map(|(name, shape, bytes)| {
            Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?))
        })
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(wrong)?;
    let metadata = (!metadata.is_empty()).then(|| metadata.into_iter().collect());
    safetensors::serialize(views, metadata).map_err(wrong)
}

/// Named tensors out of safetensors bytes; `path` is for messages.
pub fn from_safetensors(bytes: &[u8], path: &Path) -> Result<Parameters> {
    let wrong = |message: String| Kind::Corrupt.at(path).msg(message);
    let file = SafeTensors::deserialize(bytes).map_err(|e| wrong(e.to_string()))?;
    let read = |(name, view): (String, TensorView)| {
        if view.dtype() != Dtype::F32 {
            return Err(wrong(format!("tensor `{name}` is {:?}, not F32", view.dtype())));
        }
        let value = |four: &[u8]| f32::from_le_bytes(four.try_into().expect("chunks of four"));
        let values = view.data().chunks_exact(4).map(value).collect();
        Ok((name, HostTensor { shape: view.shape().to_vec(), values }))
    };
    file.tensors().into_iter().map(read).collect()
}

/// The path without its first step, which is the variant of [`Network`].
pub(super) fn name(path: &[String]) -> String {
    path[1..].join(".")
}

/// A parameter with new values on the same device, tracked if it was.
pub(super) fn replace<const D: usize>(
    param: Param<Tensor<D>>,
    data: TensorData,
) -> Param<Tensor<D>> {
    param.map(|old| {
        let tracked = old.is_require_grad();
        Tensor::from_data(data, &old.device()).set_require_grad(tracked)
    })
}

struct Collect {
    path: Vec<String>,
    found: Parameters,
}

impl ModuleVisitor for Collect {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        let shape = tensor.dims().to_vec();
        let values = tensor.into_data().try_into_vec_as::<f32>().expect("parameters are f32");
        self.found.insert(name(&self.path), HostTensor { shape, values });
    }
}

struct Load<'a> {
    path: Vec<String>,
    from: &'a Parameters,
    used: usize,
    wrong: Option<String>,
}

impl ModuleMapper for Load<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = name(&self.path);
        let shape = param.lazy_shape();
        match self.from.get(&name) {
            Some(tensor) if tensor.shape == shape.as_slice() => {
                self.used += 1;
                replace(param, TensorData::new(tensor.values.clone(), tensor.shape.clone()))
            }
            Some(tensor) => {
                self.wrong = Some(format!(
                    "tensor `{name}` has shape {:?}, the network needs {:?}",
                    tensor.shape,
                    shape.as_slice()
                ));
                param
            }
            None => {
                self.wrong = Some(format!("tensor `{name}` is missing"));
                param
            }
        }
    }
}

//! One step of the optimizer from several devices and several batches: each replica of the network
//! takes some rows of a batch, and gradients are summed.
//!
//! The loss of a batch is a sum over its rows divided by a constant, so that the sum over shares,
//! and over the batches of a step, is the gradient of the whole. Gradients meet on the first
//! device, which holds the optimizer; the others are given the new weights after each step. Between
//! two GPUs both ways lead through the host: burn 0.22 has no collective for wgpu.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor};

/// Copies of a network on other devices, tracked like the original.
pub fn copies<M: Module>(network: &M, devices: &[Device]) -> Vec<M> {
    let copy = |device: &Device| network.clone().fork(&device.clone().autodiff());
    devices.iter().map(copy).collect()
}

/// The rows of each of at most `devices` shares of a batch, behind one another.
pub fn shares(rows: &[u32], devices: usize) -> std::slice::Chunks<'_, u32> {
    rows.chunks(rows.len().div_ceil(devices).max(1))
}

/// Gradients by parameter name, flat, on one device.
#[derive(Debug, Default)]
pub struct GradientSum(BTreeMap<String, Tensor<1>>);

impl GradientSum {
    /// Adds the gradients of a backward pass of `network`, wherever it is.
    pub fn add<M: Module>(&mut self, network: &M, gradients: &Gradients, device: &Device) {
        network.visit(&mut Add { sum: self, gradients, device, path: Vec::new() });
    }

    /// Adds all to the gradients of a backward pass of `network` on the sum's device, and is empty
    /// again.
    pub fn drain_into<M: Module>(&mut self, network: &M, gradients: &mut Gradients) {
        if !self.0.is_empty() {
            network.visit(&mut Drain { sum: self, gradients, path: Vec::new() });
            assert!(self.0.is_empty(), "gradients of one network");
        }
    }
}

struct Add<'a> {
    sum: &'a mut GradientSum,
    gradients: &'a Gradients,
    device: &'a Device,
    path: Vec<String>,
}

impl ModuleVisitor for Add<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(gradient) = param.val().grad(self.gradients) else { return };
        let gradient = gradient.reshape([-1]).to_device(self.device);
        let name = self.path.join(".");
        let sum = match self.sum.0.remove(&name) {
            Some(sum) => sum + gradient,
            None => gradient,
        };
        self.sum.0.insert(name, sum);
    }
}

struct Drain<'a> {
    sum: &'a mut GradientSum,
    gradients: &'a mut Gradients,
    path: Vec<String>,
}

impl ModuleVisitor for Drain<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(sum) = self.sum.0.remove(&self.path.join(".")) else { return };
        let param = param.val();
        let sum = sum.reshape(param.dims());
        let whole = match param.grad_remove(self.gradients) {
            Some(own) => sum + own,
            None => sum,
        };
        param.grad_replace(self.gradients, whole);
    }
}

//! Which device computes, chosen once, with one line that says why.
//!
//! burn's GPU constructors panic at the first operation when there is no adapter, so an adapter is
//! probed here before any tensor exists. Nothing else in the crate names a device: burn's optimizer
//! and data loader, which open `Device::default()` behind the caller's back, are not used.

use std::str::FromStr;

use burn::tensor::Device;

use crate::error::{Error, Kind, Result};

/// What the user asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// A GPU if there is one, else the CPU.
    Auto,
    /// A GPU or nothing. Software adapters count, since they were asked for by name.
    Gpu,
    /// The `flex` backend.
    Cpu,
    /// The `ndarray` backend, if it was compiled in.
    NdArray,
}

impl FromStr for Want {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Want::Auto),
            "gpu" => Ok(Want::Gpu),
            "cpu" => Ok(Want::Cpu),
            "ndarray" => Ok(Want::NdArray),
            _ => Err(Kind::Usage
                .msg(format!("there is no device `{text}`"))
                .hint("the devices are auto, gpu, cpu and ndarray")),
        }
    }
}

/// A device that is known to work.
#[derive(Debug, Clone)]
pub struct Chosen {
    pub device: Device,
    /// One line for the user: which device, and why.
    pub reason: String,
}

/// Probes and chooses. Call once, before any thread makes a tensor.
///
/// # Errors
/// [`Kind::Environment`] if `gpu` or `ndarray` is asked for and not there; `auto` never fails.
pub fn choose(want: Want) -> Result<Chosen> {
    match want {
        Want::Cpu => Ok(cpu("as asked")),
        Want::NdArray => ndarray(),
        Want::Gpu => gpu(Adapters::All),
        Want::Auto => Ok(match gpu(Adapters::HardwareOnly) {
            Ok(chosen) => chosen,
            Err(error) => cpu(&error.message),
        }),
    }
}

fn cpu(reason: &str) -> Chosen {
    Chosen { device: Device::flex(), reason: format!("cpu (flex backend): {reason}") }
}

#[cfg(feature = "ndarray")]
#[expect(deprecated, reason = "kept selectable on purpose, see ARCHITECTURE.md")]
fn ndarray() -> Result<Chosen> {
    let reason = "cpu (ndarray backend): as asked".to_owned();
    Ok(Chosen { device: Device::ndarray(), reason })
}

#[cfg(not(feature = "ndarray"))]
fn ndarray() -> Result<Chosen> {
    Err(Kind::Environment
        .msg("this build has no ndarray backend")
        .hint("build it with --features ndarray, or use --device cpu"))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Adapters {
    All,
    /// `auto` refuses software adapters: the CPU backend is many times faster than a GPU that is
    /// emulated on the same cores.
    HardwareOnly,
}

#[cfg(feature = "gpu")]
fn gpu(adapters: Adapters) -> Result<Chosen> {
    use burn_wgpu::wgpu::DeviceType;

    let no_adapter = |why: String| {
        Kind::Environment
            .msg(format!("no usable GPU ({why})"))
            .hint("install its Vulkan, Metal or DX12 driver, or use --device cpu")
    };
    let (device, setup) = Device::wgpu_options()
        .init_with_setup()
        .map_err(|error| no_adapter(error.to_string().replace('\n', " ")))?;
    let info = setup.adapter.get_info();
    let name = format!("{} through {}", info.name, info.backend);
    if info.device_type == DeviceType::Cpu && adapters == Adapters::HardwareOnly {
        return Err(no_adapter(format!("only the software adapter {name}")));
    }
    Ok(Chosen { device, reason: format!("gpu: {name}") })
}

#[cfg(not(feature = "gpu"))]
fn gpu(_: Adapters) -> Result<Chosen> {
    Err(Kind::Environment
        .msg("this build has no GPU backend")
        .hint("build it with --features gpu, or use --device cpu"))
}

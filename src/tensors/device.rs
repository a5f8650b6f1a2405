//! Which devices compute, chosen once, with one line for each that says why.
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
    /// The GPU of this number: discrete ones first, then integrated, virtual and software ones.
    GpuAt(usize),
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
            _ => match text.strip_prefix("gpu:").and_then(|number| number.parse::<u8>().ok()) {
                Some(number) => Ok(Want::GpuAt(number.into())),
                None => Err(Kind::Usage
                    .msg(format!("there is no device `{text}`"))
                    .hint("the devices are auto, gpu, gpu:N, cpu and ndarray")),
            },
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

/// Several devices, by their names; one that is named twice is opened once and computes two shares.
///
/// # Errors
/// Those of [`choose`], about the first name that cannot be had.
pub fn choose_all(names: &[&str]) -> Result<Vec<Chosen>> {
    let mut all: Vec<(Want, Chosen)> = Vec::new();
    for name in names {
        let want = name.parse()?;
        let opened = all.iter().find(|(other, _)| *other == want).map(|(_, chosen)| chosen.clone());
        let chosen = match opened {
            Some(chosen) => chosen,
            None => choose(want)?,
        };
        all.push((want, chosen));
    }
    Ok(all.into_iter().map(|(_, chosen)| chosen).collect())
}

/// Probes and chooses. Call before any thread makes a tensor.
///
/// # Errors
/// [`Kind::Environment`] if a GPU or `ndarray` is asked for and not there; `auto` never fails.
pub fn choose(want: Want) -> Result<Chosen> {
    match want {
        Want::Cpu => Ok(cpu("as asked")),
        Want::NdArray => ndarray(),
        Want::Gpu => gpu(Adapters::All),
        Want::GpuAt(number) => gpu_at(number),
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
    let (device, info) = open(None).map_err(no_adapter)?;
    let name = format!("{} through {}", info.name, info.backend);
    if info.device_type == DeviceType::Cpu && adapters == Adapters::HardwareOnly {
        return Err(no_adapter(format!("only the software adapter {name}")));
    }
    Ok(Chosen { device, reason: format!("gpu: {name}") })
}

/// An adapter and what it says of itself; the one that wgpu prefers if none is named. It is opened
/// once: burn refuses to open what its process has opened before.
#[cfg(feature = "gpu")]
fn open(
    kind: Option<burn::tensor::DeviceKind>,
) -> std::result::Result<(Device, burn_wgpu::wgpu::AdapterInfo), String> {
    use std::sync::{Mutex, PoisonError};

    use burn_wgpu::wgpu::AdapterInfo;

    type Opened = (Option<burn::tensor::DeviceKind>, Device, AdapterInfo);
    static OPENED: Mutex<Vec<Opened>> = Mutex::new(Vec::new());

    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, device, info)) = opened.iter().find(|(known, ..)| *known == kind) {
        return Ok((device.clone(), info.clone()));
    }
    let options = Device::wgpu_options();
    let options = match &kind {
        Some(kind) => options.device_kind(kind.clone()),
        None => options,
    };
    let (device, setup) =
        options.init_with_setup().map_err(|error| error.to_string().replace('\n', " "))?;
    let info = setup.adapter.get_info();
    opened.push((kind, device.clone(), info.clone()));
    Ok((device, info))
}

/// Adapters are listed without being opened, so that a number too high costs nothing.
#[cfg(feature = "gpu")]
fn gpu_at(number: usize) -> Result<Chosen> {
    use burn::tensor::{DeviceKind, DeviceType};

    let listed: Vec<Device> = Device::enumerate(DeviceType::Wgpu).into_iter().collect();
    let kinds: [fn(usize) -> DeviceKind; 4] =
        [DeviceKind::DiscreteGpu, DeviceKind::IntegratedGpu, DeviceKind::VirtualGpu, |_| {
            DeviceKind::Cpu
        }];
    let is_there = |kind: &DeviceKind| listed.contains(&Device::wgpu(kind.clone()));
    let of_kind = |kind: fn(usize) -> DeviceKind| {
        let all = (0..listed.len()).map(kind).take_while(is_there);
        // There is one software adapter, whatever its number.
        all.enumerate().take_while(|(at, kind)| *at == 0 || *kind != DeviceKind::Cpu)
    };
    let mut found = kinds.into_iter().flat_map(of_kind).map(|(_, kind)| kind);
    let missing = |why: String| {
        Kind::Environment
            .msg(format!("there is no gpu:{number} ({why})"))
            .hint("count from gpu:0, install its Vulkan, Metal or DX12 driver, or use --device cpu")
    };
    let Some(kind) = found.nth(number) else {
        return Err(missing(format!("GPUs of this machine: {}", listed.len())));
    };
    let (device, info) = open(Some(kind)).map_err(missing)?;
    Ok(Chosen { device, reason: format!("gpu:{number}: {} through {}", info.name, info.backend) })
}

#[cfg(not(feature = "gpu"))]
fn gpu_at(_: usize) -> Result<Chosen> {
    gpu(Adapters::All)
}

#[cfg(not(feature = "gpu"))]
fn gpu(_: Adapters) -> Result<Chosen> {
    Err(Kind::Environment
        .msg("this build has no GPU backend")
        .hint("build it with --features gpu, or use --device cpu"))
}

//! Which device a run computes on.

use mediant_engine::Device;

/// The device asked for, if this build can use it; the CPU if none is asked for and this build knows no other.
///
/// # Errors
/// Says why the device cannot be used.
pub fn choose_device(asked: Option<Device>) -> Result<Device, String> {
    match asked {
        Some(Device::Cuda(_)) if !cfg!(feature = "cuda") => {
            Err("this build computes on the CPU only; build with --features cuda for a GPU".to_owned())
        }
        Some(device) => Ok(device),
        None if cfg!(feature = "cuda") && std::path::Path::new("/dev/nvidia0").exists() => Ok(Device::Cuda(0)),
        None => Ok(Device::Cpu),
    }
}

/// The same device as the numeric crates name it.
pub(crate) fn compute_device(device: Device) -> mediant_tensor::Device {
    match device {
        Device::Cpu => mediant_tensor::Device::Cpu,
        Device::Cuda(index) => mediant_tensor::Device::Cuda(index),
    }
}

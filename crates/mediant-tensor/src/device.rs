use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// Where numbers are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Device {
    /// The processor: burn's Flex backend with our kernels.
    #[default]
    Cpu,
    /// A CUDA device by its index; needs a build with the feature `cuda`.
    Cuda(usize),
}

impl Device {
    /// Whether this build can compute there.
    ///
    /// # Errors
    /// [`Error::NoCuda`] for a CUDA device in a build without the feature `cuda`.
    pub fn check(self) -> Result<()> {
        match self {
            Self::Cuda(_) if !cfg!(feature = "cuda") => Err(Error::NoCuda),
            _ => Ok(()),
        }
    }

    /// The kind alone, `cpu` or `cuda`: what a checkpoint's key and a lock file compare.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda(_) => "cuda",
        }
    }

    /// The precision in which f32 matrix products are multiplied there, for the provenance. cubecl's tensor-core kernels
    /// round f32 inputs to TF32 and have no switch for it.
    pub fn matmul_precision(self) -> &'static str {
        match self {
            Self::Cpu => "f32",
            Self::Cuda(_) => "tf32",
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let unknown = || Error::UnknownDevice(text.to_owned());
        match text {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => {
                let index = text.strip_prefix("cuda:").ok_or_else(unknown)?;
                index.parse().map(Self::Cuda).map_err(|_| unknown())
            }
        }
    }
}

/// Chooses the backend once, at the entry of a stage.
///
/// `on_device!(device, C, handle => body)` evaluates `body` with `C` naming the backend type and `handle` bound to its
/// device; `body` is a `Result` whose error is made from [`Error`] by `Into`. `on_device!(device, autodiff C, handle => body)`
/// names the backend with gradients.
///
/// ```
/// use mediant_tensor::{Compute, Device, Error, Tensor, on_device};
/// fn sum<C: Compute>(device: &C::Device) -> Result<f32, Error> {
///     Ok(Tensor::<C, 1>::ones([3], device).sum().into_scalar())
/// }
/// assert_eq!(on_device!(Device::Cpu, C, device => sum::<C>(&device)).unwrap(), 3.0);
/// ```
#[cfg(not(feature = "cuda"))]
#[macro_export]
macro_rules! on_device {
    ($device:expr, $C:ident, $handle:ident => $body:expr) => {
        match $device {
            $crate::Device::Cpu => {
                type $C = $crate::Flex;
                let $handle = <$C as $crate::burn::tensor::backend::BackendTypes>::Device::default();
                $body
            }
            $crate::Device::Cuda(_) => Err($crate::Error::NoCuda.into()),
        }
    };
    ($device:expr, autodiff $C:ident, $handle:ident => $body:expr) => {
        match $device {
            $crate::Device::Cpu => {
                type $C = $crate::Autodiff<$crate::Flex>;
                let $handle = <$C as $crate::burn::tensor::backend::BackendTypes>::Device::default();
                $body
            }
            $crate::Device::Cuda(_) => Err($crate::Error::NoCuda.into()),
        }
    };
}

/// Chooses the backend once, at the entry of a stage.
///
/// `on_device!(device, C, handle => body)` evaluates `body` with `C` naming the backend type and `handle` bound to its
/// device; `body` is a `Result` whose error is made from [`Error`] by `Into`. `on_device!(device, autodiff C, handle => body)`
/// names the backend with gradients.
#[cfg(feature = "cuda")]
#[macro_export]
macro_rules! on_device {
    ($device:expr, $C:ident, $handle:ident => $body:expr) => {
        match $device {
            $crate::Device::Cpu => {
                type $C = $crate::Flex;
                let $handle = <$C as $crate::burn::tensor::backend::BackendTypes>::Device::default();
                $body
            }
            $crate::Device::Cuda(index) => {
                type $C = $crate::burn::backend::Cuda;
                let $handle = <$C as $crate::burn::tensor::backend::BackendTypes>::Device::new(index);
                $body
            }
        }
    };
    ($device:expr, autodiff $C:ident, $handle:ident => $body:expr) => {
        match $device {
            $crate::Device::Cpu => {
                type $C = $crate::Autodiff<$crate::Flex>;
                let $handle = <$C as $crate::burn::tensor::backend::BackendTypes>::Device::default();
                $body
            }
            $crate::Device::Cuda(index) => {
                type $C = $crate::Autodiff<$crate::burn::backend::Cuda>;
                let $handle = <$C as $crate::burn::tensor::backend::BackendTypes>::Device::new(index);
                $body
            }
        }
    };
}

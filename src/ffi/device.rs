//! What MLX computes on.

use super::error::mlxrt_status;
use super::panic::guard;
use super::read::{Sized, write_sized};
use crate::error::{Error, Result};
use crate::mlx::{self, Device};
use libc::c_char;
use once_cell::sync::Lazy;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ffi::CString;

/// A device to compute on.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum mlxrt_device {
    /// The GPU where MLX has one, else the CPU.
    MLXRT_DEVICE_AUTO = 0,
    /// The host's processors.
    MLXRT_DEVICE_CPU = 1,
    /// The first Metal or CUDA device.
    MLXRT_DEVICE_GPU = 2,
}

/// Callers pass devices as int32_t: a Rust enum with an unknown value would be undefined behaviour.
pub(super) fn device_from(value: i32) -> Result<Option<Device>> {
    match value {
        0 => Ok(None),
        1 => Ok(Some(Device::Cpu)),
        2 => Ok(Some(Device::Gpu)),
        _ => Err(Error::BadArgument(format!("device {value}: expected a mlxrt_device (0 to 2)"))),
    }
}

/// What mlxrt_device_info tells.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct mlxrt_device_desc {
    /// sizeof(mlxrt_device_desc), set by the caller.
    pub struct_size: usize,
    /// The device: never MLXRT_DEVICE_AUTO.
    pub device: i32,
    /// 1 if MLX can use the device here, else 0.
    pub available: i32,
    /// Its memory in bytes, 0 where MLX does not say.
    pub memory_bytes: u64,
    /// Its name: NUL-terminated, valid for ever.
    pub name: *const c_char,
}

// SAFETY: repr(C), starts with struct_size, integers and a pointer.
unsafe impl Sized for mlxrt_device_desc {
    const NAME: &'static str = "mlxrt_device_desc";
    const FIRST_SIZE: usize = 32;
}

/// Describes a device (a mlxrt_device; MLXRT_DEVICE_AUTO describes the one it stands for). A device
/// that is not there is described as not available, which is not an error.
///
/// Errors: BAD_ARGUMENT (no mlxrt_device, `out` is NULL or its struct_size was not set), MLX.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_device_info(device: i32, out: *mut mlxrt_device_desc) -> mlxrt_status {
    // Names are kept for ever, one per device.
    static NAMES: Lazy<Mutex<HashMap<i32, CString>>> = Lazy::new(Mutex::default);
    guard(|| {
        let device = device_from(device)?.unwrap_or_else(mlx::default_device);
        let available = mlx::available(device);
        let info = if available { Some(mlx::device_info(device)?) } else { None };
        let number = match device {
            Device::Cpu => mlxrt_device::MLXRT_DEVICE_CPU as i32,
            Device::Gpu => mlxrt_device::MLXRT_DEVICE_GPU as i32,
        };
        let mut names = NAMES.lock();
        let name = names.entry(number).or_insert_with(|| {
            let name = info.as_ref().map_or("not available", |info| info.name.as_str());
            CString::new(name).unwrap_or_default()
        });
        let desc = mlxrt_device_desc {
            struct_size: 0,
            device: number,
            available: available.into(),
            memory_bytes: info.as_ref().map_or(0, |info| info.memory_bytes),
            name: name.as_ptr(),
        };
        // SAFETY: the caller's promise.
        unsafe { write_sized(out, &desc) }
    })
}

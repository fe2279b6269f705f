//! Devices, and each thread's stream. MLX's streams belong to threads: a thread picks a device once
//! and every operation it builds goes to that device's default stream of this thread.

use super::error::{MlxString, check, init};
use super::sys;
use crate::error::{Error, Result};
use std::cell::RefCell;
use std::ffi::{CStr, CString};

/// Where MLX computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// The host's processors.
    Cpu,
    /// The first Metal or CUDA device.
    Gpu,
}

/// What MLX says of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Which device.
    pub device: Device,
    /// The device's name or MLX's word for it.
    pub name: String,
    /// Memory in bytes, 0 where MLX doesn't say.
    pub memory_bytes: u64,
}

struct RawDevice(sys::mlx_device);

impl RawDevice {
    fn new(device: Device) -> Self {
        init();
        let kind = match device {
            Device::Cpu => sys::mlx_device_type__MLX_CPU,
            Device::Gpu => sys::mlx_device_type__MLX_GPU,
        };
        // SAFETY: makes a device description; nothing is touched yet.
        RawDevice(unsafe { sys::mlx_device_new_type(kind, 0) })
    }
}

impl Drop for RawDevice {
    fn drop(&mut self) {
        // SAFETY: owned, freed once.
        unsafe { sys::mlx_device_free(self.0) };
    }
}

pub(super) struct Stream(sys::mlx_stream);

impl Stream {
    fn of(device: Device) -> Result<Self> {
        let raw = RawDevice::new(device);
        // SAFETY: an empty stream, owned by the wrapper from here on.
        let mut stream = Stream(unsafe { sys::mlx_stream_new() });
        // SAFETY: both handles are live.
        check(unsafe { sys::mlx_get_default_stream(&mut stream.0, raw.0) })?;
        Ok(stream)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: owned, freed once.
        unsafe { sys::mlx_stream_free(self.0) };
    }
}

thread_local! {
    static CURRENT: RefCell<Option<(Device, Stream)>> = const { RefCell::new(None) };
}

/// Whether the linked MLX can use the device on this machine.
pub fn available(device: Device) -> bool {
    let raw = RawDevice::new(device);
    let mut yes = false;
    // SAFETY: `raw` is live.
    check(unsafe { sys::mlx_device_is_available(&mut yes, raw.0) }).is_ok() && yes
}

/// The GPU where there is one, else the CPU.
pub fn default_device() -> Device {
    if available(Device::Gpu) { Device::Gpu } else { Device::Cpu }
}

/// Makes `device` the one that this thread's operations run on.
pub fn use_device(device: Device) -> Result<()> {
    if !available(device) {
        return Err(Error::Unsupported(format!(
            "device {device:?}: not available (the CPU build of MLX is linked, or no GPU was found)"
        )));
    }
    let stream = Stream::of(device)?;
    CURRENT.with(|current| current.replace(Some((device, stream))));
    Ok(())
}

/// The device that this thread's operations run on.
pub fn thread_device() -> Result<Device> {
    with_current(|device, _| device)
}

/// Calls `f` with this thread's stream, valid for the call.
pub(super) fn with_stream<T>(f: impl FnOnce(sys::mlx_stream) -> T) -> Result<T> {
    with_current(|_, stream| f(stream))
}

fn with_current<T>(f: impl FnOnce(Device, sys::mlx_stream) -> T) -> Result<T> {
    CURRENT.with(|current| {
        if current.borrow().is_none() {
            let device = default_device();
            let stream = Stream::of(device)?;
            current.replace(Some((device, stream)));
        }
        let current = current.borrow();
        let (device, stream) = current.as_ref().expect("set above");
        Ok(f(*device, stream.0))
    })
}

/// The CPU's default stream of this thread, for reading files.
pub(super) fn with_cpu_stream<T>(f: impl FnOnce(sys::mlx_stream) -> T) -> Result<T> {
    Ok(f(Stream::of(Device::Cpu)?.0))
}

/// What MLX says of a device.
pub fn device_info(device: Device) -> Result<DeviceInfo> {
    struct Info(sys::mlx_device_info);
    impl Drop for Info {
        fn drop(&mut self) {
            // SAFETY: owned, freed once.
            unsafe { sys::mlx_device_info_free(self.0) };
        }
    }
    let raw = RawDevice::new(device);
    // SAFETY: makes an empty table.
    let mut info = Info(unsafe { sys::mlx_device_info_new() });
    // SAFETY: both handles are live.
    check(unsafe { sys::mlx_device_info_get(&mut info.0, raw.0) })?;
    let has = |key: &CString| {
        let mut yes = false;
        // SAFETY: `info` and `key` are live.
        check(unsafe { sys::mlx_device_info_has_key(&mut yes, info.0, key.as_ptr()) }).is_ok() && yes
    };
    let key = CString::new("device_name").expect("no NUL");
    let name = if has(&key) {
        let mut value = std::ptr::null();
        // SAFETY: as above; the string belongs to `info`.
        check(unsafe { sys::mlx_device_info_get_string(&mut value, info.0, key.as_ptr()) })?;
        // SAFETY: NUL-terminated, copied before `info` goes.
        unsafe { CStr::from_ptr(value) }.to_string_lossy().into_owned()
    } else {
        let mut text = MlxString::new();
        // SAFETY: both handles are live.
        check(unsafe { sys::mlx_device_tostring(text.as_mut(), raw.0) })?;
        text.to_string()
    };
    let mut memory = 0usize;
    for key in ["memory_size", "total_memory"] {
        let key = CString::new(key).expect("no NUL");
        if has(&key) {
            // SAFETY: as above.
            check(unsafe { sys::mlx_device_info_get_size(&mut memory, info.0, key.as_ptr()) })?;
            break;
        }
    }
    Ok(DeviceInfo { device, name, memory_bytes: memory as u64 })
}

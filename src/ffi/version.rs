//! Versions of the header, the library and what it was built from.

use libc::c_char;
use std::ffi::CString;

use once_cell::sync::Lazy;

/// Major version of this header.
pub const MLXRT_VERSION_MAJOR: u32 = 0;
/// Minor version of this header.
pub const MLXRT_VERSION_MINOR: u32 = 1;
/// Patch version of this header.
pub const MLXRT_VERSION_PATCH: u32 = 0;
/// The binary interface this header describes: see mlxrt_abi_version.
pub const MLXRT_ABI_VERSION: u32 = 1;

/// The binary interface of the loaded library. A program is compatible when this equals the
/// MLXRT_ABI_VERSION it was compiled with. Cannot fail.
#[unsafe(no_mangle)]
pub extern "C" fn mlxrt_abi_version() -> u32 {
    MLXRT_ABI_VERSION
}

/// The library's version, such as "0.1.0": NUL-terminated, valid for ever. Cannot fail.
#[unsafe(no_mangle)]
pub extern "C" fn mlxrt_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// What the library was built from, in one line: its version, MLX's version, the target. The text is
/// for people and bug reports. NUL-terminated, valid for ever. Cannot fail.
#[unsafe(no_mangle)]
pub extern "C" fn mlxrt_build_info() -> *const c_char {
    static INFO: Lazy<CString> = Lazy::new(|| {
        let running = crate::mlx::version().unwrap_or_else(|error| error.to_string());
        let text = format!(
            "mlxrt {} built with {} for {}, running mlx {running}",
            env!("CARGO_PKG_VERSION"),
            env!("MLXRT_MLX"),
            env!("MLXRT_TARGET"),
        );
        CString::new(text).unwrap_or_default()
    });
    INFO.as_ptr()
}

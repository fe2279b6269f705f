//! What loading a model costs beside reading its files once, and how much memory it needs at most:
//!
//!     cargo run --release --example load -- FOLDER
//!
//! Each is tried with the files in the page cache and without (Linux forgets them when asked to).

use mlxrt::engine::{LoadOptions, load_for_tests};
use mlxrt::mlx::{Device, memory};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

type Failure = Box<dyn std::error::Error>;

fn weight_files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut files = vec![];
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            files.push(path);
        }
    }
    Ok(files)
}

/// Asks the system to forget what it keeps of the files.
fn forget(files: &[PathBuf]) -> Result<(), Failure> {
    for file in files {
        let file = File::open(file)?;
        file.sync_all()?;
        // SAFETY: the descriptor is open.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    }
    Ok(())
}

/// Reads the files into one small buffer; gives their bytes.
fn read_once(files: &[PathBuf]) -> Result<u64, Failure> {
    let (mut buffer, mut bytes) = (vec![0; 4 << 20], 0);
    for file in files {
        let mut file = File::open(file)?;
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                read => bytes += read as u64,
            }
        }
    }
    Ok(bytes)
}

/// The most memory that the process has had, in bytes.
fn peak_resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn main() -> Result<(), Failure> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("usage: load FOLDER")?);
    let files = weight_files(&folder)?;
    let options = LoadOptions { device: Some(Device::Cpu), ..Default::default() };
    for cached in [false, true, false, true] {
        let prepare = || if cached { read_once(&files).map(drop) } else { forget(&files) };
        prepare()?;
        let start = Instant::now();
        let bytes = read_once(&files)?;
        let reading = start.elapsed().as_secs_f64();

        prepare()?;
        memory::reset_peak()?;
        let start = Instant::now();
        let loaded = load_for_tests(&folder, &options)?;
        let loading = start.elapsed().as_secs_f64();
        println!(
            "{}: files {:.2} GB, reading {reading:.2} s, loading {loading:.2} s; weights {:.2} GB, MLX's peak \
             {:.2} GB, process peak {:.2} GB",
            if cached { "in the page cache" } else { "from the disk    " },
            bytes as f64 / 1e9,
            loaded.info.weight_bytes as f64 / 1e9,
            memory::peak()? as f64 / 1e9,
            peak_resident() as f64 / 1e9,
        );
    }
    Ok(())
}

//! What the process holds while the model has nothing to do.

use mlxrt::engine::{GenerateOptions, Model};
use mlxrt::mlx::memory;
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;

/// How much more resident memory the end may have: the heap is never packed the same way twice.
const TOLERANCE: usize = 16 * MIB;

/// How much more of MLX's memory: entries of the prefix cache have a little besides what is counted.
const UNCOUNTED: usize = 64 << 10;

/// Bytes.
pub struct Memory {
    /// Of MLX's arrays.
    active: usize,
    /// Those of them that the prefix cache holds, by its own account.
    prefixes: usize,
    /// Of the process; `None` where there is no /proc.
    resident: Option<usize>,
}

impl Memory {
    /// Waits until the engine has dropped what callers left behind.
    pub fn when_idle(model: &Model) -> Self {
        // Behind everything that was sent before.
        model.classify(vec![vec![1]], None, &GenerateOptions::default()).remove(0).unwrap();
        let started = Instant::now();
        let busy = || {
            let stats = model.stats();
            stats.running + stats.waiting > 0
        };
        while busy() {
            assert!(started.elapsed() < Duration::from_secs(30), "{:?} without callers", model.stats());
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(model.stats().sessions, 0, "sessions that nobody has");
        let prefixes = model.stats().prefix_bytes;
        // MLX's own thread may still be letting go of something; a leak stays, so the least counts.
        let looks: Vec<_> = (0..5).map(|_| Memory::now(prefixes)).collect();
        Memory {
            active: looks.iter().map(|look| look.active).min().unwrap(),
            prefixes,
            resident: looks.iter().filter_map(|look| look.resident).min(),
        }
    }

    fn now(prefixes: usize) -> Self {
        std::thread::sleep(Duration::from_millis(50));
        // Given back: what MLX and the heap keep for later is no leak.
        memory::clear_cache().unwrap();
        #[cfg(target_env = "gnu")]
        // SAFETY: it may be called at any time.
        unsafe {
            libc::malloc_trim(0);
        }
        Memory { active: memory::active().unwrap(), prefixes, resident: resident() }
    }

    /// Fails where there is more than before.
    pub fn assert_like(&self, before: &Memory) {
        let others = |memory: &Memory| {
            memory.active.checked_sub(memory.prefixes).expect("no more in the cache than at all")
        };
        assert!(
            others(self) <= others(before) + UNCOUNTED,
            "{} bytes of MLX's, {} before",
            self.active,
            before.active
        );
        let resident = |memory: &Memory| Some(memory.resident?.saturating_sub(memory.prefixes));
        if let Some((now, before)) = resident(self).zip(resident(before)) {
            assert!(now <= before + TOLERANCE, "{} MiB resident, {} before", now / MIB, before / MIB);
        }
    }
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes of MLX's, of them {} in the prefix cache", self.active, self.prefixes)?;
        self.resident.map_or(Ok(()), |bytes| write!(f, ", {:.1} MiB resident", bytes as f64 / MIB as f64))
    }
}

fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<usize>().ok().map(|kib| kib * 1024)
}

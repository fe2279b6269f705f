//! The threads that kernels share: one for each physical core that the process may use.

use super::lines::Words;
use super::pool::Pool;
use crate::error::{Error, Result};
use parking_lot::Mutex;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A kernel's caller works too, so the pool has a thread less; none at all for one thread.
#[derive(Clone)]
struct Threads {
    count: usize,
    pool: Option<Arc<Pool>>,
}

static THREADS: Mutex<Option<Threads>> = Mutex::new(None);

/// How many threads kernels use from now on, instead of one for each core. At least one.
pub fn set_count(count: usize) -> Result<()> {
    *THREADS.lock() = Some(make(count.max(1))?);
    Ok(())
}

/// How many threads kernels use.
pub fn count() -> usize {
    threads().count
}

fn threads() -> Threads {
    let mut threads = THREADS.lock();
    // A process that may not start threads computes on the caller's.
    threads.get_or_insert_with(|| make(physical_cores()).unwrap_or(Threads { count: 1, pool: None })).clone()
}

fn make(count: usize) -> Result<Threads> {
    if count == 1 {
        return Ok(Threads { count, pool: None });
    }
    let pool = Pool::new(count - 1)
        .map_err(|error| Error::Internal(format!("{count} threads for CPU kernels: {error}")))?;
    Ok(Threads { count, pool: Some(Arc::new(pool)) })
}

/// Runs `work` for 0, 1, .. `tasks - 1`, on all threads, each taking the next when it is done with one.
pub(super) fn for_each(tasks: usize, work: impl Fn(usize) + Sync) {
    match threads().pool {
        Some(pool) if tasks > 1 => pool.run(tasks, &work),
        _ => (0..tasks).for_each(work),
    }
}

/// Runs `work` with parts of the output and the index of each part's first row, of `columns` elements: all of
/// it on this thread unless it is large.
pub(super) fn for_each_part(output: &mut [f32], columns: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    // Handing work to threads takes as long as computing so many elements.
    if output.len() < 16 << 10 || columns == 0 {
        return work(0, output);
    }
    let rows = ((8 << 10) / columns).max(1);
    let count = output.len().div_ceil(rows * columns);
    let parts = Mutex::new(output.chunks_mut(rows * columns).enumerate());
    for_each(count, |_| {
        let next = parts.lock().next();
        if let Some((index, part)) = next {
            work(index * rows, part);
        }
    });
}

/// Parts of a product, which threads take one by one.
pub(super) struct Tasks<'a> {
    count: usize,
    run: Box<dyn Fn(usize) + Sync + 'a>,
}

impl<'a> Tasks<'a> {
    /// `run` is to be called for 0, 1, .. `count - 1`.
    pub fn new(count: usize, run: impl Fn(usize) + Sync + 'a) -> Self {
        Tasks { count, run: Box::new(run) }
    }
}

/// Computes all the products together.
pub(super) fn run_all(products: &[Tasks]) {
    // Behind how many tasks each product ends.
    let ends: Vec<usize> = products
        .iter()
        .scan(0, |end, product| {
            *end += product.count;
            Some(*end)
        })
        .collect();
    for_each(ends.last().copied().unwrap_or(0), |task| {
        let index = ends.partition_point(|&end| end <= task);
        let product = &products[index];
        (product.run)(task + product.count - ends[index]);
    });
}

/// So many floats and words of this thread's memory, which lasts from task to task. They hold whatever
/// the last one left, and both begin with a cache line.
pub(super) fn with_scratch<T>(
    floats: usize,
    words: usize,
    work: impl FnOnce(&mut [f32], &mut [u32]) -> T,
) -> T {
    thread_local! {
        static SCRATCH: RefCell<[Words; 2]> = RefCell::default();
    }
    SCRATCH.with_borrow_mut(|[all_floats, all_words]| {
        all_floats.grow(floats);
        all_words.grow(words);
        work(&mut all_floats.floats_mut()[..floats], &mut all_words[..words])
    })
}

/// The cores that the process may run on, hyperthreads of one core counted once, and no more than a
/// container's share of them.
fn physical_cores() -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, |count| count.get());
    let cores: BTreeSet<String> = allowed_cpus()
        .filter_map(|cpu| {
            let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
            std::fs::read_to_string(path).ok()
        })
        .collect();
    if cores.is_empty() { allowed } else { allowed.min(cores.len()) }
}

#[cfg(target_os = "linux")]
fn allowed_cpus() -> impl Iterator<Item = usize> {
    // SAFETY: zeros are an empty set, which the call fills within its size.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set);
        set
    };
    // SAFETY: the indices lie within the set.
    (0..libc::CPU_SETSIZE as usize).filter(move |cpu| unsafe { libc::CPU_ISSET(*cpu, &set) })
}

#[cfg(not(target_os = "linux"))]
fn allowed_cpus() -> impl Iterator<Item = usize> {
    std::iter::empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::without_panic;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    #[test]
    fn every_task_runs_once() {
        assert!((1..=4096).contains(&physical_cores()));
        let done: Vec<AtomicUsize> = (0..100).map(|_| AtomicUsize::new(0)).collect();
        for_each(done.len(), |task| {
            done[task].fetch_add(1, Relaxed);
        });
        assert!(done.iter().all(|count| count.load(Relaxed) == 1));
    }

    #[test]
    fn every_task_of_every_product_runs_once() {
        let counts = [3, 0, 1, 40, 0];
        let done: Vec<Vec<AtomicUsize>> =
            counts.iter().map(|&count| (0..count).map(|_| AtomicUsize::new(0)).collect()).collect();
        let products: Vec<Tasks> = done
            .iter()
            .map(|done| {
                Tasks::new(done.len(), |task| {
                    done[task].fetch_add(1, Relaxed);
                })
            })
            .collect();
        run_all(&products);
        assert!(done.iter().flatten().all(|count| count.load(Relaxed) == 1));
    }

    #[test]
    fn every_part_knows_its_row() {
        for (rows, columns) in [(3, 5), (1000, 77), (1, 100_000), (3, 100_000)] {
            let mut output = vec![f32::NAN; rows * columns];
            for_each_part(&mut output, columns, |first, part| {
                for (row, part) in part.chunks_exact_mut(columns).enumerate() {
                    part.fill((first + row) as f32);
                }
            });
            let row_of = |(i, x): (usize, &f32)| *x == (i / columns) as f32;
            assert!(output.iter().enumerate().all(row_of), "{rows} x {columns}");
        }
    }

    #[test]
    fn a_panic_on_any_thread_is_the_callers() {
        for bad in [0, 1, 63] {
            let work = || {
                for_each(64, |task| {
                    std::thread::sleep(std::time::Duration::from_micros(100));
                    with_scratch(16, 16, |_, _| assert!(task != bad, "task {task} broke"));
                });
            };
            let error = without_panic(work).unwrap_err().to_string();
            assert!(error.contains(&format!("task {bad} broke")), "{error}");
        }
        every_task_runs_once();
    }
}

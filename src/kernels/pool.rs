//! Threads for pieces of work that take microseconds, of which a token needs hundreds. General pools put
//! their threads to sleep and wake them through the kernel, which takes as long as the work. These stay awake
//! for a moment behind each piece, and nobody waits for one that comes too late to help.

use parking_lot::{Condvar, Mutex};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize};
use std::time::{Duration, Instant};

/// How long a thread stays awake without work: longer than what lies between two kernels of a pass.
const AWAKE: Duration = Duration::from_micros(200);

/// A piece of work that threads share. It lives on its caller's stack.
struct Job<'a> {
    work: &'a (dyn Fn(usize) + Sync),
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// Tasks from one to before another, `start << 32 | end`. On a cache line of its own.
#[repr(align(128))]
struct Range(AtomicU64);

impl Range {
    fn set(&self, start: usize, end: usize) {
        self.0.store((start as u64) << 32 | end as u64, Relaxed);
    }

    fn take(&self, last: bool) -> Option<usize> {
        let rest = |range: u64| {
            let (start, end) = (range >> 32, range & u64::from(u32::MAX));
            let less = if last { range.wrapping_sub(1) } else { range.wrapping_add(1 << 32) };
            (start < end).then_some(less)
        };
        let range = self.0.fetch_update(Relaxed, Relaxed, rest).ok()?;
        Some(if last { (range & u64::from(u32::MAX)) - 1 } else { range >> 32 } as usize)
    }
}

/// The number of the current job, whether threads may still join it, and how many have it: `number << 32 |
/// open | joined`.
struct State(AtomicU64);

const OPEN: u64 = 1 << 31;

impl State {
    fn number(state: u64) -> u64 {
        state >> 32
    }

    /// How many have the job.
    fn joined(state: u64) -> u64 {
        state & (OPEN - 1)
    }
}

struct Shared {
    state: State,
    /// The job while it is open or anybody has it.
    job: AtomicPtr<Job<'static>>,
    /// Each thread's share of its tasks, the caller's first. Who is done with its own helps others, from behind: so
    /// what a thread takes lies behind each other in memory, and all end together.
    ranges: Box<[Range]>,
    /// One job at a time.
    busy: Mutex<()>,
    asleep: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
    closing: AtomicBool,
}

/// The threads. They end when this is dropped.
pub(super) struct Pool(Arc<Shared>);

impl Pool {
    /// So many threads besides the caller's.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let pool = Pool(Arc::new(Shared {
            state: State(AtomicU64::new(0)),
            job: AtomicPtr::new(std::ptr::null_mut()),
            ranges: (0..=threads).map(|_| Range(AtomicU64::new(0))).collect(),
            busy: Mutex::new(()),
            asleep: AtomicUsize::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
            closing: AtomicBool::new(false),
        }));
        for index in 0..threads {
            let shared = pool.0.clone();
            std::thread::Builder::new()
                .name(format!("mlxrt-cpu-{index}"))
                .spawn(move || shared.serve(index + 1))?;
        }
        Ok(pool)
    }

    /// Runs `work` for 0, 1, .. `tasks - 1` on this thread and those that have nothing else to do. A panic of
    /// any is the caller's. While another caller's work is under way it is done on this thread alone.
    pub fn run(&self, tasks: usize, work: &(dyn Fn(usize) + Sync)) {
        let shared = &*self.0;
        let busy = if tasks < u32::MAX as usize { shared.busy.try_lock() } else { None };
        let Some(_busy) = busy else {
            return (0..tasks).for_each(work);
        };
        let count = shared.ranges.len();
        for (index, range) in shared.ranges.iter().enumerate() {
            range.set(index * tasks / count, (index + 1) * tasks / count);
        }
        let job = Job { work, panic: Mutex::new(None) };
        shared.job.store((&raw const job).cast_mut().cast(), Relaxed);
        let number = State::number(shared.state.0.load(Relaxed)).wrapping_add(1);
        shared.state.0.store(number << 32 | OPEN, SeqCst);
        let asleep = shared.asleep.load(SeqCst);
        if asleep > 0 {
            let _sleep = shared.sleep.lock();
            for _ in 0..asleep.min(tasks - 1) {
                shared.wake.notify_one();
            }
        }
        shared.run(&job, 0);
        // From here on nobody joins, and those that have the job are waited for: it is on this stack.
        shared.state.0.fetch_and(!OPEN, SeqCst);
        let mut waited = 0;
        while State::joined(shared.state.0.load(Acquire)) > 0 {
            waited += 1;
            if waited % 256 == 0 { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
        if let Some(panic) = job.panic.into_inner() {
            resume_unwind(panic);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.0.closing.store(true, SeqCst);
        let _sleep = self.0.sleep.lock();
        self.0.wake.notify_all();
    }
}

impl Shared {
    /// Runs a thread's share of a job's tasks, and what others leave.
    fn run(&self, job: &Job, thread: usize) {
        let work = || {
            let (others, own) = self.ranges.split_at(thread);
            let Some((own, behind)) = own.split_first() else { return };
            while let Some(task) = own.take(false) {
                (job.work)(task);
            }
            for other in behind.iter().chain(others) {
                while let Some(task) = other.take(true) {
                    (job.work)(task);
                }
            }
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
            // The others need not go on.
            self.ranges.iter().for_each(|range| range.set(0, 0));
            job.panic.lock().get_or_insert(panic);
        }
    }

    /// What each thread does.
    fn serve(&self, thread: usize) {
        let mut done = 0;
        while let Some(state) = self.next(done) {
            done = State::number(state);
            if self.state.0.compare_exchange(state, state + 1, SeqCst, Relaxed).is_err() {
                // Somebody else joined, or it is over.
                done = done.wrapping_sub(1);
                continue;
            }
            // SAFETY: whoever has joined is waited for, so the job is there.
            self.run(unsafe { &*self.job.load(Relaxed) }, thread);
            self.state.0.fetch_sub(1, Release);
        }
    }

    /// Waits for an open job other than number `done`; `None`: for none any more.
    fn next(&self, done: u64) -> Option<u64> {
        let found = || {
            let state = self.state.0.load(SeqCst);
            (state & OPEN != 0 && State::number(state) != done).then_some(state)
        };
        let mut idle_since = Instant::now();
        let mut spins = 0_u32;
        loop {
            if self.closing.load(SeqCst) {
                return None;
            }
            if let Some(state) = found() {
                return Some(state);
            }
            spins += 1;
            std::hint::spin_loop();
            if !spins.is_multiple_of(64) || idle_since.elapsed() < AWAKE {
                continue;
            }
            let mut sleep = self.sleep.lock();
            // Counted before it looks for the last time: whoever opens a job then sees one of both.
            self.asleep.fetch_add(1, SeqCst);
            if found().is_none() && !self.closing.load(SeqCst) {
                self.wake.wait(&mut sleep);
            }
            self.asleep.fetch_sub(1, SeqCst);
            idle_since = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_whoever_asks() {
        let pool = Pool::new(3).unwrap();
        std::thread::scope(|scope| {
            for caller in 0..3 {
                let pool = &pool;
                scope.spawn(move || {
                    for round in 0..2000_usize {
                        let done: Vec<AtomicUsize> = (0..round % 7).map(|_| AtomicUsize::new(0)).collect();
                        let count = |task: usize| {
                            done[task].fetch_add(1, Relaxed);
                        };
                        if done.len() > 1 {
                            pool.run(done.len(), &count);
                        }
                        assert!(done.len() < 2 || done.iter().all(|done| done.load(Relaxed) == 1));
                        if round % 500 == caller {
                            std::thread::sleep(Duration::from_millis(1));
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn threads_help_each_other() {
        let pool = Pool::new(1).unwrap();
        let waiting = AtomicUsize::new(0);
        // Each task waits for the other: neither thread can do both.
        pool.run(2, &|_| {
            waiting.fetch_add(1, SeqCst);
            while waiting.load(SeqCst) < 2 {
                std::thread::yield_now();
            }
        });
        // A task may ask for more work itself.
        let inner = AtomicUsize::new(0);
        pool.run(2, &|_| {
            pool.run(3, &|_| {
                inner.fetch_add(1, SeqCst);
            })
        });
        assert_eq!(inner.into_inner(), 6);
    }

    #[test]
    fn threads_end_with_the_pool() {
        let pool = Pool::new(2).unwrap();
        let shared = Arc::downgrade(&pool.0);
        pool.run(8, &|_| {});
        drop(pool);
        let started = Instant::now();
        while shared.strong_count() > 0 {
            assert!(started.elapsed() < Duration::from_secs(20), "threads go on");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

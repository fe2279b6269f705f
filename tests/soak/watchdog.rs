//! Notices when nothing goes on any more, and says who waits.

use mlxrt::engine::Model;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// With no request that ends in this time all hope is lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// What every thread does, and since when.
pub struct Watchdog {
    callers: Vec<Mutex<Option<(&'static str, Instant)>>>,
    ended: AtomicU64,
    longest: Mutex<Duration>,
}

impl Watchdog {
    pub fn new(callers: usize) -> Self {
        let callers = (0..callers).map(|_| Mutex::default()).collect();
        Watchdog { callers, ended: AtomicU64::new(0), longest: Mutex::default() }
    }

    pub fn begin(&self, caller: usize, what: &'static str) {
        *self.callers[caller].lock() = Some((what, Instant::now()));
    }

    pub fn end(&self, caller: usize) {
        if let Some((_, since)) = self.callers[caller].lock().take() {
            let mut longest = self.longest.lock();
            *longest = since.elapsed().max(*longest);
        }
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// What the most patient request took.
    pub fn longest(&self) -> Duration {
        *self.longest.lock()
    }

    /// Watches over what `run` does with the model.
    pub fn over<T>(&self, model: &Model, run: impl FnOnce() -> T) -> T {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| self.watch(model, &over));
            // A failed assertion must end the watch too.
            let _end = End(&over);
            run()
        })
    }

    fn watch(&self, model: &Model, over: &AtomicBool) {
        let (mut ended, mut since) = (0, Instant::now());
        while !over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
            let now = self.ended.load(Ordering::Relaxed);
            if now != ended {
                (ended, since) = (now, Instant::now());
            } else if since.elapsed() > PATIENCE {
                self.tell(model);
                // Threads that hang cannot be joined.
                std::process::exit(101);
            }
        }
    }

    /// To standard error, past the test harness, which keeps what a test prints until it ends.
    fn tell(&self, model: &Model) {
        use std::io::Write;
        let mut out = std::io::stderr().lock();
        let _ = writeln!(out, "no request ended for {PATIENCE:?}; {:?}", model.stats());
        for (number, caller) in self.callers.iter().enumerate() {
            let _ = match *caller.lock() {
                Some((what, since)) => writeln!(out, "thread {number}: {what} for {:.1?}", since.elapsed()),
                None => writeln!(out, "thread {number}: between requests"),
            };
        }
    }
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

//! The threads of the CPU kernels sleep when there is nothing to do. (Alone in its process, whose time it
//! measures.)

#![cfg(not(target_os = "macos"))]

use mlxrt::kernels::{self, Source, Weight};
use mlxrt::mlx::{Array, Device, use_device};
use std::time::Duration;

/// What all threads of this process have computed.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock exists, and `time` is writable.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
fn idle_threads_take_no_time() {
    use_device(Device::Cpu).unwrap();
    kernels::set_threads(4).unwrap();
    let w = Array::from_f32(&vec![0.5; 2048 * 1024], &[2048, 1024]).unwrap();
    let x = Array::from_f32(&[1.0; 1024], &[1, 1024]).unwrap();
    let product = || {
        let [y] = kernels::products(Source::Plain(&x), [(Weight::Dense(&w), None)], None).unwrap().unwrap();
        y.to_vec_f32().unwrap()
    };
    let start = cpu_time();
    assert!(product().iter().all(|&y| y == 512.0));
    assert!(cpu_time() - start > Duration::from_micros(50));
    // OpenBLAS's own threads spin for a while after their start; it computes nothing here.
    std::thread::sleep(Duration::from_millis(300));
    // Ten times, because they might look for work for a while after each product.
    let mut busy = Duration::ZERO;
    for _ in 0..10 {
        product();
        let start = cpu_time();
        std::thread::sleep(Duration::from_millis(50));
        busy += cpu_time() - start;
    }
    println!("{busy:?} in 500 ms");
    assert!(busy < Duration::from_millis(50), "{busy:?}");
}

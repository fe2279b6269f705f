//! Operations of MLX's graph that Rust code computes on the CPU. primitive.cpp is the other side.

pub use super::input::{Bool, Element, Input};

use super::error::init;
use super::input::{RawView, Source, gather};
use super::stream::with_stream;
use super::{Array, Dtype, sys};
use crate::error::{Error, Result, without_panic};
use std::ffi::{c_char, c_int, c_void};

/// An operation. It is computed at once, if its inputs are; otherwise on a thread of MLX's, when an array that needs
/// its result is evaluated, whose error is then the operation's error or panic.
pub trait Kernel: Send + Sync + 'static {
    /// Whether inputs may come as they lie in memory, with strides ([`Input::strides`]). Otherwise they
    /// come row by row.
    const AS_THEY_LIE: bool = false;

    /// Computes all of the outputs, which hold anything, or [`update`]'s target, from the inputs.
    fn run_many(&self, inputs: &[Input], outputs: &mut [&mut [f32]]) -> Result<()> {
        match outputs {
            [output] => self.run(inputs, output),
            _ => Err(Error::Internal(format!("a kernel of one output got {}", outputs.len()))),
        }
    }

    /// The same for a kernel of one output. One of both functions must be written.
    fn run(&self, _inputs: &[Input], _output: &mut [f32]) -> Result<()> {
        Err(Error::Internal("a kernel that computes nothing".into()))
    }

    /// The gradients of the inputs whose indices are `wanted`, given those of the outputs, in MLX's operations or
    /// others that have gradients.
    fn gradients(&self, _inputs: &[Array], _cotangents: &[Array], _wanted: &[c_int]) -> Result<Vec<Array>> {
        Err(Error::Unsupported("gradients through this operation".into()))
    }
}

/// The array `[shape]` of float32 that `kernel` makes of the inputs, on this thread's stream, which must
/// be a CPU's.
pub fn primitive<K: Kernel>(kernel: K, inputs: &[&Array], shape: &[i32]) -> Result<Array> {
    primitives(kernel, inputs, [shape]).map(|[array]| array)
}

/// The same for a kernel of several outputs.
pub fn primitives<K: Kernel, const N: usize>(
    kernel: K,
    inputs: &[&Array],
    shapes: [&[i32]; N],
) -> Result<[Array; N]> {
    make(kernel, inputs, shapes, false)
}

/// The array that `kernel` makes of `target`, which is float32: in its memory, without a copy, if nothing else uses it.
/// The kernel gets it as its output, and `inputs` alone as inputs. An error costs the target.
pub fn update<K: Kernel>(kernel: K, target: Array, inputs: &[&Array]) -> Result<Array> {
    let shape = target.shape().to_vec();
    let all: Vec<&Array> = [&target].into_iter().chain(inputs.iter().copied()).collect();
    make(kernel, &all, [&shape], true).map(|[array]| array)
}

fn make<K: Kernel, const N: usize>(
    kernel: K,
    inputs: &[&Array],
    shapes: [&[i32]; N],
    in_place: bool,
) -> Result<[Array; N]> {
    init();
    let dtypes = inputs.iter().map(|input| input.dtype()).collect();
    let inputs: Vec<sys::mlx_array> = inputs.iter().map(|input| input.raw()).collect();
    let (axes, shapes) = (shapes.map(<[i32]>::len), shapes.concat());
    with_stream(|stream| {
        Array::make_many(|results| {
            let state = Box::into_raw(Box::new(State { kernel, dtypes, in_place })).cast();
            let kernel = RawKernel { state, run: run::<K>, vjp: vjp::<K>, free: free::<K>, in_place };
            // SAFETY: handles are live, pointers have the lengths beside them, and `run` and `free` take
            // the state that they are given with. A target is the caller's alone, who only drops it.
            unsafe {
                mlxrt_primitive(
                    results.as_mut_ptr(),
                    N,
                    kernel,
                    inputs.as_ptr(),
                    inputs.len(),
                    shapes.as_ptr(),
                    axes.as_ptr(),
                    stream,
                )
            }
        })
    })?
}

/// Another view of an array, which MLX makes without computing anything: computed at once if the array is.
pub(super) fn settle(view: &Array) -> Result<()> {
    // SAFETY: the handle is live.
    super::error::check(unsafe { mlxrt_settle(view.raw()) })
}

struct State<K> {
    kernel: K,
    dtypes: Vec<Dtype>,
    in_place: bool,
}

#[repr(C)]
struct RawKernel {
    state: *mut c_void,
    run: unsafe extern "C" fn(
        state: *const c_void,
        inputs: *const RawView,
        count: usize,
        outputs: *const RawView,
        output_count: usize,
        message: *mut c_char,
        room: usize,
    ) -> c_int,
    vjp: unsafe extern "C" fn(
        state: *const c_void,
        inputs: *const sys::mlx_array,
        count: usize,
        cotangents: *const sys::mlx_array,
        output_count: usize,
        wanted: *const c_int,
        results: *mut sys::mlx_array,
        result_count: usize,
        message: *mut c_char,
        room: usize,
    ) -> c_int,
    free: unsafe extern "C" fn(*mut c_void),
    in_place: bool,
}

unsafe extern "C" {
    fn mlxrt_primitive(
        results: *mut sys::mlx_array,
        result_count: usize,
        kernel: RawKernel,
        inputs: *const sys::mlx_array,
        count: usize,
        shapes: *const c_int,
        axes: *const usize,
        stream: sys::mlx_stream,
    ) -> c_int;

    fn mlxrt_settle(array: sys::mlx_array) -> c_int;
}

/// # Safety
/// `state` is a live `State<K>`, `inputs` has `count` elements, each an array's, `outputs` has `output_count`, which
/// are nobody else's, `message` has room for `room` bytes.
unsafe extern "C" fn run<K: Kernel>(
    state: *const c_void,
    inputs: *const RawView,
    count: usize,
    outputs: *const RawView,
    output_count: usize,
    message: *mut c_char,
    room: usize,
) -> c_int {
    let work = || {
        // SAFETY: the caller's promise.
        let (state, mut inputs, outputs) = unsafe {
            let state = &*state.cast::<State<K>>();
            (state, super::input::slice(inputs, count), super::input::slice(outputs, output_count))
        };
        let mut dtypes = &state.dtypes[..];
        let mut target = None;
        if state.in_place {
            target = inputs.split_off_first();
            dtypes = dtypes.get(1..).unwrap_or_default();
        }
        if outputs.iter().all(|output| output.size == 0) {
            return Ok(());
        }
        // SAFETY: as above.
        let sources = inputs.iter().map(|view| unsafe { Source::new(*view, K::AS_THEY_LIE) });
        let sources: Vec<Source> = sources.collect::<Result<_>>()?;
        let inputs: Vec<Input> =
            sources.iter().zip(dtypes).map(|(source, &dtype)| source.input(dtype)).collect();
        let output = |(index, output): (usize, &RawView)| {
            if output.size == 0 {
                return &mut [] as &mut [f32];
            }
            // SAFETY: as above. It is memory from MLX's allocator, where any bits are floats.
            unsafe {
                match target {
                    Some(target) if index == 0 && target.data == output.data => {}
                    Some(target) if index == 0 => gather(target, output.data.cast()),
                    // Tests find out what is not computed.
                    _ if cfg!(test) => output.data.cast::<f32>().write_bytes(0xff, output.size),
                    _ => {}
                }
                std::slice::from_raw_parts_mut(output.data.cast::<f32>(), output.size)
            }
        };
        let mut outputs: Vec<&mut [f32]> = outputs.iter().enumerate().map(output).collect();
        state.kernel.run_many(&inputs, &mut outputs)
    };
    // SAFETY: the caller's promise.
    unsafe { report(work, message, room) }
}

/// # Safety
/// `state` is a live `State<K>`, `inputs` has `count` handles and `cotangents` has `output_count`, all of which are given
/// away; `wanted` and `results` have `result_count` elements, `message` has room for `room` bytes.
unsafe extern "C" fn vjp<K: Kernel>(
    state: *const c_void,
    inputs: *const sys::mlx_array,
    count: usize,
    cotangents: *const sys::mlx_array,
    output_count: usize,
    wanted: *const c_int,
    results: *mut sys::mlx_array,
    result_count: usize,
    message: *mut c_char,
    room: usize,
) -> c_int {
    let work = || {
        // SAFETY: the caller's promise.
        let (state, inputs, cotangents, wanted) = unsafe {
            let own = |handles, count| -> Vec<Array> {
                super::input::slice(handles, count).iter().map(|&handle| Array::from_raw(handle)).collect()
            };
            let state = &*state.cast::<State<K>>();
            let wanted = super::input::slice(wanted, result_count);
            (state, own(inputs, count), own(cotangents, output_count), wanted)
        };
        let gradients = state.kernel.gradients(&inputs, &cotangents, wanted)?;
        if gradients.len() != result_count {
            return Err(Error::Internal(format!("{} gradients of {result_count}", gradients.len())));
        }
        for (index, gradient) in gradients.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { results.add(index).write(gradient.into_raw()) };
        }
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { report(work, message, room) }
}

/// Runs `work`, whose panic must not reach C++; writes the message of its error, and gives 1 then.
///
/// # Safety
/// `message` has room for `room` bytes.
unsafe fn report(work: impl FnOnce() -> Result<()>, message: *mut c_char, room: usize) -> c_int {
    let Err(error) = without_panic(work).flatten() else { return 0 };
    let text = error.to_string();
    let length = text.len().min(room.saturating_sub(1));
    // SAFETY: `length` and the NUL are within the room.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr().cast(), message, length);
        message.add(length).write(0);
    }
    1
}

/// # Safety
/// `state` is a `State<K>` from `Box::into_raw`, not freed yet.
unsafe extern "C" fn free<K>(state: *mut c_void) {
    // SAFETY: the caller's promise.
    drop(unsafe { Box::from_raw(state.cast::<State<K>>()) });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mlx::{Device, ops, use_device};

    struct Double;
    impl Kernel for Double {
        fn run(&self, inputs: &[Input], output: &mut [f32]) -> Result<()> {
            output.iter_mut().zip(inputs[0].values()?).for_each(|(y, x): (_, &f32)| *y = 2.0 * x);
            Ok(())
        }
    }

    /// Row sums, and where the rows lie.
    struct Sums;
    impl Kernel for Sums {
        const AS_THEY_LIE: bool = true;
        fn run(&self, inputs: &[Input], output: &mut [f32]) -> Result<()> {
            let (&[rows, columns], &[down, right]) = (inputs[0].shape(), inputs[0].strides()) else {
                return Err(Error::Internal("not a matrix".into()));
            };
            let values: &[f32] = inputs[0].values()?;
            for row in 0..i64::from(rows) {
                let at = |column| values[(row * down + column * right) as usize];
                output[row as usize] = (0..i64::from(columns)).map(at).sum();
            }
            output[rows as usize] = values.len() as f32;
            Ok(())
        }
    }

    /// Adds 1 to the first element.
    struct Count;
    impl Kernel for Count {
        fn run(&self, inputs: &[Input], output: &mut [f32]) -> Result<()> {
            output[0] += inputs[0].values::<f32>()?[0];
            Ok(())
        }
    }

    /// The halves of an array.
    struct Halves;
    impl Kernel for Halves {
        fn run_many(&self, inputs: &[Input], outputs: &mut [&mut [f32]]) -> Result<()> {
            let (first, second) = inputs[0].values()?.split_at(outputs[0].len());
            outputs[0].copy_from_slice(first);
            outputs[1].copy_from_slice(second);
            Ok(())
        }
    }

    struct Fails;
    impl Kernel for Fails {
        fn run(&self, _: &[Input], _: &mut [f32]) -> Result<()> {
            Err(Error::Internal("what went wrong".into()))
        }
    }

    struct Panics;
    impl Kernel for Panics {
        fn run(&self, _: &[Input], _: &mut [f32]) -> Result<()> {
            panic!("what broke")
        }
    }

    #[test]
    fn computes_what_the_kernel_says() {
        use_device(Device::Cpu).unwrap();
        let x = Array::from_f32(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]).unwrap();
        let y = primitive(Double, &[&ops::add(&x, &x).unwrap()], &[2, 3]).unwrap();
        assert_eq!(y.to_vec_f32().unwrap(), [4.0, 8.0, 12.0, 16.0, 20.0, 24.0]);
        // Not row by row in memory.
        let y = primitive(Double, &[&ops::transpose(&x, &[1, 0]).unwrap()], &[3, 2]).unwrap();
        assert_eq!(y.to_vec_f32().unwrap(), [2.0, 8.0, 4.0, 10.0, 6.0, 12.0]);
        // Not where a float may lie.
        let bytes: Vec<f32> = [9.0].into_iter().chain([0.0, 0.0, 128.0, 63.0].repeat(2)).collect();
        let bytes = ops::astype(&Array::from_f32(&bytes, &[9]).unwrap(), Dtype::U8).unwrap();
        bytes.eval().unwrap();
        let ones = ops::view(&ops::slice(&bytes, 0, 1, 9).unwrap(), Dtype::F32).unwrap();
        assert_eq!(primitive(Double, &[&ones], &[2]).unwrap().to_vec_f32().unwrap(), [2.0, 2.0]);
        let empty = Array::from_f32(&[], &[0, 3]).unwrap();
        assert!(primitive(Double, &[&empty], &[0, 3]).unwrap().to_vec_f32().unwrap().is_empty());
    }

    #[test]
    fn takes_arrays_as_they_lie() {
        use_device(Device::Cpu).unwrap();
        let x: Vec<f32> = (0..20).map(|i| i as f32).collect();
        let x = Array::from_f32(&x, &[4, 5]).unwrap();
        let sums = |x: &Array, rows: i32| primitive(Sums, &[x], &[rows + 1]).unwrap().to_vec_f32().unwrap();
        assert_eq!(sums(&x, 4), [10.0, 35.0, 60.0, 85.0, 20.0]);
        assert_eq!(sums(&ops::slice(&x, 1, 1, 3).unwrap(), 4), [3.0, 13.0, 23.0, 33.0, 17.0]);
        assert_eq!(sums(&ops::slice(&x, 0, 1, 3).unwrap(), 2), [35.0, 60.0, 10.0]);
        let turned = ops::transpose(&ops::slice(&x, 1, 3, 5).unwrap(), &[1, 0]).unwrap();
        assert_eq!(sums(&turned, 2), [42.0, 46.0, 17.0]);
    }

    #[test]
    fn an_input_becomes_the_output() {
        use_device(Device::Cpu).unwrap();
        let one = Array::scalar(1.0).unwrap();
        let mut x = Array::from_f32(&[0.0; 100_000], &[100_000]).unwrap();
        x = ops::add(&x, &one).unwrap();
        x.eval().unwrap();
        let kept = x.clone();
        let y = update(Count, x.clone(), &[&one]).unwrap();
        assert_eq!(y.to_vec_f32().unwrap()[..2], [2.0, 1.0]);
        assert_eq!(kept.to_vec_f32().unwrap()[..2], [1.0, 1.0], "still used");
        let turned =
            ops::transpose(&Array::from_f32(&[1.0, 2.0, 3.0, 4.0], &[2, 2]).unwrap(), &[1, 0]).unwrap();
        let y = update(Count, turned, &[&one]).unwrap();
        assert_eq!(y.to_vec_f32().unwrap(), [2.0, 3.0, 2.0, 4.0]);
        // Alone, it takes no memory.
        let place = |x: &Array| x.with_bytes(|bytes| bytes.as_ptr() as usize).unwrap();
        drop(kept);
        let before = place(&x);
        for _ in 0..10 {
            x = update(Count, x, &[&one]).unwrap();
        }
        assert_eq!(place(&x), before);
        assert_eq!(x.to_vec_f32().unwrap()[..2], [11.0, 1.0]);
    }

    #[test]
    fn several_outputs() {
        use_device(Device::Cpu).unwrap();
        let x = Array::from_f32(&[1.0, 2.0, 3.0, 4.0, 5.0], &[5]).unwrap();
        let [a, b] = primitives(Halves, &[&x], [&[1, 2, 1], &[3]]).unwrap();
        assert_eq!((a.shape(), b.shape()), (&[1, 2, 1][..], &[3][..]));
        let sum = ops::add(&ops::sum(&a, 1, false).unwrap(), &b).unwrap();
        assert_eq!(sum.to_vec_f32().unwrap(), [6.0, 7.0, 8.0]);
        // One of them is never asked for.
        let [_, b] = primitives(Halves, &[&x], [&[2], &[3]]).unwrap();
        assert_eq!(b.to_vec_f32().unwrap(), [3.0, 4.0, 5.0]);
        let failed = primitives(Double, &[&x], [&[5], &[5]]).unwrap_err().to_string();
        assert!(failed.contains("one output got 2"), "{failed}");
    }

    /// The same, not computed yet.
    fn later(x: &Array) -> Array {
        ops::add(x, &ops::zeros(x.shape(), x.dtype()).unwrap()).unwrap()
    }

    #[test]
    fn what_waits_is_computed_when_it_is_wanted() {
        use_device(Device::Cpu).unwrap();
        let x = later(&Array::from_f32(&[1.0, 2.0, 3.0, 4.0], &[2, 2]).unwrap());
        let turned = ops::transpose(&x, &[1, 0]).unwrap();
        let y = primitive(Double, &[&turned], &[2, 2]).unwrap();
        let sums = primitive(Sums, &[&ops::transpose(&y, &[1, 0]).unwrap()], &[3]).unwrap();
        let [a, b] = primitives(Halves, &[&sums], [&[1], &[2]]).unwrap();
        let a = update(Count, a, &[&x]).unwrap();
        assert_eq!(b.to_vec_f32().unwrap(), [14.0, 4.0]);
        assert_eq!(a.to_vec_f32().unwrap(), [7.0]);
    }

    #[test]
    fn views_of_what_is_computed_are_computed() {
        use_device(Device::Cpu).unwrap();
        let x = Array::from_f32(&(0..24).map(|i| i as f32).collect::<Vec<_>>(), &[2, 3, 4]).unwrap();
        let turned = ops::transpose(&x, &[1, 0, 2]).unwrap();
        let views = [
            ops::reshape(&x, &[6, -1]).unwrap(),
            ops::slice(&ops::flatten(&x, 0, 1).unwrap(), 1, 1, 3).unwrap(),
            ops::flatten(&ops::slice_step(&turned, 2, 1, 4, 2).unwrap(), 0, 1).unwrap(),
            ops::squeeze(&ops::expand_dims(&ops::swap_axes(&turned, 0, 2).unwrap(), 1).unwrap(), 1).unwrap(),
        ];
        for view in views {
            let shape = view.shape().to_vec();
            // What the graph makes of it.
            let expected = later(&view).to_vec_f32().unwrap();
            let doubled = primitive(Double, &[&view], &shape).unwrap();
            let expected: Vec<f32> = expected.iter().map(|x| 2.0 * x).collect();
            assert_eq!(doubled.to_vec_f32().unwrap(), expected, "{shape:?}");
        }
    }

    #[test]
    fn a_kernels_error_is_the_operations() {
        use_device(Device::Cpu).unwrap();
        let x = Array::scalar(1.0).unwrap();
        for x in [x.clone(), later(&x)] {
            let failed = primitive(Fails, &[&x], &[]).and_then(|y| y.eval()).unwrap_err().to_string();
            assert!(failed.contains("what went wrong"), "{failed}");
            let failed = primitive(Panics, &[&x], &[]).and_then(|y| y.eval()).unwrap_err().to_string();
            assert!(failed.contains("what broke"), "{failed}");
        }
        let integers = Array::from_i32(&[1], &[]).unwrap();
        let failed = primitive(Double, &[&integers], &[]).unwrap_err().to_string();
        assert!(failed.contains("int32"), "{failed}");
        // And the stream goes on.
        assert_eq!(primitive(Double, &[&x], &[]).unwrap().to_vec_f32().unwrap(), [2.0]);
    }
}

//! Operations of MLX's graph that Rust code computes on the CPU. primitive.cpp is the other side.

use super::error::init;
use super::stream::with_stream;
use super::{Array, Dtype, sys};
use crate::error::{Error, Result, without_panic};
use std::ffi::{c_char, c_int, c_void};

/// An operation. It runs on a thread of MLX's, when an array that needs its result is evaluated; its
/// error, or panic, is then the evaluation's error.
pub trait Kernel: Send + Sync + 'static {
    /// Whether inputs may come as they lie in memory, with strides ([`Input::strides`]). Otherwise they
    /// come row by row.
    const AS_THEY_LIE: bool = false;
    /// The input, of the first output's size, that becomes that output: without a copy if nothing else uses it
    /// any more. It then comes as the output and is empty as an input.
    const IN_PLACE: Option<usize> = None;

    /// Computes the outputs, which hold zeros or the input [`Kernel::IN_PLACE`], from the inputs.
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
}

/// An input's elements.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    bytes: &'a [u8],
    dtype: Dtype,
    shape: &'a [c_int],
    strides: &'a [i64],
}

/// The types that inputs can be read as.
///
/// # Safety
/// Every pattern of bits is a value, and `DTYPE` has the same size.
pub unsafe trait Element: Copy {
    /// MLX's name of it.
    const DTYPE: Dtype;
}

/// MLX's boolean, a byte.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub struct Bool(u8);

impl Bool {
    /// Whether it is true.
    #[inline(always)]
    pub fn is_true(self) -> bool {
        self.0 != 0
    }
}

// SAFETY: plain numbers, of the sizes that their names say.
unsafe impl Element for f32 {
    const DTYPE: Dtype = Dtype::F32;
}
// SAFETY: as above.
unsafe impl Element for u32 {
    const DTYPE: Dtype = Dtype::U32;
}
// SAFETY: as above.
unsafe impl Element for i32 {
    const DTYPE: Dtype = Dtype::I32;
}
// SAFETY: as above.
unsafe impl Element for u8 {
    const DTYPE: Dtype = Dtype::U8;
}
// SAFETY: as above.
unsafe impl Element for Bool {
    const DTYPE: Dtype = Dtype::Bool;
}
// SAFETY: as above; `half` makes it transparent over u16.
unsafe impl Element for half::f16 {
    const DTYPE: Dtype = Dtype::F16;
}
// SAFETY: as above.
unsafe impl Element for half::bf16 {
    const DTYPE: Dtype = Dtype::BF16;
}

impl<'a> Input<'a> {
    /// The type of the elements.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Its axes.
    pub fn shape(&self) -> &'a [c_int] {
        self.shape
    }

    /// How many elements lie between neighbours along each axis, all 0 or more, in what [`Input::values`]
    /// gives, which begins with the first element and ends with the last.
    pub fn strides(&self) -> &'a [i64] {
        self.strides
    }

    /// The elements, which must be of this type; where the kernel takes inputs as they lie, with what lies
    /// between them.
    pub fn values<T: Element>(&self) -> Result<&'a [T]> {
        if T::DTYPE != self.dtype {
            return Err(Error::Internal(format!("a kernel got {}, expected {}", self.dtype, T::DTYPE)));
        }
        // SAFETY: any bits are a `T`; what lies at an unaligned border is not in the middle part.
        let (before, values, after) = unsafe { self.bytes.align_to::<T>() };
        if !before.is_empty() || !after.is_empty() {
            return Err(Error::Internal("a kernel got unaligned data".into()));
        }
        Ok(values)
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
    init();
    let dtypes = inputs.iter().map(|input| input.dtype()).collect();
    let inputs: Vec<sys::mlx_array> = inputs.iter().map(|input| input.raw()).collect();
    let (axes, shapes) = (shapes.map(<[i32]>::len), shapes.concat());
    with_stream(|stream| {
        Array::make_many(|results| {
            let state = Box::into_raw(Box::new(State { kernel, dtypes })).cast();
            let kernel = RawKernel {
                state,
                run: run::<K>,
                free: free::<K>,
                as_they_lie: K::AS_THEY_LIE,
                in_place: K::IN_PLACE.map_or(-1, |index| index as c_int),
            };
            // SAFETY: handles are live, pointers have the lengths beside them, and `run` and `free` take
            // the state that they are given with.
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

struct State<K> {
    kernel: K,
    dtypes: Vec<Dtype>,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct RawView {
    data: *mut c_void,
    size: usize,
    shape: *const c_int,
    strides: *const i64,
    axes: usize,
}

type Run = unsafe extern "C" fn(
    state: *const c_void,
    inputs: *const RawView,
    count: usize,
    outputs: *const RawView,
    output_count: usize,
    message: *mut c_char,
    room: usize,
) -> c_int;

#[repr(C)]
struct RawKernel {
    state: *mut c_void,
    run: Run,
    free: unsafe extern "C" fn(*mut c_void),
    as_they_lie: bool,
    in_place: c_int,
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
}

/// # Safety
/// `state` is a live `State<K>`, `inputs` has `count` elements, each readable for its sizes, `outputs` has
/// `output_count`, which are nobody else's, `message` has room for `room` bytes.
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
        let state = unsafe { &*state.cast::<State<K>>() };
        // SAFETY: as above.
        let inputs = unsafe { std::slice::from_raw_parts(inputs, count) };
        let inputs: Vec<Input> = inputs
            .iter()
            .zip(&state.dtypes)
            .map(|(raw, &dtype)| {
                // SAFETY: as above; an empty array may have no memory, a scalar no axes.
                let (bytes, shape, strides) = unsafe {
                    let bytes = slice(raw.data.cast(), raw.size);
                    (bytes, slice(raw.shape, raw.axes), slice(raw.strides, raw.axes))
                };
                Input { bytes, dtype, shape, strides }
            })
            .collect();
        // SAFETY: as above.
        let outputs = unsafe { std::slice::from_raw_parts(outputs, output_count) };
        if outputs.iter().all(|output| output.size == 0) {
            return Ok(());
        }
        let output = |(index, output): (usize, &RawView)| {
            if output.size == 0 {
                return &mut [] as &mut [f32];
            }
            // SAFETY: as above. Zeros are floats, and so is an input, so the slice holds values.
            unsafe {
                if index > 0 || K::IN_PLACE.is_none() {
                    output.data.write_bytes(0, output.size);
                }
                std::slice::from_raw_parts_mut(output.data.cast::<f32>(), output.size / size_of::<f32>())
            }
        };
        let mut outputs: Vec<&mut [f32]> = outputs.iter().enumerate().map(output).collect();
        state.kernel.run_many(&inputs, &mut outputs)
    };
    // A panic must not reach C++.
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
/// `data` is readable for `size` elements, or `size` is 0.
unsafe fn slice<'a, T>(data: *const T, size: usize) -> &'a [T] {
    // SAFETY: the caller's promise.
    if size == 0 { &[] } else { unsafe { std::slice::from_raw_parts(data, size) } }
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
        const IN_PLACE: Option<usize> = Some(1);
        fn run(&self, inputs: &[Input], output: &mut [f32]) -> Result<()> {
            assert!(inputs[1].values::<f32>()?.is_empty());
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
        let y = primitive(Count, &[&one, &x], &[100_000]).unwrap();
        assert_eq!(y.to_vec_f32().unwrap()[..2], [2.0, 1.0]);
        assert_eq!(kept.to_vec_f32().unwrap()[..2], [1.0, 1.0], "still used");
        let turned =
            ops::transpose(&Array::from_f32(&[1.0, 2.0, 3.0, 4.0], &[2, 2]).unwrap(), &[1, 0]).unwrap();
        let y = primitive(Count, &[&one, &turned], &[2, 2]).unwrap();
        assert_eq!(y.to_vec_f32().unwrap(), [2.0, 3.0, 2.0, 4.0]);
        // Alone, it takes no memory.
        let place = |x: &Array| x.with_bytes(|bytes| bytes.as_ptr() as usize).unwrap();
        drop(kept);
        let before = place(&x);
        for _ in 0..10 {
            x = primitive(Count, &[&one, &x], &[100_000]).unwrap();
            x.eval().unwrap();
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
        let failed = primitives(Double, &[&x], [&[5], &[5]]).unwrap()[0].eval().unwrap_err().to_string();
        assert!(failed.contains("one output got 2"), "{failed}");
    }

    #[test]
    fn a_kernels_error_is_the_evaluations() {
        use_device(Device::Cpu).unwrap();
        let x = Array::scalar(1.0).unwrap();
        let failed = primitive(Fails, &[&x], &[]).unwrap().eval().unwrap_err().to_string();
        assert!(failed.contains("what went wrong"), "{failed}");
        let failed = primitive(Panics, &[&x], &[]).unwrap().eval().unwrap_err().to_string();
        assert!(failed.contains("what broke"), "{failed}");
        let integers = Array::from_i32(&[1], &[]).unwrap();
        let failed = primitive(Double, &[&integers], &[]).unwrap().eval().unwrap_err().to_string();
        assert!(failed.contains("int32"), "{failed}");
        // And the stream goes on.
        assert_eq!(primitive(Double, &[&x], &[]).unwrap().to_vec_f32().unwrap(), [2.0]);
    }
}

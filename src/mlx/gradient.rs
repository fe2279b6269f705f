//! A function's value and its gradients, by MLX's automatic differentiation.

use super::array::VectorArray;
use super::error::{check, init};
use super::{Array, sys};
use crate::error::{Error, Result, without_panic};
use std::cell::Cell;
use std::ffi::{c_int, c_void};

thread_local! {
    static TRACING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is in [`value_and_grad`]: what is computed now must have gradients.
pub fn is_tracing() -> bool {
    TRACING.get()
}

/// The value of `function` for `inputs`, a scalar, and its gradients by each of them. All are computed when they are
/// evaluated; the function's operations must have gradients. It is called once, on this thread; its error is given
/// back as it is. Each gradient has the shape and type of its input.
pub fn value_and_grad(
    function: impl Fn(&[Array]) -> Result<Array>,
    inputs: &[&Array],
) -> Result<(Array, Vec<Array>)> {
    struct Tracing(bool);
    impl Drop for Tracing {
        fn drop(&mut self) {
            TRACING.set(self.0);
        }
    }
    init();
    let traced = Traced { function: &function, failure: Cell::new(None) };
    // SAFETY: `call` gets the pointer that it expects, which outlives the closure; nothing is to be freed.
    let closure = Closure(unsafe {
        sys::mlx_closure_new_func_payload(Some(call), (&raw const traced).cast_mut().cast(), None)
    });
    // SAFETY: an empty closure, owned by the wrapper from here on.
    let mut both = ValueAndGrad(unsafe { sys::mlx_closure_value_and_grad_new() });
    let all: Vec<c_int> = (0..inputs.len() as c_int).collect();
    // SAFETY: the handles are live, and the list has so many elements.
    check(unsafe { sys::mlx_value_and_grad(&mut both.0, closure.0, all.as_ptr(), all.len()) })?;
    let inputs = VectorArray::new(inputs.iter().copied())?;
    let _tracing = Tracing(TRACING.replace(true));
    let mut gradients = VectorArray::new([])?;
    let values = VectorArray::make(|values| {
        // SAFETY: all handles are live.
        unsafe { sys::mlx_closure_value_and_grad_apply(values, gradients.as_mut(), both.0, inputs.raw()) }
    });
    // What the function said is worth more than that it failed.
    let values = values.map_err(|error| traced.failure.take().unwrap_or(error))?;
    let value = values.into_iter().next();
    Ok((value.ok_or_else(|| Error::Internal("a function without a value".into()))?, gradients.to_arrays()?))
}

struct Traced<'a> {
    function: &'a dyn Fn(&[Array]) -> Result<Array>,
    failure: Cell<Option<Error>>,
}

/// # Safety
/// `payload` is a [`Traced`], `result` and `inputs` are live.
unsafe extern "C" fn call(
    result: *mut sys::mlx_vector_array,
    inputs: sys::mlx_vector_array,
    payload: *mut c_void,
) -> c_int {
    // SAFETY: the caller's promise.
    let traced = unsafe { &*payload.cast::<Traced>() };
    let work = || {
        let value = (traced.function)(&VectorArray::borrow(inputs)?)?;
        // SAFETY: as above.
        check(unsafe { sys::mlx_vector_array_set_value(result, value.raw()) })
    };
    // Neither an error nor a panic may reach C++.
    match without_panic(work).flatten() {
        Ok(()) => 0,
        Err(error) => {
            traced.failure.set(Some(error));
            1
        }
    }
}

struct Closure(sys::mlx_closure);

impl Drop for Closure {
    fn drop(&mut self) {
        // SAFETY: owned, freed once.
        unsafe { sys::mlx_closure_free(self.0) };
    }
}

struct ValueAndGrad(sys::mlx_closure_value_and_grad);

impl Drop for ValueAndGrad {
    fn drop(&mut self) {
        // SAFETY: owned, freed once.
        unsafe { sys::mlx_closure_value_and_grad_free(self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mlx::{Device, ops, use_device};

    #[test]
    fn squares_have_twice_their_roots() {
        use_device(Device::Cpu).unwrap();
        let x = Array::from_f32(&[1.0, 2.0, 3.0], &[3]).unwrap();
        let factor = Array::scalar(5.0).unwrap();
        let squares = |inputs: &[Array]| {
            assert!(is_tracing());
            ops::sum(&ops::multiply(&ops::square(&inputs[0])?, &inputs[1])?, 0, false)
        };
        let (value, gradients) = value_and_grad(squares, &[&x, &factor]).unwrap();
        assert!(!is_tracing());
        assert_eq!(value.to_vec_f32().unwrap(), [70.0]);
        assert_eq!(gradients[0].to_vec_f32().unwrap(), [10.0, 20.0, 30.0]);
        assert_eq!(gradients[1].to_vec_f32().unwrap(), [14.0]);
    }

    #[test]
    fn a_failure_is_the_functions() {
        use_device(Device::Cpu).unwrap();
        let x = Array::scalar(1.0).unwrap();
        let bad = |_: &[Array]| Err(Error::BadArgument("what was wrong".into()));
        let failed = value_and_grad(bad, &[&x]).unwrap_err();
        assert!(matches!(&failed, Error::BadArgument(text) if text == "what was wrong"), "{failed}");
        let failed = value_and_grad(|_| panic!("what broke"), &[&x]).unwrap_err().to_string();
        assert!(failed.contains("what broke"), "{failed}");
        assert!(!is_tracing());
        // Not a scalar.
        let x = Array::from_f32(&[1.0, 2.0], &[2]).unwrap();
        assert!(value_and_grad(|inputs| Ok(inputs[0].clone()), &[&x]).is_err());
    }
}

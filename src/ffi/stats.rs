//! What a model's engine is doing.

use super::error::mlxrt_status;
use super::model::{MODELS, mlxrt_model};
use super::panic::guard;
use super::read::{Sized, write_sized};

/// What mlxrt_model_stats tells: the present state, and sums since the model was loaded.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct mlxrt_stats {
    /// sizeof(mlxrt_stats), set by the caller.
    pub struct_size: usize,
    /// Requests that wait to be begun with.
    pub waiting: u32,
    /// Requests under way.
    pub running: u32,
    /// Steps computed. A step computes the next token of every answer and a part of the prompts.
    pub steps: u64,
    /// Tokens that the model was run on, of prompts and of answers: tokens / steps is how many share a
    /// step.
    pub tokens: u64,
    /// Seconds spent in steps.
    pub step_seconds: f64,
    /// The part of it in which the model was computed; on a GPU without the time in which its graph was built.
    pub evaluation_seconds: f64,
    /// Sessions that hold tokens or are in use.
    pub sessions: u32,
    /// Prompts that the prefix cache holds.
    pub prefix_entries: u32,
    /// Bytes that it holds.
    pub prefix_bytes: u64,
    /// Bytes for keys and values that running requests may come to take.
    pub kv_bytes: u64,
    /// Bytes that requests and idle sessions may take.
    pub kv_budget_bytes: u64,
    /// Tokens of all prompts that were begun with.
    pub prompt_tokens: u64,
    /// Those of them that a session or the prefix cache had.
    pub cached_tokens: u64,
}

// SAFETY: repr(C), starts with struct_size; numbers.
unsafe impl Sized for mlxrt_stats {
    const NAME: &'static str = "mlxrt_stats";
    const FIRST_SIZE: usize = 48;
}

/// Tells what a model's engine is doing, without waiting for it: as of its last step. Set
/// `out->struct_size` before the call.
///
/// Errors: BAD_ARGUMENT (a model that was freed, `out` is NULL or its struct_size was not set).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_model_stats(model: *const mlxrt_model, out: *mut mlxrt_stats) -> mlxrt_status {
    guard(|| {
        let stats = MODELS.get(model)?.model.stats();
        let told = mlxrt_stats {
            struct_size: 0,
            waiting: stats.waiting as u32,
            running: stats.running as u32,
            steps: stats.steps,
            tokens: stats.tokens,
            step_seconds: stats.step_time.as_secs_f64(),
            evaluation_seconds: stats.evaluation_time.as_secs_f64(),
            sessions: stats.sessions as u32,
            prefix_entries: stats.prefix_entries as u32,
            prefix_bytes: stats.prefix_bytes as u64,
            kv_bytes: stats.kv_promised as u64,
            kv_budget_bytes: stats.kv_budget as u64,
            prompt_tokens: stats.prompt_tokens,
            cached_tokens: stats.cached_tokens,
        };
        // SAFETY: the caller's promise.
        unsafe { write_sized(out, &told) }
    })
}

//! Conversations: their text through the model's chat template, and answers.

use super::error::mlxrt_status;
use super::generate::{
    emit, finish, mlxrt_generate_options, mlxrt_generate_result, mlxrt_token_callback, read_options,
};
use super::model::{MODELS, mlxrt_model};
use super::panic::guard;
use super::read::{Sized, mlxrt_string, options, set_default, slice, text};
use super::tokenize::fill;
use crate::engine::Conversation;
use crate::error::{Error, Result};
use libc::{c_char, c_void};
use serde::de::DeserializeOwned;

/// One message of a conversation. This struct is final, as arrays of it are passed: what messages may
/// hold besides goes into `messages` of mlxrt_chat_options, as JSON.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct mlxrt_message {
    /// Who speaks: "system", "user", "assistant", or what else the model's template knows.
    pub role: mlxrt_string,
    /// What is said.
    pub content: mlxrt_string,
}

/// What a conversation has besides messages. Zero in any field means its default. Texts are JSON;
/// templates see the keys of objects in the order in which they are written.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct mlxrt_chat_options {
    /// sizeof(mlxrt_chat_options).
    pub struct_size: usize,
    /// A list of messages as OpenAI's interface has them, in place of the call's `messages`, which
    /// are NULL and 0 then: objects with "role", "content" (a text, or a list of parts), and what
    /// else the template knows, such as "tool_calls", "tool_call_id", "name" and
    /// "reasoning_content". As with Hugging Face, a null is the same as no key, and an assistant's
    /// thoughts may be called "reasoning_content", "thinking" or "reasoning".
    pub messages: mlxrt_string,
    /// A list of tools that the model may call, as OpenAI's interface has them. Empty: none.
    pub tools: mlxrt_string,
    /// An object of further variables for the template, such as {"enable_thinking": false}. Those of
    /// a special token's role, such as "bos_token", replace the model's; "messages", "tools" and
    /// "add_generation_prompt" are a bad argument.
    pub variables: mlxrt_string,
    /// Non-zero: the text doesn't end where the assistant's answer begins.
    pub no_generation_prompt: i32,
    /// Zero; anything else is a bad argument.
    pub reserved: u32,
}

// SAFETY: repr(C), starts with struct_size; numbers and pointers.
unsafe impl Sized for mlxrt_chat_options {
    const NAME: &'static str = "mlxrt_chat_options";
    const FIRST_SIZE: usize = 64;
}

/// Fills options with their defaults. `size` is sizeof(mlxrt_chat_options).
///
/// Errors: BAD_ARGUMENT (`options` is NULL, or `size` is below that of the struct's first version).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_chat_options_default(
    options: *mut mlxrt_chat_options,
    size: usize,
) -> mlxrt_status {
    // SAFETY: the caller's promise.
    guard(|| unsafe { set_default(options, size) })
}

/// The text that a conversation becomes through the model's chat template: what mlxrt_model_chat
/// gives the model to read. `chat` may be NULL. Buffer and `*len` as for mlxrt_model_detokenize.
///
/// Where a model has several templates, "tool_use" is taken if there are tools, else "default".
///
/// Errors: BAD_ARGUMENT (a model that was freed, text that is not UTF-8, JSON that is not what it should
/// be, a conversation that the template refuses, with the template's own message), UNSUPPORTED (a model
/// without a template), BUFFER_TOO_SMALL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_model_render_chat(
    model: *const mlxrt_model,
    messages: *const mlxrt_message,
    message_count: usize,
    chat: *const mlxrt_chat_options,
    text: *mut c_char,
    capacity: usize,
    len: *mut usize,
) -> mlxrt_status {
    guard(|| {
        let loaded = MODELS.get(model)?;
        // SAFETY: the caller's promise, here and below.
        let conversation = unsafe { read_conversation(messages, message_count, chat) }?;
        let string = loaded.model.render_chat(&conversation)?;
        unsafe { fill(string.as_bytes(), text.cast(), capacity, len) }
    })
}

/// Answers a conversation: mlxrt_model_render_chat, then generate. `chat` may be NULL, and what may be
/// NULL for mlxrt_model_generate. Errors as for both.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxrt_model_chat(
    model: *const mlxrt_model,
    messages: *const mlxrt_message,
    message_count: usize,
    chat: *const mlxrt_chat_options,
    options: *const mlxrt_generate_options,
    callback: mlxrt_token_callback,
    user_data: *mut c_void,
    result: *mut mlxrt_generate_result,
) -> mlxrt_status {
    guard(|| {
        let loaded = MODELS.get(model)?;
        // SAFETY: the caller's promise, here and below.
        let conversation = unsafe { read_conversation(messages, message_count, chat) }?;
        let (options, encoding) = unsafe { read_options(options) }?;
        let ids = loaded.model.tokenize_chat(conversation, encoding.plain_text)?;
        let outcome = loaded.model.generate(ids, options, &mut |t| emit(t, callback, user_data));
        unsafe { finish(outcome, result) }
    })
}

/// # Safety
/// `messages` points to `count` messages, `chat` is NULL or points to `struct_size` bytes, and their
/// strings are readable.
unsafe fn read_conversation(
    messages: *const mlxrt_message,
    count: usize,
    chat: *const mlxrt_chat_options,
) -> Result<Conversation> {
    // SAFETY: the caller's promise, here and below.
    let given = unsafe { slice(messages, count, "messages") }?;
    let field = |index: usize, string: mlxrt_string, name: &str| unsafe {
        text(string.data, string.len, &format!("messages[{index}].{name}"))
    };
    let mut pairs = vec![];
    for (index, message) in given.iter().enumerate() {
        pairs.push((field(index, message.role, "role")?, field(index, message.content, "content")?));
    }
    let mut conversation = Conversation::new(pairs);
    let Some(chat) = (unsafe { options(chat) })? else { return Ok(conversation) };
    if chat.reserved != 0 {
        return Err(Error::BadArgument("mlxrt_chat_options: reserved is not zero".into()));
    }
    if let Some(messages) = unsafe { json(chat.messages, "messages", "a list of objects") }? {
        if !given.is_empty() {
            return Err(Error::BadArgument("messages are given twice: as structs and as JSON".into()));
        }
        conversation.messages = messages;
    }
    conversation.tools = unsafe { json(chat.tools, "tools", "a list of objects") }?;
    conversation.variables = unsafe { json(chat.variables, "variables", "an object") }?.unwrap_or_default();
    conversation.add_generation_prompt = chat.no_generation_prompt == 0;
    Ok(conversation)
}

/// # Safety
/// As for [`text()`].
unsafe fn json<T: DeserializeOwned>(string: mlxrt_string, name: &str, expected: &str) -> Result<Option<T>> {
    // SAFETY: the caller's promise.
    let text = unsafe { text(string.data, string.len, &format!("mlxrt_chat_options: {name}")) }?;
    if text.is_empty() {
        return Ok(None);
    }
    let read = serde_json::from_str(text);
    read.map(Some).map_err(|error| {
        Error::BadArgument(format!("mlxrt_chat_options: {name}: expected {expected} in JSON: {error}"))
    })
}

//! Chat templates: broken ones, and what sound ones make of a conversation.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mlxrt::engine::{ChatTemplate, Message};
use mlxrt_fuzz::limited;

fuzz_target!(|data: &[u8]| {
    let Ok(source) = std::str::from_utf8(data) else { return };
    let message = |role: &str, content: &str| Message { role: role.into(), content: content.into() };
    let messages = [message("system", "Be brief."), message("user", "Hello?"), message("assistant", "Hi.")];
    limited(data, 4096, || {
        let Ok(template) = ChatTemplate::compile(source.to_string(), "<s>", "</s>") else { return };
        let _ = template.render(&messages, true);
    });
});

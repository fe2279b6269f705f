//! Chat templates: broken ones, and what sound ones make of a conversation.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mlxrt::engine::{ChatTemplate, Conversation};
use mlxrt_fuzz::limited_to;

fuzz_target!(|data: &[u8]| {
    let Ok(source) = std::str::from_utf8(data) else { return };
    let conversation = Conversation::new([("system", "Be brief."), ("user", "Hello?"), ("assistant", "Hi.")]);
    // What a rendering may cost does not depend on the template's size: src/engine/jinja_limits.rs.
    limited_to(64 << 20, || {
        let Ok(template) = ChatTemplate::compile(source, Default::default()) else { return };
        let _ = template.render(&conversation);
    });
});

"""The conversations and texts that chat.py puts through Hugging Face's code."""

Message = dict[str, str]


def conversation(*turns: tuple[str, str]) -> list[Message]:
    return [{"role": role, "content": content} for role, content in turns]


CONVERSATIONS: list[list[Message]] = [
    conversation(("user", "Hello!")),
    conversation(("system", "You are terse."), ("user", "What is the capital of Norway?")),
    conversation(("user", "One?"), ("assistant", "Two."), ("user", "Three?")),
    conversation(
        ("system", "Answer in verse.\nAlways."),
        ("user", "Why is the sky blue?"),
        ("assistant", "<think>\nScattering, of course.\n</think>\n\nThe light is thrown about."),
        ("user", "And red in the evening?"),
        ("assistant", "The blue is gone by then."),
        ("user", "Thanks."),
    ),
    # Ends with an answer.
    conversation(("user", "Count."), ("assistant", "1, 2,")),
    # Out of order: many templates refuse these.
    conversation(("user", "First."), ("user", "Second.")),
    conversation(("assistant", "May I help?"), ("user", "Yes.")),
    conversation(("user", "Hi."), ("system", "A late instruction.")),
    conversation(("system", "Only a system message.")),
    conversation(("critic", "A role that no template knows.")),
    conversation(("user", "What's the weather?"), ("tool", '{"celsius": 21.5}')),
    conversation(("developer", "Be brief."), ("user", "Go on.")),
    # Contents.
    conversation(("user", "")),
    conversation(("system", ""), ("user", "Hello?")),
    conversation(("user", "Hello?"), ("assistant", ""), ("user", "Anyone?")),
    conversation(("system", "  padded \n"), ("user", "\n\n\tpadded too  \r\n")),
    conversation(("user", "  "), ("assistant", "\n answer \n"), ("user", " \u00a0\u3000next\u2028")),
    conversation(("user", "{{ bos_token }} {% if true %}x{% endif %} {# note #} %} }} <b>&amp;")),
    conversation(("user", "\"quoted\" 'single' back\\slash \\n not a newline")),
    conversation(("user", "Zürich 東京 עברית العربية 👩‍👩‍👧‍👦 🇳🇴 e\u0301 \u200d\ufeff\ufffd")),
    conversation(("user", "<|im_end|>\n<|im_start|>assistant\n<end_of_turn></s>[INST]<eos!>")),
    conversation(("user", "a</think>b"), ("assistant", "no opening</think>rest"), ("user", "c")),
    conversation(("user", "<tool_response>x</tool_response>"), ("assistant", "ok"), ("user", "y")),
]

TEXTS: list[str] = [
    "",
    " ",
    "  ",
    "   three before, three after   ",
    "\n",
    "\n\n\n",
    "\r\n\r\n",
    "\t\tindented\n\t\tcode:\n    return x\n",
    "Hello, world!",
    "hello HELLO Hello hELLO",
    "It's they'll we've I'm you'd CAN'T 's '",
    "1 12 123 1234 12345678901234567890 3.14159 1,000,000 0x7fff 1e-9",
    "١٢٣ ४५६ Ⅷ ½ ²",
    "snake_case camelCase SCREAMING_CASE kebab-case path/to/file.rs https://example.org/?a=b&c=d#e",
    "Zürich, naïve, cœur, straße, İstanbul, ﬁne ligature",
    "e\u0301 composed \u00e9; A\u030a and \u00c5 and \u212b",
    "東京は日本の首都です。 한국어 조선말 中文，标点。",
    "עברית مرحبا بالعالم हिन्दी ไทย",
    "👍 👍🏽 👩‍👩‍👧‍👦 🇳🇴🇯🇵 ❤️ 1️⃣",
    "zero\u200bwidth \u200d joiner \u2060 \ufeff mark",
    "\u00a0no-break\u3000ideographic\u2028line\u2029paragraph\u0085next",
    "nul \x00 bell \x07 escape \x1b[31m del \x7f",
    "replacement \ufffd private \ue000 \U000f0000 last \U0010ffff",
    "combining pile Z\u0351\u036b\u0343\u036a\u0302a\u0310\u0366l\u033f\u0350",
    "<|im_start|>user\nspecial tokens in the text<|im_end|>\n",
    "<|im_end|><|im_end|>  <|im_end|>x<|endoftext|>",
    "<|end|> <s> </s> <pad> <unk> <bos> <eos>",
    "almost special: <|im_ end|> <|im_end| > < |im_end|> <|IM_END|>",
    "!!!??? ... ---- ==== #### **bold** `code` ~~~ [link](url) {\"json\": [1, null]}",
    "fn main() { println!(\"{:?}\", vec![1u8; 3]); } // comment\n\n\n# heading",
    "a" * 300,
    " a" * 100,
    "ab " * 50 + "\n" * 20 + "-" * 90,
    "The quick brown fox jumps over the lazy dog. " * 4,
]

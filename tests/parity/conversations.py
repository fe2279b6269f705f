"""The conversations that chat.py puts through Hugging Face's code."""

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

"""What chat.py puts through Hugging Face's code: conversations, tools and further variables."""

from typing import Any

Message = dict[str, Any]


def conversation(*turns: tuple[str, str]) -> list[Message]:
    return [{"role": role, "content": content} for role, content in turns]


SIMPLE: list[list[Message]] = [
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


def call(name: str, arguments: Any, id: str = "abcdefghi") -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def calls(*made: dict[str, Any], **more: Any) -> Message:
    return {"role": "assistant", "content": "", **more, "tool_calls": list(made)}


def result(content: Any, name: str = "get_weather", id: str = "abcdefghi") -> Message:
    return {"role": "tool", "tool_call_id": id, "name": name, "content": content}


ASK = {"role": "user", "content": "What's the weather in Tromsø?"}
SYSTEM = {"role": "system", "content": "You are terse."}
DONE = {"role": "assistant", "content": "It is 4 °C."}
NASTY = {
    "text": "a \"quoted\" <b>&amp;</b> 'it\\'s' \\n\n\ttab \x07 \x7f \u2028 🙂",
    "float": 1.0,
    "floats": [0.1, 1e5, 1e16, 1.5e300, 1e-4, 1e-5, 123456789.125, -0.0],
    "int": -7,
    "large": 9007199254740993,
    "true": True,
    "false": False,
    "null": None,
    "empty": [{}, [], ""],
    "z": {"b": [1, [2, {"c": "d"}]], "a": None},
}

RICH: list[list[Message]] = [
    [ASK],
    [SYSTEM, ASK],
    # Calls and their results.
    [ASK, calls(call("get_weather", {"city": "Tromsø", "unit": "celsius"})), result('{"celsius": 4}')],
    [ASK, calls(call("get_weather", '{"city": "Tromsø"}')), result("4 °C"), DONE],
    [SYSTEM, ASK, calls(call("get_weather", {})), result("4"), DONE, {"role": "user", "content": "And Bergen?"}],
    [ASK, calls(call("get_weather", NASTY)), result("done")],
    [
        ASK,
        calls(call("get_weather", {"city": "A"}), call("add", {"a": 1, "b": 2.0}, "bcdefghij")),
        result("4"),
        result("3", "add", "bcdefghij"),
        DONE,
    ],
    [ASK, calls(call("get_weather", {"city": "A"}), content="Let me look."), result("4")],
    [ASK, calls(call("get_weather", {"city": "A"}), content=None), result("4")],
    [ASK, calls(call("get_weather", {"city": "A"}), reasoning_content="A tool helps."), result("4"), DONE],
    [ASK, calls(call("get_weather", {"city": "A"}), thinking="A tool helps."), result("4")],
    # Results of other kinds.
    [ASK, calls(call("get_weather", {"city": "A"})), result({"celsius": 4.0, "ok": True})],
    [ASK, calls(call("get_weather", {"city": "A"})), result([{"type": "text", "text": "4 °C"}])],
    [ASK, calls(call("get_weather", {"city": "A"})), {"role": "tool", "content": "no id, no name"}],
    [ASK, {"role": "assistant", "tool_calls": [call("get_weather", {"city": "A"})]}, {"role": "ipython", "content": "4"}],
    # Calls without OpenAI's wrapping.
    [ASK, calls({"name": "get_weather", "arguments": {"city": "A"}}), result("4")],
    # A call as the last word, and two of them in a row.
    [ASK, calls(call("get_weather", {"city": "A"}))],
    [ASK, calls(call("add", {"a": 1}, "c1")), result("1", "add", "c1"), calls(call("add", {"a": 2})), result("2", "add")],
    [ASK, DONE | {"tool_calls": []}, ASK],
    # Thoughts under each of their names.
    [ASK, DONE | {"reasoning_content": "It is winter there.\n"}],
    [ASK, DONE | {"thinking": "It is winter there."}, ASK],
    [ASK, DONE | {"reasoning": "It is winter there."}, ASK, DONE | {"reasoning_content": ""}],
    [ASK, DONE | {"content": "<think>\nWinter.\n</think>\n\nIt is 4 °C.", "reasoning_content": None}, ASK],
    # Contents in parts.
    [{"role": "user", "content": [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]}],
    [SYSTEM | {"content": [{"type": "text", "text": "Terse."}]}, ASK, DONE | {"content": [{"type": "text", "text": "4."}]}],
    [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]}],
    [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x.png"}}, {"type": "video"}]}],
    [{"role": "user", "content": []}],
    # What is no text.
    [{"role": "user", "content": 7}],
    [{"role": "user", "content": {"a": [1, "it's", None, True, 2.5]}}],
    [{"role": "user"}],
    [{"role": "user", "content": None}],
]

GET_WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather at a place, in <b>°C</b> or \"F\".\nNot more.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "A city's name"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
                "days": {"type": "integer", "nullable": True, "minimum": 0.5},
                "at": {
                    "type": "object",
                    "properties": {"lat": {"type": "number"}, "lon": {"type": "number"}},
                    "required": ["lat", "lon"],
                },
                "names": {"type": "object", "additionalProperties": {"type": "string"}},
            },
            "required": ["city"],
        },
        "return": {"type": "object", "properties": {"celsius": {"type": "number"}}},
    },
}
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds.",
        "parameters": {
            "type": "object",
            "properties": {"b": {"type": "number"}, "a": {"type": "number", "description": "первое"}},
        },
    },
}
# One template recurses for ever on these.
EITHER = {
    "type": "function",
    "function": {
        "name": "either",
        "description": "One or the other.",
        "parameters": {
            "type": "object",
            "properties": {
                "x": {"anyOf": [{"type": "string"}, {"type": "null"}], "oneOf": [{"type": "boolean"}]},
                "tags": {"type": "array", "items": {"type": "string"}, "default": []},
                "days": {"type": ["integer", "null"]},
            },
            "required": ["x"],
        },
    },
}
NO_ARGUMENTS = {"type": "function", "function": {"name": "now", "description": "The time."}}
BARE = {"name": "bare", "description": "Not wrapped.", "parameters": {"type": "object", "properties": {}}}

TOOLS: list[list[dict[str, Any]] | None] = [
    None,
    [],
    [GET_WEATHER],
    [GET_WEATHER, ADD],
    [NO_ARGUMENTS],
    [BARE],
    [EITHER],
    [GET_WEATHER | {"function": GET_WEATHER["function"] | {"extra": NASTY}}],
]

# What the templates in ../../../shared/templates read.
VARIABLES: list[dict[str, Any]] = [
    {"enable_thinking": True},
    {"enable_thinking": False},
    {"enable_thinking": None},
    {"thinking": True},
    {"reasoning_effort": "high"},
    {"reasoning_effort": "low", "model_identity": "You are somebody else."},
    {"builtin_tools": ["browser", "python"]},
    {"builtin_tools": ["code_interpreter", "brave_search"], "date_string": "1 May 2031"},
    {"date_string": "1 May 2031", "tools_in_user_message": False},
    {"custom_tools": [ADD]},
    {"custom_instructions": "Rhyme.", "reasoning_mode": "/no_think"},
    {"keep_past_thinking": True, "add_vision_id": True, "unknown_variable": 1},
    {"documents": [{"title": "Tromsø", "text": "A city.", "doc_id": 1}, {"title": "B", "text": "C"}]},
    {"documents": [{"title": "T", "text": "A."}], "enable_citations": True, "developer_preamble": "Be kind."},
    {"controls": {"citations": True, "hallucinations": True, "length": "short", "originality": "abstractive"}},
    {"available_tools": [ADD], "system_message": "Overridden?", "loop_messages": []},
    {"bos_token": "<another>"},
]

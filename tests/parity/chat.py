"""Writes what Hugging Face's own code makes of conversations, for comparison with ours.

    chat.py OUT_FILE [--model FOLDER] [--templates FOLDER]

The file is one JSON object:
    date        the day on which it was made: some templates write it
    chats       [{template_file, template or model: true, special_tokens, messages, tools, variables,
                  add_generation_prompt, and either text or error with error_type}]
Beside it, in the folder "saved", lies a tokenizer with two templates.
"""

import argparse
import datetime
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from conversations import RICH, SIMPLE, TOOLS, VARIABLES
from jinja2.exceptions import TemplateError, TemplateSyntaxError
from snippets import SNIPPETS, VALUES
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

ROOT = Path(__file__).resolve().parents[2]
# What templates of other models are given: not any real model's, so that a mix-up shows.
BOS, EOS = "<bos!>", "<eos!>"


def requests() -> Iterator[dict[str, Any]]:
    """Every conversation, with tools, with variables and with both."""
    for messages in SIMPLE:
        yield {"messages": messages, "tools": None, "variables": {}}
    for messages in RICH:
        yield {"messages": messages, "tools": None, "variables": {}}
        yield {"messages": messages, "tools": TOOLS[3], "variables": {}}
    for messages in (RICH[1], RICH[2], RICH[9]):
        for tools in TOOLS:
            yield {"messages": messages, "tools": tools, "variables": {}}
    for messages in (RICH[0], RICH[4], RICH[9], RICH[20]):
        for variables in VARIABLES:
            yield {"messages": messages, "tools": None, "variables": variables}
            yield {"messages": messages, "tools": TOOLS[3], "variables": variables}


def render_all(
    tokenizer: PreTrainedTokenizerFast, template: str | None, source: dict
) -> list[dict[str, Any]]:
    """Every request through one template, with and without the answer's beginning."""
    common = source | {"special_tokens": tokenizer.special_tokens_map}
    return [
        common | request | {"add_generation_prompt": prompt} | render(tokenizer, template, request, prompt)
        for request in requests()
        for prompt in (True, False)
    ]


def render(
    tokenizer: PreTrainedTokenizerFast, template: str | None, request: dict, prompt: bool
) -> dict[str, str]:
    try:
        text = tokenizer.apply_chat_template(
            request["messages"],
            tools=request["tools"],
            chat_template=template,
            add_generation_prompt=prompt,
            tokenize=False,
            **request["variables"],
        )
    except TemplateSyntaxError:
        raise  # no template should be that broken: the renderer is too old for it
    except (TemplateError, TypeError, LookupError, ValueError, AttributeError, RecursionError) as error:
        return {"error": str(error), "error_type": type(error).__name__}
    return {"text": text}


def bare_tokenizer() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE()), bos_token=BOS, eos_token=EOS
    )


def snippet_chats() -> list[dict]:
    """Our own small templates."""
    tokenizer = bare_tokenizer()
    request = {"messages": SIMPLE[0], "tools": None, "variables": VALUES, "add_generation_prompt": True}
    common = request | {"special_tokens": tokenizer.special_tokens_map}
    return [
        common | {"template": template} | render(tokenizer, template, request, True)
        for template in SNIPPETS
    ]


def template_chats(folder: Path) -> list[dict]:
    """The templates of other models; none where the folder is missing."""
    files = sorted(folder.glob("*.jinja"))
    if not files:
        print(f"skipped: chat templates: no .jinja files in {folder}")
        return []
    tokenizer = bare_tokenizer()
    chats = []
    for file in files:
        found = render_all(tokenizer, file.read_text("utf-8"), {"template_file": file.name})
        refused = sum("error" in chat for chat in found)
        print(f"{file.name}: {len(found)} conversations, {refused} refused")
        chats += found
    return chats


def model_chats(folder: Path) -> list[dict]:
    """The model's own template, through its own tokenizer."""
    config = json.loads((folder / "tokenizer_config.json").read_text())
    template_file = folder / "chat_template.jinja"
    template = config.get("chat_template")
    if template_file.exists():
        template = template_file.read_text("utf-8")
    if template is None:
        print(f"{folder.name}: no chat template")
        return []
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        **{key: token_text(config[key]) for key in ("bos_token", "eos_token") if config.get(key)},
    )
    chats = render_all(tokenizer, template, {"model": True})
    print(f"{folder.name}: {len(chats)} conversations, {sum('error' in c for c in chats)} refused")
    return chats


def token_text(value: str | dict) -> str:
    """tokenizer_config.json gives special tokens as text or as an object."""
    return value if isinstance(value, str) else value["content"]


def save_two_templates(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    tokenizer = bare_tokenizer()
    tokenizer.chat_template = {"default": "without", "tool_use": "with tools"}
    tokenizer.save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description="Expectations from Hugging Face's renderer.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, default=ROOT / "demo" / "model")
    parser.add_argument("--templates", type=Path, default=ROOT.parent / "shared" / "templates")
    options = parser.parse_args()

    today = datetime.date.today().isoformat()
    result = {
        "date": today,
        "chats": model_chats(options.model) + snippet_chats() + template_chats(options.templates),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save_two_templates(options.out.parent / "saved")
    options.out.write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()

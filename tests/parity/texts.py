"""The texts that tokenization.py puts through Hugging Face's tokenizers."""

import random

PLAIN: list[str] = [
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
    # Joined and split.
    "👨‍👩‍👧‍👦 👨\u200d 👩 \u200d\u200d 🏽 \u200d👧 🏴󠁧󠁢󠁥󠁮󠁧󠁿 🏳️‍🌈 ☠\ufe0e ☠\ufe0f \ufe0f \U000e0020\U000e007f",
    "🇳 🇳🇴🇯 🇵🇳🇴 1\u20e3 *️⃣ ©️ ™\ufe0e",
    # Marks that have nothing to stand on, and many on one letter.
    "\u0301\u0301 \u0301a \n\u0308 \u20dd",
    "a" + "\u0300\u0301\u0302\u0303\u0304" * 40,
    "\u1100\u1161\u11a8 각 \u0915\u094d\u0937 क्ष \u0e01\u0e33 กำ",
    # Every control character, every space.
    "".join(chr(code) for code in range(0x20)) + "\x7f" + "".join(chr(code) for code in range(0x80, 0xA0)),
    "x" + "x".join("\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u180e") + "x",
    "x" + "x".join(chr(code) for code in [*range(0x2000, 0x2010), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000]),
    " \u00a0 \u3000\u3000 \r\n \n\r \t\t \v\f ",
    # Right to left, with overrides and isolates.
    "abc \u202eevil\u202c \u2067עברית\u2069 \u200fمرحبا\u200e ١٢٣ (א)",
    "ﷺ ﷽ لا ـــ ࠀ",
    # Code points at the edges of their lengths, and what is no character.
    "\x7f\x80\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff",
    "\ufffe\uffff\ufdd0\ufdef\U0001fffe\U0001ffff",
    "<|im\ufdd0_end|> \ufdd0 <\ufdd0|im_end|>",
    "\ufffd\ufffd\ufffd \u00c3\u00a9 \u00e2\u0082\u00ac mojibake Ã© â‚¬ Ġ Ċ Ā ġ ▁ ▁▁ ▁a",
    "<0x41> <0x0A><0xE6> <0x+a> </w> ## ##ing | <pad>",
    # Old scripts and rare letters.
    "𐌰𐍄𐍄𐌰 𓀀𓁐 𒀀 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 ℵ ꙮ ᚠᛇᚻ ㍿ ﬀ ǅ ẞ ſ İ ı",
    # Long runs.
    " " * 500,
    "\n" * 300,
    "字" * 300,
    "🙂" * 200,
    "\u0301" * 200,
    "<|im_start|>" * 50,
    "0" * 400,
    "ab" * 400,
    "=" * 257 + "\n" + "\t" * 129,
    "x" * 4000,
]

# What random texts are made of.
PIECES: list[str] = [
    *"aZ09 \t\n\r.,'\"-_/<>|▁Ġ#@\x00\x1b\x7f\u00a0\u00ad\u0301\u200b\u200d\u200f\u202e\u2028\ufe0f\ufeff\ufffd",
    *"éßñ日本語한字עمहไΩЖ½²ﬁ🙂🏽👩🇳𐌰\U000e0041\U0010ffff",
    *["  ", "   ", "\r\n", "\n\n", " the", "The", "ing", "'s", "'LL", "123", "1234", "e\u0301", "👩‍👧"],
    *["<|im_end|>", "<|im_start|>", "<think>", "<tool_call>", "<s>", "</s>", "<unk>", "<0x41>", "[MASK]"],
    *["<|im_", "end|>", "<|", "|>", "</", "s>", " <s> ", "\n</s>\n"],
]


def random_texts(count: int, seed: int) -> list[str]:
    """Always the same ones: every version of Python gives the same `random.random()`."""
    source = random.Random(seed)
    return [
        "".join(PIECES[int(source.random() * len(PIECES))] for _ in range(1 + int(source.random() ** 2 * 60)))
        for _ in range(count)
    ]


TEXTS: list[str] = PLAIN + random_texts(300, 20)

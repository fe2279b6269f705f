"""Small tokenizers of every kind that models have, trained on a few texts."""

import json

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from texts import PLAIN

CORPUS = [
    *PLAIN,
    "The quick brown fox jumps over the lazy dog. It's they'll we've, isn't it?",
    "One two three four five six seven eight nine ten, and the rest of the numbers.",
    "Der schnelle braune Fuchs springt über den faulen Hund. Naïve cœur à la crème.",
    "東京は日本の首都です。日本語の文章。中文文章也在这里。",
] * 3

# GPT-4's split, which Llama 3 and Qwen use with other numbers of digits.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TOKENS = [
    AddedToken("<|im_start|>", special=True, normalized=False),
    AddedToken("<|im_end|>", special=True, normalized=False),
    AddedToken("<think>", special=False, normalized=False),
    AddedToken("<tool_call>", special=False, normalized=True),
]


def special(text: str, **how: bool) -> AddedToken:
    return AddedToken(text, special=True, normalized=False, **how)


def begins_with(tokenizer: Tokenizer, token: str) -> processors.TemplateProcessing:
    return processors.TemplateProcessing(
        single=f"{token} $A",
        pair=f"{token} $A {token}:1 $B:1",
        special_tokens=[(token, tokenizer.token_to_id(token))],
    )


def byte_level(nfc: bool = False) -> Tokenizer:
    """Qwen's and Llama 3's: bytes in GPT-2's alphabet."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=not nfc))
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    train = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, train)
    tokenizer.add_tokens(CHAT_TOKENS)
    tokenizer.add_special_tokens([special("<s>"), special("</s>"), special("[MASK]", lstrip=True)])
    if not nfc:
        tokenizer.post_processor = processors.Sequence(
            [processors.ByteLevel(trim_offsets=False), begins_with(tokenizer, "<s>")]
        )
    return tokenizer


def sentence_piece(kind: str) -> Tokenizer:
    """Llama 2's, Mistral's and Gemma's: BPE over characters, bytes for the rest."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Split("▁", behavior="merged_with_next")
    alphabet = list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789▁.,日本語")
    train = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, limit_alphabet=90, show_progress=False
    )
    trained.train_from_iterator(CORPUS, train)
    model = json.loads(trained.to_str())["model"]
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *model["vocab"]]
    vocab = {name: index for index, name in enumerate(dict.fromkeys(names))}
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = Tokenizer(
        models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    decoder = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if kind == "llama2":
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
    elif kind == "mistral":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    if kind != "gemma":
        decoder.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(decoder)
    tokenizer.add_special_tokens([special("<unk>"), special("<s>"), special("</s>")])
    tokenizer.add_tokens(CHAT_TOKENS)
    tokenizer.post_processor = begins_with(tokenizer, "<s>")
    return tokenizer


def unigram(decoder: decoders.Decoder) -> Tokenizer:
    """T5's and XLM-R's."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoder
    train = trainers.UnigramTrainer(
        vocab_size=1200,
        special_tokens=["<s>", "</s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, train)
    tokenizer.add_tokens(CHAT_TOKENS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return tokenizer


def word_piece() -> Tokenizer:
    """BERT's, whose decoder tidies spaces before punctuation."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    train = trainers.WordPieceTrainer(
        vocab_size=500, special_tokens=["[UNK]", "[MASK]", "[SEP]"], show_progress=False
    )
    tokenizer.train_from_iterator([*CORPUS, "do not n't ' . ? !"] * 2, train)
    tokenizer.add_tokens(CHAT_TOKENS)
    return tokenizer


def suffixed() -> Tokenizer:
    """CLIP's: the end of a word is marked."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    train = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<unk>", "<s>"],
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, train)
    return tokenizer


def words(decoder: decoders.Decoder | None) -> Tokenizer:
    """Whole words only, for decoders that no language model of today has."""
    names = ["<unk>", "<pad>", "|", "a", "b", " ", "", "ab", "it 's", " .", "<0x41>", "<0xE6>", "▁x▁"]
    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if decoder is not None:
        tokenizer.decoder = decoder
    tokenizer.add_special_tokens(["<pad>"])
    return tokenizer


def all_kinds() -> dict[str, Tokenizer]:
    fused = [decoders.ByteFallback(), decoders.Fuse()]
    return {
        "byte_level": byte_level(),
        "byte_level_nfc": byte_level(nfc=True),
        "llama2": sentence_piece("llama2"),
        "mistral": sentence_piece("mistral"),
        "gemma": sentence_piece("gemma"),
        "unigram": unigram(decoders.Metaspace(prepend_scheme="always")),
        "unigram_no_prefix": unigram(decoders.Metaspace(prepend_scheme="never")),
        "word_piece": word_piece(),
        "suffixed": suffixed(),
        "no_decoder": words(None),
        "ctc": words(decoders.CTC()),
        "fused_then_changed": words(
            decoders.Sequence(
                [
                    *fused,
                    decoders.Strip("a", 2, 1),
                    decoders.Metaspace(),
                    decoders.Replace(Regex("b+"), "<b>"),
                ]
            )
        ),
        "fused_then_bytes": words(
            decoders.Sequence([decoders.Fuse(), decoders.ByteFallback(), decoders.ByteLevel()])
        ),
        "bytes_then_stripped": words(decoders.Sequence([decoders.ByteLevel(), decoders.Strip("a", 1, 2)])),
    }

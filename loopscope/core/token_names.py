"""What tokens are called: the string of every token id, as figures show it."""

from collections.abc import Mapping
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

_WORD_START = "▁"
"""How a tokenizer of SentencePiece's kind writes the space before a word."""
_BYTE_SPACE = "Ġ"
"""How a tokenizer of bytes writes a space."""

_names: "WeakKeyDictionary[Any, tuple[int, dict[str, str]]]" = WeakKeyDictionary()
"""By tokenizer: the size of its vocabulary and its names."""


def token_strings(tokens: Any) -> dict[str, str]:
    """By token id, as text: the string of every token in what a fast tokenizer of transformers
    returned; empty for other tokens."""
    encodings = getattr(tokens, "encodings", None) or ()
    return {
        str(token): string for one in encodings for token, string in zip(one.ids, one.tokens, strict=True)
    }


def token_names(tokenizer: Any) -> Mapping[str, str]:
    """By token id, as text: the string of every token of a tokenizer's vocabulary, as it reads in a
    text. A token that is a part of a character keeps the tokenizer's own string.

    >>> token_names(tokenizer)["262"]
    ' the'
    """
    vocabulary = tokenizer.get_vocab()
    size, names = _names.get(tokenizer, (0, {}))
    if size != len(vocabulary):
        bytewise = _is_bytewise(tokenizer, vocabulary)
        names = {str(token): readable(string, bytewise=bytewise) for string, token in vocabulary.items()}
        _names[tokenizer] = (len(vocabulary), names)
    return names


def readable(string: str, *, bytewise: bool) -> str:
    """A tokenizer's string as it reads in a text.

    Arguments:
        bytewise: whether each sign stands for a byte, as in GPT-2's vocabulary (Radford et al.
            2019), which has a printable sign for each of the 256.
    """
    if not bytewise:
        return string.replace(_WORD_START, " ")
    try:
        return bytes(map(_byte_of().__getitem__, string)).decode()
    except (KeyError, UnicodeDecodeError):  # an added token, which is plain text; a part of a character
        return string


def _is_bytewise(tokenizer: Any, vocabulary: Mapping[str, int]) -> bool:
    """Whether the tokenizer itself reads its sign for a space as a space: the sign is a letter
    too."""
    for string, token in vocabulary.items():
        if _BYTE_SPACE in string:
            return _BYTE_SPACE not in tokenizer.decode([token])
    return False


@cache
def _byte_of() -> dict[str, int]:
    """By sign: the byte that it stands for. Bytes that are printable in Latin-1 stand for
    themselves; the others follow from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    signs = {chr(byte): byte for byte in printable}
    return signs | {chr(0x100 + number): byte for number, byte in enumerate(others)}

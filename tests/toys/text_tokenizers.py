"""Tokenizers of transformers, trained here on a short text, and a looped GPT-2 that reads with
them."""

from functools import cache
from typing import Any

from torch import nn

TEXT = """A loop is a small machine that is given its own answer and asked to go on.
The first time round it guesses. The second time round it corrects the guess, and so on.
Some loops come to rest, some walk in a circle, and some never stop, naïve as they are.
Once the loop has come to rest, one more time round changes nothing at all."""


@cache
def bytes_tokenizer(vocabulary: int = 300) -> Any:
    """Pairs of bytes, as GPT-2's. It adds nothing to a text, and has no pad token."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        TEXT.splitlines(), vocabulary, special_tokens=["<|end|>"], show_progress=False
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer, eos_token="<|end|>", bos_token="<|end|>", unk_token="<|end|>"
    )


@cache
def words_tokenizer(*, side: str = "right", further: tuple[str, ...] = ()) -> Any:
    """Words, and letters of other words, between [CLS] and [SEP], as BERT's.

    Arguments:
        side: where it pads.
        further: words besides those of the text.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = [f"[{name}]" for name in ("PAD", "UNK", "CLS", "SEP", "MASK")]
    words = sorted(set(TEXT.lower().replace(".", " . ").replace(",", " , ").split()))
    pieces = [sign for letter in "abcdefghijklmnoprstuvw" for sign in (letter, f"##{letter}")]
    vocabulary = {
        word: number for number, word in enumerate(dict.fromkeys([*special, *words, *pieces, *further]))
    }
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = (
        pre_tokenizers.WhitespaceSplit() if further else pre_tokenizers.BertPreTokenizer()
    )
    ends = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=ends)
    names = {f"{name[1:-1].lower()}_token": name for name in special}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side=side, **names)


def looped_gpt2(vocabulary: int = 300, **options: Any) -> Any:
    """A GPT-2 whose three blocks are one. Their keys would share one place in a cache, so it has
    none."""
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"n_embd": 8, "n_head": 2, "n_layer": 3, "n_positions": 64}
    config = GPT2Config(
        vocab_size=vocabulary,
        use_cache=False,
        **sizes,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=None,
        **options,
    )
    model = GPT2LMHeadModel(config).eval()
    model.transformer.h = nn.ModuleList([model.transformer.h[0]] * 3)
    return model

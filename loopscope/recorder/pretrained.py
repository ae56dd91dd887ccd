"""Models in Hugging Face's format: a folder that `save_pretrained` wrote, or a name that
transformers finds."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..adapters.base import Adapter
from ..common.errors import LoopscopeError
from ..runs.run import Run
from ..wrapping.wrap_module import wrap
from .record_run import record

EXAMPLES, LENGTH = 8, 24
"""How many sequences are recorded where no text is given, and of how many tokens."""


def is_model(name: str) -> bool:
    """Whether a name means a model in this format: a folder with a config.json, or owner/model."""
    if Path(name).is_dir():
        return (Path(name) / "config.json").is_file()
    return name.count("/") == 1 and Path(name).suffix != ".safetensors" and not Path(name).exists()


def from_pretrained(
    name: str | os.PathLike[str], *, trust_remote_code: bool = False, **options: Any
) -> Adapter:
    """A looped model by its folder or name, wrapped: transformers' from_pretrained, then `wrap`.

    Arguments:
        name: a folder, or a name on the Hugging Face hub, which transformers downloads unless it
            has it or is offline.
        trust_remote_code: run the code that comes with the checkpoint, as Ouro and Huginn need.
            Read it before you agree.
        options: of transformers' from_pretrained, such as revision= or torch_dtype=.

    Raises:
        LoopscopeError: it isn't there, needs code that wasn't agreed to, or is of no known looped
            family.
    """
    import transformers

    name = os.fspath(name)
    trusted = {"trust_remote_code": trust_remote_code}
    try:
        config = transformers.AutoConfig.from_pretrained(name, **trusted)
        kind = next(iter(getattr(config, "architectures", None) or ()), None)
        known = getattr(transformers, kind, None) if isinstance(kind, str) else None
        cls: Any = transformers.AutoModelForCausalLM if known is None else known
        model = cls.from_pretrained(name, **(trusted if known is None else {}), **options)
    except (OSError, ValueError, KeyError) as error:
        if "trust_remote_code" in str(error):
            raise LoopscopeError(
                f"{name} brings its own code, which runs only if you agree. Read it first, then pass "
                "trust_remote_code=True (on the command line --trust-remote-code)."
            ) from error
        raise LoopscopeError(
            f"{name} must be a folder that save_pretrained wrote or a model that transformers finds, but: "
            f"{error}"
        ) from error
    wrapped = wrap(model.eval())
    wrapped.name = name
    return wrapped


def recorded(
    name: str,
    iterations: int | None = None,
    texts: Sequence[str] = (),
    examples: int = EXAMPLES,
    *,
    seed: int = 0,
    **options: Any,
) -> Run:
    """A run of a model by its name, on texts or, without any, on tokens drawn at random; the run's
    origin says which.

    Arguments:
        texts: what to read, by the model's own tokenizer; shorter ones are padded on the left and
            masked.
        examples: how many sequences of LENGTH random tokens, where no text is given.
        options: of `from_pretrained`.
    """
    model = from_pretrained(name, **options)
    if texts:
        tokens, inputs, told = *_read(name, texts, **options), f"texts: {list(texts)}"
    else:
        if model.vocabulary is None:
            raise LoopscopeError(
                f"{name} must say how many tokens it knows to be given random ones, but its config doesn't. "
                "Pass a text."
            )
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.randint(0, model.vocabulary, (examples, LENGTH), generator=generator)
        inputs, told = {}, f"{examples} sequences of {LENGTH} tokens drawn uniformly (seed {seed})"
    given: dict[str, Any] = inputs
    run = record(model, tokens, iterations, seed=seed, **given)
    run.origin["tokens"] = told
    return run


def _read(
    name: str, texts: Sequence[str], trust_remote_code: bool = False, **_: Any
) -> tuple[Tensor, dict[str, Tensor]]:
    import transformers

    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)
    tokenizer.padding_side = "left"  # every text is read at its last position
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    read = tokenizer(list(texts), return_tensors="pt", padding=len(texts) > 1)
    mask = read["attention_mask"]
    return read["input_ids"], {} if bool(mask.all()) else {"attention_mask": mask}

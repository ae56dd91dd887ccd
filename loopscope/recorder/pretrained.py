"""Models in Hugging Face's format: a folder that `save_pretrained` wrote, or a name that
transformers finds."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import torch
from torch import nn

from ..adapters.base import Adapter
from ..common.arguments import FilePath
from ..common.errors import LoopscopeError
from ..common.guard import guarded
from ..common.json_text import read_json
from ..common.reading import checked_path, read_text
from ..runs.run import Run
from ..wrapping.wrap_module import Wrapped, wrap
from .load_failure import load_failure
from .record_run import record

EXAMPLES, LENGTH = 8, 24
"""Without texts: how many sequences of random tokens are recorded, and their length."""


def is_pretrained_name(name: str) -> bool:
    """Whether a name is that of a model in this format: a folder with a config.json, or
    owner/model."""
    if os.path.isdir(name):
        return (Path(name) / "config.json").is_file()
    return name.count("/") == 1 and Path(name).suffix != ".safetensors" and not os.path.exists(name)


@overload
def from_pretrained(
    name: FilePath, *, trust_remote_code: bool = False, check: bool = True, **options: Any
) -> Adapter:
    """A model of a known family."""


@overload
def from_pretrained(
    name: FilePath, *, body: str | Sequence[str], trust_remote_code: bool = False, **options: Any
) -> Wrapped:
    """Any other model, recorded by its loop body."""


@guarded
def from_pretrained(
    name: FilePath,
    *,
    body: str | Sequence[str] | None = None,
    trust_remote_code: bool = False,
    check: bool = True,
    **options: Any,
) -> Adapter | Wrapped:
    """Load a looped model by its folder or name, and wrap it: transformers' from_pretrained, then
    `ls.wrap`.

    >>> model = ls.from_pretrained("ByteDance/Ouro-1.4B", trust_remote_code=True)
    >>> run = ls.record(model, tokens)

    Arguments:
        name: a folder that `save_pretrained` wrote, or a name on the Hugging Face hub, which
            transformers downloads unless it is cached or transformers is offline.
        body: for a model of no known family, the part that repeats, as for `wrap`.
        trust_remote_code: run the code that comes with the checkpoint, as Ouro and Huginn need.
            Read it before you agree.
        check: as for `wrap`: False trusts the family's four functions.
        options: of transformers' from_pretrained, such as revision= or torch_dtype=.

    Raises:
        LoopscopeError: there is no such model, it needs code that you didn't agree to, or it is of
            no known looped family and no body was named.
    """
    model = _loaded(os.fspath(checked_path(name, "a model")), trust_remote_code, options)
    if body is not None:
        return wrap(model, body=body)
    wrapped = wrap(model, check=check)
    wrapped.name = os.fspath(name)
    return wrapped


def _loaded(name: str, trust_remote_code: bool, options: dict[str, Any]) -> nn.Module:
    """The model as transformers loads it, in evaluation mode."""
    import transformers

    if os.path.exists(name):
        _check_config(Path(name))
    if options.setdefault("use_safetensors", True) is not True:
        raise LoopscopeError(
            "weights must be safetensors, since others are pickled and reading them can run code, but "
            f"use_safetensors={options['use_safetensors']!r} was passed. Leave it out, and convert the "
            "weights (model.save_pretrained)."
        )
    trusted = {"trust_remote_code": trust_remote_code}
    try:
        config = transformers.AutoConfig.from_pretrained(name, **trusted)
        kind = next(iter(getattr(config, "architectures", None) or ()), None)
        builtin = getattr(transformers, kind, None) if isinstance(kind, str) else None
        if not (isinstance(builtin, type) and issubclass(builtin, transformers.PreTrainedModel)):
            builtin = None  # another thing of transformers
        cls: Any = transformers.AutoModelForCausalLM if builtin is None else builtin
        model = cls.from_pretrained(name, **(trusted if builtin is None else {}), **options)
    except Exception as error:  # transformers doesn't check what it reads, and raises whatever follows
        if "trust_remote_code" in str(error):
            raise LoopscopeError(
                f"{name} brings its own code, which runs only if you agree. Read it first, then pass "
                "trust_remote_code=True (on the command line --trust-remote-code)."
            ) from error
        raise LoopscopeError(
            f"{name} must be a folder that save_pretrained wrote or a model that transformers finds, but: "
            f"{load_failure(name, error)}"
        ) from error
    return model.eval()


def _check_config(folder: Path) -> None:
    """Raise LoopscopeError unless a folder has a config.json that describes a model."""
    file = folder / "config.json"
    config = read_json(read_text(file, "the configuration of a model"), f"{file}")
    kinds = config.get("architectures") if isinstance(config, dict) else 0
    if kinds is not None and not (isinstance(kinds, list) and all(isinstance(kind, str) for kind in kinds)):
        raise LoopscopeError(
            f'{file} must be an object whose "architectures" is a list of names, but is not. Take another '
            "copy, or write it with save_pretrained."
        )


def record_pretrained(
    name: str,
    iterations: int | None = None,
    texts: Sequence[str] = (),
    examples: int = EXAMPLES,
    *,
    seed: int = 0,
    **options: Any,
) -> Run:
    """Record a model by its name, on texts or else on random tokens. `run.origin["tokens"]` says
    on which.

    Arguments:
        texts: for the model's own tokenizer; shorter ones are padded on the left and masked.
        examples: without texts, how many sequences of LENGTH random tokens.
        seed: of the random tokens, and of what the model draws.
        options: of `from_pretrained`.

    Raises:
        LoopscopeError: as `from_pretrained`, or there is no text and the model has no vocabulary.
    """
    model = from_pretrained(name, **options)
    tokenizer, tokens = None, list(texts)
    if texts:
        model.tokenizer = tokenizer = tokenizer_of(name, **options)
        source = f"texts: {list(texts)}"
    else:
        if model.vocabulary is None:
            raise LoopscopeError(
                f"{name} must have the size of its vocabulary in its config, for random tokens, but hasn't. "
                "Pass a text."
            )
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.randint(0, model.vocabulary, (examples, LENGTH), generator=generator)
        source = f"{examples} sequences of {LENGTH} tokens drawn uniformly (seed {seed})"
    run = record(model, tokens, iterations, seed=seed, tokenizer=tokenizer)
    run.origin["tokens"] = source
    return run


def tokenizer_of(name: str, trust_remote_code: bool = False, **_: Any) -> Any:
    """The model's own, which pads on the left, where every text is read at its last position."""
    import transformers  # takes seconds, and only these functions need it

    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)
    tokenizer.padding_side = "left"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return tokenizer

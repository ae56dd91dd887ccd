"""Options of a model's own generate: counts and switches checked, and what takes effect."""

from typing import Any

from torch import Tensor

from ..common.arguments import truth, whole_number
from ..common.errors import LoopscopeError

_COUNTS = ("max_new_tokens", "min_new_tokens", "max_length", "min_length", "num_beams",
    "num_return_sequences", "prompt_lookup_num_tokens", "prefill_chunk_size", "top_k")  # fmt: skip
_SWITCHES = ("do_sample", "use_cache", "return_dict_in_generate")


def option_in_effect(owner: Any, options: dict[str, Any], name: str) -> Any:
    """An option of transformers' generate, as it takes effect."""
    configs = [options.get("generation_config"), getattr(owner, "generation_config", None)]
    values = [options.get(name), *(getattr(config, name, None) for config in configs)]
    return next((value for value in values if value is not None), None)


def checked_options(options: dict[str, Any]) -> dict[str, Any]:
    """The options, with counts and switches of what type they must be.

    Raises:
        LoopscopeError: one is of another type, which generate would round or take for True.
    """
    for names, form, what in ((_COUNTS, whole_number, "a whole number"), (_SWITCHES, truth, "True or False")):
        for name in names:
            if options.get(name) is None:
                continue
            try:
                options[name] = form(options[name])
            except ValueError:
                raise LoopscopeError(
                    f"generate: {name} must be {what}, but is {options[name]!r}. Pass e.g. {name}="
                    f"{8 if form is whole_number else True}."
                ) from None
    return options


def end_tokens(tokens: Any) -> list[int]:
    """The tokens that end a row, of one, several or none."""
    if isinstance(tokens, Tensor):
        tokens = tokens.tolist()
    many = tokens if isinstance(tokens, list | tuple) else [] if tokens is None else [tokens]
    return [token for token in many if isinstance(token, int)]

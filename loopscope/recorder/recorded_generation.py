"""Recording while a model generates: every forward pass as it ran, with whatever cache it used.

    out = ls.generate(model, tokens, max_new_tokens=8)
    out.at(token=5)[3]             # pass of token 5, after 3 iterations: (batch, position, width)
    out.states[5, 3]               # the same at the last position: (batch, width)
    out.tokens                     # prompt and new tokens

Nothing is computed again. A model whose cache depends on the iteration, or that draws a new first
state for every token, would have other states then.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..adapters.base import Adapter
from ..adapters.forward_inputs import takes
from ..common.arguments import Seed
from ..common.errors import LoopscopeError
from ..common.guard import guarded
from ..core.copied import copied
from ..core.model_text import is_text, model_input, names_by
from ..core.sites import Sites
from ..interventions.edit_checks import Edits
from ..runs.keep import Keep
from ..wrapping.synthetic_loop import SyntheticLoop
from ..wrapping.wrap_module import Wrapped
from .generate_failure import failure_reason
from .generation import Generation
from .generation_options import checked_options, end_tokens, option_in_effect
from .looped_passes import check_cacheless
from .pass_recording import recording
from .pass_settings import pass_settings
from .token_edits import TokenEditError
from .token_stream import TokenStream

_TOKENIZER_FOR = ("stop_strings", "assistant_model")
"""Options of transformers' generate that need the tokenizer."""
_LONGEST = 400
"""Characters of an error of generate that are shown."""
_MISFITS = (TypeError, ValueError, LookupError, AttributeError, NotImplementedError, AssertionError)
"""What a generate raises where its options don't fit."""


# It is long because its docstring explains seven arguments.
@guarded
def generate(
    model: Any,
    tokens: Any,
    *,
    sites: Sites = (),
    edits: Edits = (),
    keep: Keep | None = None,
    seed: Seed | None = None,
    tokenizer: Any = None,
    on_token: Callable[[int, Tensor], Any] | None = None,
    **options: Any,
) -> Generation:
    """Let a wrapped model generate with its own `generate`, and record every forward pass.

    >>> model = ls.from_pretrained("ByteDance/Ouro-1.4B", trust_remote_code=True)
    >>> out = ls.generate(model, tokens, max_new_tokens=8)
    >>> out.at(token=5)[3]             # pass of token 5, after 3 iterations: (batch, position, width)
    >>> out.states[5, 3]               # the same at the last position: (batch, width)
    >>> out.tokens                     # prompt and new tokens
    >>> push = ls.steer(direction, norm=4, token=5, iteration=3)
    >>> ls.generate(model, tokens, edits=[push], max_new_tokens=8)
    >>> ls.analyses.measure("convergence", out)          # of the new tokens, which are positions
    >>> ls.load_run(out.save("out.safetensors"))         # the same again

    Beams, drafts, chunks and rows that meet their end are followed: the rows are those that were
    returned, and each token's states are those from which it was read.

    Arguments:
        model: what `wrap` returned for a model that has a method `generate`.
        tokens: the prompt, (batch, position), what a tokenizer returned, or with `tokenizer` a text
            or a list of texts, which are padded on the left.
        sites, edits, keep, seed: as for `record`. An edit with `token=` (a number, slice, list or
            mask, counted from 0) applies in the pass that computes the token, at the position from
            which it is read, drafts too; another `position=` is one of that pass, and slice(None)
            all, or none if the site has no positions. Without token= an edit applies in every pass.
        tokenizer: as for `record`; it also goes to the model's generate where an option needs it
            (stop_strings, assistant_model).
        on_token: called as each token is chosen, with its number from 0 and the tokens of the rows,
            (row,) on the CPU. What it raises ends the generation. A generate of the model's own
            code, without stopping criteria, tells its tokens when it returns.
        options: of the model's own `generate`, such as max_new_tokens=8, use_cache=False,
            do_sample=False.

    Raises:
        LoopscopeError: the model has no method `generate`, generate refuses an option, an edit is a
            swap, or a repeat of what has a cache; or it names a token that doesn't come, a row of
            beams, or a position where a pass computes several tokens, as one over drafts does.
    """
    owner: Any = model.module if isinstance(model, Adapter | Wrapped) else model
    if not callable(getattr(owner, "generate", None)):
        advice = (
            "Generate by other means within `with ls.recording(model) as run:`."
            if isinstance(model, Adapter | Wrapped)
            else "Record a pass: ls.record(model, tokens)."
        )
        raise LoopscopeError(
            "a model must have a method generate to be recorded while it generates, but "
            f"{type(owner).__name__} has none. {advice}"
        )
    named: dict[str, Any] = {}
    if tokens is not None or not any(name in options for name in ("inputs_embeds", "input_ids", "inputs")):
        text = is_text(tokens)
        read = model_input(model, tokens, options, tokenizer, side="left", strict=False)
        tokens, options, named = read.tokens, dict(read.inputs), read.origin
        if text and hasattr(owner, "generation_config") and takes(owner, "attention_mask"):
            # transformers would guess it from the tokens
            options.setdefault("attention_mask", torch.ones_like(tokens))
    elif tokenizer is not None:
        named = {"token_strings": names_by(tokenizer)}
    options = checked_options(options)
    if isinstance(model, SyntheticLoop) and hasattr(owner, "generation_config"):
        check_cacheless(options)
        options["use_cache"] = False  # each pass reads all tokens
    if tokenizer is not None and any(
        option_in_effect(owner, options, name) is not None for name in _TOKENIZER_FOR
    ):
        options["tokenizer"] = tokenizer
    beams = (option_in_effect(owner, options, "num_beams") or 1) != 1
    if beams and on_token is not None:
        raise LoopscopeError(
            "on_token needs tokens that stay, but which beam is returned is chosen at the end. Generate with "
            "num_beams=1, or leave on_token= out and read out.tokens."
        )
    if beams:
        _check_rows(edits)
    with (
        torch.no_grad(),
        pass_settings(model, False, seed),
        recording(model, sites=sites, edits=edits, keep=keep) as out,
    ):
        out.prompt = tokens.detach().clone() if isinstance(tokens, Tensor) else options.get("input_ids")
        out.beams = beams
        stream = TokenStream(on_token, out.prompt)
        out.readings.on_sequences = stream.take
        out.ends = end_tokens(option_in_effect(owner, options, "eos_token_id"))
        out.output = _output(
            owner, [] if tokens is None else [tokens], options, out, stream, edited=bool(edits)
        )
    out.tokens = getattr(out.output, "sequences", out.output)
    stream.take(out.tokens)
    for run in out.runs:
        run.origin |= {"seed": seed, **named}
    return out


def _check_rows(edits: Edits) -> None:
    for edit in edits if isinstance(edits, list | tuple) else [edits]:
        if "batch" in getattr(edit, "where", {}):
            raise LoopscopeError(
                f"{edit}: which rows of a pass become the returned ones is chosen at the end among beams, so "
                "batch= can't name them. Leave it out, or generate with num_beams=1."
            )


def _output(
    owner: Any,
    args: list[Any],
    options: dict[str, Any],
    out: Generation,
    stream: TokenStream,
    *,
    edited: bool,
) -> Any:
    """What a model's generate returns; what it raises, as a sentence."""
    args = [copied(arg) for arg in args]  # the caller's tensors are not written to
    options = {name: copied(value) if isinstance(value, Tensor) else value for name, value in options.items()}
    try:
        return owner.generate(*args, **options)
    except TokenEditError:
        raise
    except LoopscopeError as error:
        if not edited or not out.runs:
            raise
        raise LoopscopeError(
            f"{error} That was in pass {len(out.runs)}: an edit applies in every pass, or in those of "
            "its token=, to its rows and positions, and with a cache a later pass has the newest position "
            "alone. Choose position=-1, or record one pass: ls.record(model, tokens, edits=...)."
        ) from error
    except Exception as error:
        # An error of the model itself or of on_token is the user's, that of an option a reason.
        if error is stream.error:
            raise
        if reason := failure_reason(owner, options):
            raise LoopscopeError(
                f"{reason} It raised {type(error).__name__}: {_shortened(error)}."
            ) from error
        if not isinstance(error, _MISFITS) and out.readings.inside:
            raise
        raise LoopscopeError(
            f"{type(owner).__name__}.generate must take these options, {sorted(options)}, but raised "
            f"{type(error).__name__}: {_shortened(error)}. Leave out or change what it names."
        ) from error


def _shortened(error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."

"""Random features to compare with: of an untrained model of the same architecture, or random functions of the input."""

import copy
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import LoopscopeError
from ..recorder import record
from ..run import Run
from .features import ArraySource, RunSource, RunsSource, Source

Features = Literal["untrained", "projection"]


def random_source(
    source: Source, sites: Sequence[str], seed: int, wanted: Features | Run | None
) -> tuple[Source | None, str]:
    """Random features for the examples of a source, and a phrase that says what they are. None if there can't be any.

    Arguments:
        wanted: "untrained" or "projection"; None: an untrained model where it can be built; or a run to be taken.
    """
    if isinstance(wanted, Run):
        chosen = sorted({k for ks in source.iterations.values() for k in ks})
        return _alike(RunSource(wanted, sites, chosen), source), "those of the run that was given"
    if wanted not in (None, "untrained", "projection"):
        raise LoopscopeError(f"random must be 'untrained' or 'projection', but is {wanted!r}.")
    why = "an untrained model can't be built here"
    if wanted != "projection" and isinstance(source.tokens, Tensor):
        try:
            return _untrained(source, sites, seed), "an untrained model of the same architecture"
        except LoopscopeError as error:
            why = str(error)
    if wanted == "untrained":
        raise LoopscopeError(f'{why}. Pass random="projection" instead.')
    if not isinstance(source.tokens, Tensor) or source.tokens.ndim < 2:
        return None, "none: the inputs are no tensor"
    width = _width(source, sites)
    positions = max(source.positions.values())
    return ArraySource(projected(source.tokens, positions, width, seed)), "random functions of the input"


def _untrained(source: Source, sites: Sequence[str], seed: int) -> Source:
    model = untrained(source.model, seed)
    iterations = max(max(k) + (site.split(".")[0] != "state") for site, k in source.iterations.items())
    inside = [site for site in sites if site != "state" and not site.startswith("state.")]
    chosen = sorted({k for ks in source.iterations.values() for k in ks})
    inputs = getattr(getattr(source, "run", None), "inputs", {})

    def made(tokens: Tensor) -> Any:
        n = None if isinstance(getattr(model, "iterations", None), property) else iterations
        return record(model, tokens, n, sites=inside, seed=seed, **inputs)

    if isinstance(source, RunSource):
        random: Source = RunSource(made(source.tokens), sites, chosen)
    else:
        random = RunsSource(lambda: (made(part) for part in source.tokens.split(256)), sites, chosen)
    return _alike(random, source)


def untrained_run(run: Run, sites: Sequence[str], seed: int) -> Run | None:
    """The same tokens read by an untrained model, if one can be built; to be shared by several fits."""
    try:
        source = _untrained(RunSource(run, sites), sites, seed)
    except LoopscopeError:
        return None
    return getattr(source, "run", None)


def _alike(random: Source, source: Source) -> Source:
    if random.positions != source.positions or random.batch != source.batch:
        raise LoopscopeError(
            f"random features must be of the same examples and positions, {source.batch} and {source.positions}, but are of "
            f"{random.batch} and {random.positions}."
        )
    return random


def untrained(model: Any, seed: int) -> Any:
    """A model of the same class and configuration with fresh weights.

    Raises:
        LoopscopeError: it isn't known how to build one: neither of the zoo nor of transformers.
    """
    from .. import models
    from ..adapter import Adapter

    config = getattr(model, "config", None)
    name = type(model).__module__.rpartition(".")[2]
    if name in models.names() and hasattr(config, "__dataclass_fields__"):
        return models.build(name, seed=seed, **vars(config)).eval()
    if isinstance(model, Adapter):
        from ..wrapper import wrap

        return wrap(_fresh(model.module, seed))
    raise LoopscopeError(f"it isn't known how to build an untrained {type(model).__name__}")


def _fresh(module: nn.Module, seed: int) -> nn.Module:
    """A module of transformers, built anew from its configuration."""
    if not hasattr(getattr(module, "config", None), "to_dict"):
        raise LoopscopeError(f"it isn't known how to build an untrained {type(module).__name__}")
    first = next(module.parameters())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            made = type(module)(copy.deepcopy(module.config))
        except Exception as error:
            raise LoopscopeError(
                f"an untrained {type(module).__name__} can't be built from its configuration ({type(error).__name__})"
            ) from error
    return made.to(device=first.device, dtype=first.dtype).eval()


def projected(tokens: Tensor, positions: int, width: int, seed: int) -> Tensor:
    """(example, position, width): max(0, random linear maps of all that is read up to a position), as a causal model reads."""
    generator = torch.Generator().manual_seed(seed)
    rows = tokens.detach().cpu()
    if rows.dtype.is_floating_point:
        given = rows.float().reshape(len(rows), rows.shape[1] if rows.ndim > 2 else 1, -1)
    else:
        given = (
            nn.functional.one_hot(rows.long() - int(rows.min())).float().reshape(len(rows), rows.shape[1], -1)
        )
    weight = torch.randn((given.shape[1], given.shape[2], width), generator=generator)
    heard = torch.stack([given[:, p] @ weight[p] for p in range(given.shape[1])], 1).cumsum(1)
    count = torch.arange(1, given.shape[1] + 1).sqrt()[:, None]
    found = torch.relu(heard / count + torch.randn((width,), generator=generator))
    return found if given.shape[1] == positions else found[:, -1:].expand(-1, positions, -1)


def _width(source: Source, sites: Sequence[str]) -> int:
    """Of the first site."""
    site = sites[0]
    chunk = next(iter(source.chunks([(site, source.iterations[site][0])])))
    return next(iter(chunk.pieces.values())).values.shape[-1]

"""Whatever a user passes: a sentence of loopscope, a documented warning, or what the canonical form
of the same argument gives. Never a raw error from inside."""

import os
import random
import re
import types
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import loopscope as ls
from loopscope.common.finding_shelf import FINDINGS
from loopscope.common.to_json import to_json
from loopscope.replication import store

from .toys.odd_values import BAD, SAME
from .toys.public_calls import Call, calls

FUNCTIONS = ("a class", "a module", "a function")
"""What fails where it is called, as functions of a user's own may: the error is the user's."""
QUICK = 2_000
"""Calls that the quick tests make, of all that can be generated."""


@pytest.fixture(scope="module", autouse=True)
def working_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder for what is written. The numbers of findings are good input, too: results of ours go
    there, as those of a wheel do."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("calls"))
    with pytest.MonkeyPatch.context() as patch:
        written = store.is_installed
        patch.setattr(store, "is_installed", lambda name: name in FINDINGS.ours() or written(name))
        yield
    os.chdir(before)


@cache
def every_call() -> dict[str, Call]:
    return {call.name: call for call in calls()}


def outcome(call: Call, argument: str, value: Any) -> str:
    """What a call with one changed argument gives: "accepted", "a sentence", or a raw error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result = call.function(**call.arguments | {argument: value})
            if isinstance(result, types.GeneratorType):
                list(result)
        except ls.LoopscopeError as error:
            return "a sentence" if str(error).strip() else "an empty error"
        except RuntimeError as error:
            if str(error) == "the caller's own function failed":
                return "accepted"
            return f"{type(error).__name__}: {error}"
        except BaseException as error:
            return f"{type(error).__name__}: {error}"
    return "accepted"


def raw_errors(name: str, pairs: list[tuple[str, str]]) -> list[str]:
    call, errors = every_call()[name], []
    for argument, kind in pairs:
        what = outcome(call, argument, BAD[kind]())
        if what not in ("accepted", "a sentence"):
            errors.append(f"{argument} = {kind}: {what[:200]}")
    return errors


@cache
def sample(quick: bool) -> dict[str, list[tuple[str, str]]]:
    """By function: the arguments to change, and to what."""
    everything = [
        (call.name, argument, kind)
        for call in every_call().values()
        for argument in call.parameters
        for kind in BAD
        if not (argument in call.functions and kind in FUNCTIONS)
    ]
    if quick:
        everything = random.Random(0).sample(everything, min(QUICK, len(everything)))
    chosen: dict[str, list[tuple[str, str]]] = {name: [] for name in every_call()}
    for name, argument, kind in everything:
        chosen[name].append((argument, kind))
    return chosen


def test_bad_input_never_ends_in_a_raw_error() -> None:
    chosen = sample(quick=True)
    assert sum(map(len, chosen.values())) >= 1_500
    assert {name: raw for name, pairs in chosen.items() if (raw := raw_errors(name, pairs))} == {}


@pytest.mark.slow
def test_no_bad_input_at_all_ends_in_a_raw_error() -> None:
    assert {
        name: raw for name, pairs in sample(quick=False).items() if (raw := raw_errors(name, pairs))
    } == {}


@pytest.mark.slow
def test_a_number_of_another_library_means_what_pythons_own_means() -> None:
    differing = []
    for call in every_call().values():
        if call.name.startswith(("analyses.", "report")):  # the guard is the same; measuring takes time
            continue
        for argument in call.parameters:
            for kind, (make, canonical) in SAME.items():
                if kind == "a tuple" and argument in ("site", "index", "k"):  # one index for each axis
                    continue
                received, expected = result(call, argument, make()), result(call, argument, canonical)
                if isinstance(make(), torch.Tensor) and expected == "refused":
                    continue  # the argument takes tensors
                if argument == "to" and received != "refused" and expected == "refused":
                    continue  # there is a run by now
                if received != expected:
                    differing.append(f"{call.name} {argument} = {kind}: {received[:99]} | {expected[:99]}")
    assert differing == []


def result(call: Call, argument: str, value: Any) -> str:
    """What a call with one argument changed gives, as text; "refused" for an error of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            given = call.function(**call.arguments | {argument: value})
            given = list(given) if isinstance(given, types.GeneratorType) else given
        except ls.LoopscopeError:
            return "refused"
    return as_text(given)


def as_text(value: Any) -> str:
    """Numbers and shapes of a result, without addresses in memory."""
    if isinstance(value, ls.Run):
        return as_text([value.states, value.output])
    if isinstance(value, ls.States):
        return as_text([value.axes, [one for _, one in value.items()]])
    if isinstance(value, torch.Tensor):
        return str(value.detach().tolist())
    if isinstance(value, list | tuple):
        return str([as_text(one) for one in value])
    if isinstance(value, torch.nn.Module):
        return as_text(list(value.state_dict().values()))
    return str(to_json(value)) if hasattr(value, "to_dict") else re.sub(r"0x[0-9a-f]+", "", str(value))


def test_every_public_name_has_a_call_that_works() -> None:
    covered = {name.split(".")[0].split(" ")[0] for name in every_call()}
    classes_and_shelves = {
        "LoopscopeError",
        "LoopscopeIndexError",
        "LoopscopeWarning",
        "Halting",
        "recording",
    }
    assert set(ls.__all__) - covered == classes_and_shelves
    refused = {}
    for name, call in every_call().items():
        if name not in ("generate", "from_pretrained"):  # what they need isn't in a test of arguments
            refused[name] = _works(call)
    assert {name: error for name, error in refused.items() if error} == {}


def _works(call: Call) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            call.function(**call.arguments)
        except ls.LoopscopeError as error:
            return str(error)
    return ""

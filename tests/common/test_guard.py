"""guarded: a public function receives what its annotations declare, or the caller gets a
sentence."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from loopscope.common.arguments import Count, Finite, Index, Indices, Positive, PositiveCount, Seed, Share
from loopscope.common.errors import LoopscopeError
from loopscope.common.guard import guarded


@guarded
def example(
    count: Count = 0,
    positive: PositiveCount = 1,
    index: Index | None = None,
    where: Indices = None,
    seed: Seed | None = None,
    share: Share = 0.5,
    finite: Finite = 0.0,
    above: Positive = 1.0,
    number: float = 0.0,
    flag: bool = False,
    kind: Literal["zero", "mean"] = "zero",
    names: str | Sequence[str] = (),
    several: Sequence[int] = (),
    matrix: Float[Tensor, "sample width"] | None = None,
    options: Mapping[str, Any] | None = None,
    function: Callable[[int], int] | None = None,
    anything: Any = None,
    **positions: Indices,
) -> dict[str, Any]:
    return locals()


CANONICAL = [
    ("count", np.int64(3), 3), ("count", torch.tensor(3), 3), ("index", np.int8(-2), -2),
    ("where", np.arange(3), [0, 1, 2]), ("where", torch.tensor([2, 1]), [2, 1]), ("where", range(2), [0, 1]),
    ("where", np.array([True, False, True]), [0, 2]), ("where", (1, 2), [1, 2]), ("where", [], []),
    ("where", slice(np.int64(1), None), slice(1, None)), ("where", torch.tensor(4), 4),
    ("share", np.float32(0.5), 0.5), ("number", torch.tensor(2.0), 2.0), ("number", 3, 3.0),
    ("flag", np.True_, True), ("several", np.array([4, 5]), [4, 5]), ("names", ("a", "b"), ("a", "b")),
    ("position", torch.tensor([1, 2]), [1, 2]), ("seed", -(2**63), -(2**63)),
    ("number", float("inf"), float("inf")),
]  # fmt: skip

WRONG = {
    "count": [-1, True, 1.0, "3", None, [1], torch.ones(2), np.float64(1), 1j],
    "positive": [0, False],
    "index": ["x", 1.5, True, [1]],
    "where": ["x", 1.5, [1.5], [True, 2], {1: 2}, slice("a", None), slice(0.5, None), object()],
    "seed": [2**64, -(2**63) - 1, 1.5, True],
    "share": [-0.1, 1.1, float("nan"), "half", True],
    "finite": [float("inf"), float("nan"), 1j],
    "above": [0, -1, float("inf")],
    "number": [float("nan"), "1", None, True, [1.0], 1j],
    "flag": [0, 1, "yes", None],
    "kind": ["meen", 0, None, ["zero"]],
    "names": [3, ["a", 3], None],
    "several": ["abc", [1.5], 3, [True]],
    "matrix": [torch.ones(2), torch.ones(2, 2).long(), torch.ones(2, 2).cfloat(), np.ones((2, 2)), [[1.0]]],
    "options": [[], "a", 3],
    "function": [3, "f"],
    "position": ["x", 1.5],
}


@pytest.mark.parametrize(("argument", "value", "canonical"), CANONICAL)
def test_numbers_of_other_libraries_become_pythons_own(argument: str, value: Any, canonical: Any) -> None:
    received = example(**{argument: value})
    received = received.get(argument, received["positions"].get(argument))
    assert received == canonical and type(received) is type(canonical)


@pytest.mark.parametrize(("argument", "value"), [(a, v) for a, values in WRONG.items() for v in values])
def test_what_an_annotation_does_not_declare_is_refused_in_a_sentence(argument: str, value: Any) -> None:
    with pytest.raises(LoopscopeError, match=f"^example: {argument} must be .*, but is .*See help") as error:
        example(**{argument: value})
    assert len(str(error.value)) < 400


def test_a_call_with_a_wrong_name_or_without_an_argument_names_it() -> None:
    @guarded
    def skip(iteration: Index) -> Any: ...

    with pytest.raises(LoopscopeError, match=r"no argument 'iteraton'. Did you mean 'iteration'"):
        skip(iteraton=3)  # pyright: ignore[reportCallIssue]
    with pytest.raises(LoopscopeError, match="missing a required argument: 'iteration'"):
        skip()  # pyright: ignore[reportCallIssue]


def test_any_name_is_an_argument_where_a_function_takes_options() -> None:
    @guarded
    def generate(model: Any, tokens: Any = None, **options: Any) -> Any:
        return options

    assert generate(1, 2, max_new_tokens=2) == {"max_new_tokens": 2}
    for call, reason in (
        (lambda: generate(1, 2, tokens=2, max_new_tokens=2), "multiple values for argument 'tokens'"),
        (lambda: generate(max_new_tokens=2), "missing a required argument: 'model'"),
        (lambda: generate(1, 2, 3, max_new_tokens=2), "too many positional arguments"),
    ):
        with pytest.raises(LoopscopeError, match=reason) as error:
            call()
        assert "no argument" not in str(error.value)


def test_a_misspelt_option_gets_the_nearest_one() -> None:
    with pytest.raises(LoopscopeError, match="'zero' or 'mean', but is 'meen'.*Did you mean 'mean'"):
        example(kind="meen")  # pyright: ignore[reportArgumentType]


def test_objects_that_are_accepted_are_passed_on_themselves() -> None:
    matrix, options = torch.ones(2, 3), {"a": 1}
    received = example(matrix=matrix, options=options)
    assert received["matrix"] is matrix and received["options"] is options


def test_axes_of_one_name_have_one_size_in_all_arguments_of_a_call() -> None:
    @guarded
    def product(x: Float[Tensor, "sample width"], y: Float[Tensor, "sample other"]) -> Tensor:
        return x.T @ y

    assert product(torch.ones(3, 2), torch.ones(3, 4)).shape == (2, 4)
    assert product(torch.ones(5, 2), torch.ones(5, 4)).shape == (2, 4)  # another call, other sizes
    with pytest.raises(LoopscopeError, match=r"y must be a tensor .*sample, other.*4, 4"):
        product(torch.ones(3, 2), torch.ones(4, 4))

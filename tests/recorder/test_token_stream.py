"""on_token: each token reaches the reader once, in order, as it is chosen."""

from typing import Any

import pytest
import torch

import loopscope as ls

from ..toys.family_doubles import OuroForCausalLM
from ..toys.small_models import hrm_text

PROMPT = torch.tensor([[5, 6, 7, 5, 6, 7, 5]])
GREEDY = {"do_sample": False, "max_new_tokens": 5}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    return hrm_text(eos_token_id=None, pad_token_id=0).eval()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_cache": False},
        {"prompt_lookup_num_tokens": 3},
        {"do_sample": True, "num_return_sequences": 3},
    ],
)
def test_every_token_comes_once_in_order_and_is_the_one_returned(model, options):
    seen: list[tuple[int, Any]] = []
    out = ls.generate(ls.wrap(model), PROMPT, on_token=lambda *pair: seen.append(pair), **(GREEDY | options))
    assert [number for number, _ in seen] == [0, 1, 2, 3, 4]
    assert torch.equal(torch.stack([token for _, token in seen], 1), out.tokens[:, PROMPT.shape[1] :])


def test_it_comes_before_the_pass_of_the_next_one(model):
    """What it raises ends the generation: the passes of later tokens don't run."""
    passes: list[int] = []
    handle = model.register_forward_hook(lambda *_: passes.append(1))

    def stop(number: int, token: torch.Tensor) -> None:
        if number == 1:
            raise TypeError("enough")

    with pytest.raises(TypeError, match="^enough$"):
        ls.generate(ls.wrap(model), PROMPT, on_token=stop, **GREEDY)
    handle.remove()
    assert len(passes) == 2


def test_a_generate_of_a_models_own_code_tells_its_tokens_at_the_end():
    torch.manual_seed(1)
    seen: list[int] = []
    out = ls.generate(
        ls.wrap(OuroForCausalLM().eval()),
        PROMPT,
        max_new_tokens=3,
        on_token=lambda number, token: seen.append(int(token)),
    )
    assert seen == out.tokens[0, PROMPT.shape[1] :].tolist()


def test_beams_have_no_token_that_stays(model):
    with pytest.raises(ls.LoopscopeError, match="on_token needs tokens that stay.*num_beams=1"):
        ls.generate(ls.wrap(model), PROMPT, on_token=print, num_beams=2, **GREEDY)

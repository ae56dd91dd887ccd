"""A generate that fails with the installed transformers says why, and what works."""

from inspect import signature
from types import SimpleNamespace

import pytest
import torch

import loopscope as ls

from ..toys.family_doubles import RavenForCausalLM, UniversalTransformerCache

mixin = pytest.importorskip("transformers").GenerationMixin
pytestmark = pytest.mark.skipif(
    "cache_position" in signature(mixin.prepare_inputs_for_generation).parameters,
    reason="this transformers passes cache_position",
)
TOKENS = torch.randint(0, 40, (1, 5), generator=torch.Generator().manual_seed(3))


class Generating(RavenForCausalLM, mixin):
    """Huginn with the way of its own code to prepare a pass: the tokens at cache_position."""

    def prepare_inputs_for_generation(self, input_ids, past_key_values=None, cache_position=None, **kwargs):
        return {"input_ids": input_ids if past_key_values is None else input_ids[:, cache_position]}

    @torch.no_grad()
    def generate(self, input_ids, max_new_tokens=3, use_cache=True):
        for _ in range(max_new_tokens):
            past = UniversalTransformerCache() if use_cache else None
            given = self.prepare_inputs_for_generation(input_ids, past)
            logits = self(**given, num_steps=4, past_key_values=past, use_cache=use_cache).logits
            input_ids = torch.cat([input_ids, logits[:, -1:].argmax(-1)], 1)
        return input_ids


def built(kind=Generating):
    torch.manual_seed(1)
    model = kind().eval()
    model.generation_config = SimpleNamespace()
    return model


def test_a_cache_that_waits_for_positions_is_refused_with_what_works():
    model = built()
    with pytest.raises(ValueError, match="too many values"):
        model.generate(TOKENS)
    with pytest.raises(
        ls.LoopscopeError,
        match=r"own code waits for cache_position.*use_cache=False\).*It raised ValueError: too many values",
    ):
        ls.generate(ls.wrap(model), TOKENS, max_new_tokens=3)
    out = ls.generate(ls.wrap(model), TOKENS, seed=0, max_new_tokens=3, use_cache=False)
    assert out.states.shape[:2] == (3, 5)


def test_another_failure_is_not_explained_by_it():
    class Failing(Generating):
        def prepare_inputs_for_generation(self, input_ids, past_key_values=None, **kwargs):
            raise ValueError("on purpose")

    with pytest.raises(ls.LoopscopeError, match="on purpose") as caught:
        ls.generate(ls.wrap(built(Failing)), TOKENS, max_new_tokens=3)
    assert "cache_position" not in str(caught.value)

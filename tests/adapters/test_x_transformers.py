"""The wirings of x-transformers' layers: each is followed bit for bit, or refused by its name."""

import warnings

import pytest
import torch

import loopscope as ls

from ..toys.small_models import x_transformer

TOKENS = torch.randint(0, 40, (2, 5), generator=torch.Generator().manual_seed(3))
BOTH = {
    "gated feed-forward": {"ff_swish": True, "ff_glu": True, "ff_no_bias": True},
    "rotary positions": {"rotary_pos_emb": True},
    "ALiBi": {"alibi_pos_bias": True},
    "relative positions": {"rel_pos_bias": True},
    "scaled residual": {"scale_residual": True},
    "gated residual": {"gate_residual": True},
    "macaron": {"macaron": True},
    "shifted tokens": {"shift_tokens": 1},
    "normed queries": {"attn_qk_norm": True},
    "grouped queries": {"attn_kv_heads": 1},
}
WITHIN_A_PASS = {
    "add_value_residual": {"add_value_residual": True},
    "reinject_input": {"reinject_input": True},
    "softclamp_output": {"softclamp_output": True},
    "several streams": {"num_residual_streams": 2},
    "earlier layers": {"integrate_layers": True},
}
"""What layers pass on besides the stream: of a looped wrapper within an iteration, which is a whole
pass through them; of tied layers from one iteration to the next."""
FOLLOWED = [(looped, name) for looped in (True, False) for name in BOTH] + [(True, n) for n in WITHIN_A_PASS]


@pytest.mark.slow
@pytest.mark.parametrize(("looped", "name"), FOLLOWED)
def test_a_wiring_is_followed_bit_for_bit(looped, name):
    torch.manual_seed(1)
    model = x_transformer(looped, **(BOTH | WITHIN_A_PASS)[name]).eval()
    wrapped = ls.wrap(model)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error", ls.LoopscopeWarning)
        run = ls.record(wrapped, TOKENS)
        assert torch.equal(run.output, model(TOKENS))
    assert run.iterations == (4 if looped else 5)
    assert wrapped.difference(TOKENS) == 0


@pytest.mark.parametrize("name", WITHIN_A_PASS)
def test_what_tied_layers_pass_on_besides_the_stream_is_refused_by_name(name):
    with pytest.raises(ls.LoopscopeError, match=f"pass on the residual stream alone.*{name}"):
        ls.wrap(x_transformer(False, **WITHIN_A_PASS[name]))


def test_an_order_that_repeats_only_its_middle_is_refused_with_what_repeats():
    order = (0, 1, 2, 3, 2, 3, 4, 5)
    model = x_transformer(False, weight_tie_layers=False, depth=3, layers_execute_order=order)
    with pytest.raises(ls.LoopscopeError, match=r"\(0, 1, 2, 3, 2, 3, 4, 5\), which isn't one order again"):
        ls.wrap(model)

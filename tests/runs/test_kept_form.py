"""States kept on another device or in a shorter dtype: what they are, what is measured on them with
which precision, and what isn't computed from them."""

import pytest
import torch

import loopscope as ls
from loopscope.maths.precision import precision
from loopscope.runs.kept_form import Form, restored
from tests.toys.family_doubles import OuroForCausalLM
from tests.toys.looped_gpt2 import LoopedGPT2

SITE = "core.0.attn.hook_pattern"
HALF = ls.keep.to(device="cpu", dtype=torch.float16)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return ls.models.build("universal", vocabulary=3, width=8, heads=2).eval()


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(0, 3, (2, 5), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def whole(model, tokens):
    return ls.record(model, tokens, iterations=6, sites=[SITE])


@pytest.fixture(scope="module")
def short(model, tokens):
    return ls.record(model, tokens, iterations=6, sites=[SITE], keep=HALF)


def test_kept_values_are_the_computed_ones_rounded_once(whole, short):
    for site in ("state", SITE):
        assert torch.equal(short[site].tensor, whole[site].tensor.half())
    assert torch.equal(short.output, whole.output) and short.output.dtype == torch.float32
    assert short.origin["keep"] == "to(cpu, float16)" and short.origin["short"] == "float16"


def test_a_rule_for_the_form_combines_with_others(model, tokens, whole):
    rule = ls.keep.every(3) & ls.keep.positions(-1) & ls.keep.to(dtype="bfloat16")
    run = ls.record(model, tokens, iterations=6, keep=rule)
    assert run.states.iterations == [0, 3, 6]
    assert torch.equal(run.states[3], whole.states[3][:, -1:].bfloat16())
    norms = ls.record(model, tokens, iterations=6, keep=ls.keep.norms & HALF)
    assert torch.equal(norms.states.tensor, whole.states.tensor.norm(dim=-1).half()), "reduced before rounded"


def test_a_device_alone_changes_no_number(model, tokens, whole):
    run = ls.record(model, tokens, iterations=6, sites=[SITE], keep=ls.keep.to(device="cpu"))
    assert torch.equal(run.states.tensor, whole.states.tensor) and "short" not in run.origin
    assert torch.equal(run.logits[3], whole.logits[3])
    longer, expected = (ls.resume(model, one, 8).states.tensor for one in (run, whole))
    assert torch.equal(longer, expected)


def test_logits_are_read_out_of_the_rounded_state(model, whole, short):
    context = model.encode(whole.tokens)
    with torch.no_grad():
        expected = model.decode(whole.state(3).half().float(), context)
    assert torch.equal(short.logits[3], expected) and short.state(3).dtype == torch.float32
    assert not torch.equal(short.logits[3], whole.logits[3])


def test_rounded_states_are_not_resumed(model, short):
    with pytest.raises(ls.LoopscopeError, match=r"rounded to float16 \(keep=to\(cpu, float16\)\)"):
        ls.resume(model, short, 8)


@pytest.mark.parametrize("kept", [torch.float16, torch.bfloat16, torch.float32])
def test_values_never_get_digits_that_they_do_not_have(tokens, kept):
    torch.manual_seed(0)
    model = ls.models.build("universal", vocabulary=3, width=8, heads=2).bfloat16().eval()
    run = ls.record(model, tokens, iterations=4, keep=ls.keep.to(dtype=kept))
    assert run.states.tensor.dtype == torch.bfloat16 and "short" not in run.origin
    assert ls.resume(model, run, 5).iterations == 5


def test_analyses_use_the_precision_of_what_is_kept(model, tokens, short):
    assert precision(short.states.tensor) == torch.finfo(torch.float16).eps
    result = ls.analyses.measure("cycles", ls.record(model, tokens, iterations=12, keep=HALF))
    assert "States kept in float16 can't be iterated on, so only what was recorded is used" in str(result)


def test_slow_motion_below_the_rounding_of_what_is_kept_is_not_called_rest():
    """A factor of 0.9999 per iteration moves less than float16 resolves: it can't be told."""

    def measured(keep):
        slow = ls.iterate(lambda x: 0.9999 * x, torch.ones(2, 4, 8), 12, keep=keep)
        return ls.analyses.measure("convergence", slow).verdict.name

    assert measured(HALF) == "unresolved"
    assert measured(None) != "unresolved"


def test_what_does_not_fit_is_refused_by_its_number():
    large = torch.full((1, 2, 8), 1e6)
    with pytest.raises(ls.LoopscopeError, match=r"'state' has 1e\+06, and float16 ends at 6\.55e\+04"):
        ls.iterate(lambda x: x, large, 2, keep=HALF)
    run = ls.iterate(lambda x: x, large, 2, keep=ls.keep.to(dtype=torch.bfloat16))
    assert float(run.states[2].max()) == float(torch.tensor(1e6).bfloat16())
    with pytest.warns(ls.LoopscopeWarning, match="NaN or infinity from iteration 1"):
        ls.iterate(lambda x: x / 0, torch.ones(1, 2, 8), 2, keep=HALF)


@pytest.mark.parametrize(
    ("arguments", "must"),
    [
        ({}, "needs a device or a dtype"),
        ({"device": "meta"}, "device must be a device that is here and holds values"),
        ({"device": "nowhere"}, "device must be a device that is here and holds values"),
        ({"device": 1.5}, "device must be a device that is here and holds values"),
        ({"dtype": torch.int8}, "dtype must be torch.float32, torch.float16, torch.bfloat16 or None"),
        ({"dtype": "float8_e5m2"}, "dtype must be torch.float32, torch.float16, torch.bfloat16 or None"),
        ({"dtype": torch.float64}, "dtype must be torch.float32, torch.float16, torch.bfloat16 or None"),
    ],
)
def test_nonsense_is_refused(arguments, must):
    with pytest.raises(ls.LoopscopeError, match=must):
        ls.keep.to(**arguments)


def test_gradients_need_values_as_they_were_computed(model, tokens):
    with pytest.raises(ls.LoopscopeError, match=r"grad=True needs values as they were computed"):
        ls.record(model, tokens, iterations=2, keep=HALF, grad=True)


def test_a_file_gives_the_same_values_and_the_same_refusals(model, short, tmp_path):
    short.save(tmp_path / "run.safetensors")
    loaded = ls.load_run(tmp_path / "run.safetensors", model=model)
    assert torch.equal(loaded.states.tensor, short.states.tensor)
    assert torch.equal(loaded.logits[3], short.logits[3])
    with pytest.raises(ls.LoopscopeError, match="rounded to float16"):
        ls.resume(model, loaded, 8)
    table = short.states.to_xarray()
    assert table.dtype == "float16" and table.values.shape == tuple(short.states.shape)


def test_a_body_wrapped_module_too():
    torch.manual_seed(0)
    module = LoopedGPT2("injection").eval()
    wrapped, tokens = ls.wrap(module, body="block"), torch.arange(6)[None]
    whole, short = ls.record(wrapped, tokens), ls.record(wrapped, tokens, keep=HALF)
    assert torch.equal(short.states[1:].tensor, whole.states[1:].tensor.half())
    assert short.state(2).dtype == torch.float32
    assert torch.allclose(short.logits[2], whole.logits[2], atol=1e-2)
    with pytest.raises(ls.LoopscopeError, match="rounded to float16"):
        ls.resume(wrapped, short, 6)


def test_a_generation_too(tmp_path):
    torch.manual_seed(1)
    wrapped, prompt = ls.wrap(OuroForCausalLM().eval()), torch.tensor([[1, 2, 3], [4, 5, 6]])
    whole, short = (ls.generate(wrapped, prompt, max_new_tokens=3, keep=keep) for keep in (None, HALF))
    assert torch.equal(whole.tokens, short.tokens)
    for token in range(3):
        one, other = whole.at(token=token), short.at(token=token)
        assert torch.equal(other.states.tensor, one.states.tensor.half())
        assert torch.allclose(other.logits[1], one.logits[1], atol=1e-2)
    assert short.states.tensor.dtype == torch.float16


def test_a_state_goes_back_to_where_it_was_computed():
    form = Form(torch.float32, torch.device("cpu"))
    bits = torch.ones(2, dtype=torch.bfloat16)
    assert restored(bits, form, {}).dtype == torch.bfloat16, "under autocast it is what it was"
    assert restored(bits, form, {"short": "float16"}).dtype == torch.float32
    counts = torch.ones(2, dtype=torch.long)
    assert restored(counts, form, {"short": "float16"}) is counts

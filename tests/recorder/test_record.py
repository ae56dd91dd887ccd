"""The laws of a recording, on variants of the zoo's architectures."""

import pytest
import torch

import loopscope as ls

SHAPES = {
    "paper": {},
    "injected": {"injection": "concat", "norm": "stream", "position": "rotary", "step_code": "none"},
    "sandwich": {"layers": (1, 2, 1), "injection": "add", "norm": "branch", "outer_norm": True},
    "learned": {"norm": "post", "step_code": "learned", "position": "none"},
    "act": {"halting": "interpolated", "injection": "add", "halting_bias": 0.0},
    "act-mean-field": {"halting": "accumulated", "norm": "stream", "halting_bias": -1.0},
}
N = 6


@pytest.fixture(params=SHAPES)
def model(request):
    torch.manual_seed(0)
    return ls.models.build("universal", vocabulary=5, width=16, heads=2, **SHAPES[request.param]).eval()


@pytest.fixture
def tokens():
    return torch.randint(0, 5, (3, 7), generator=torch.Generator().manual_seed(0))


def bitwise(one, other):
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_recording_changes_no_output(model, tokens, grad, dtype):
    model = model.to(dtype)
    with torch.set_grad_enabled(grad):
        bare = model(tokens, iterations=N)
    run = ls.record(model, tokens, iterations=N, sites="all", grad=grad)
    assert bitwise(run.logits[-1], bare)
    with torch.set_grad_enabled(grad):
        assert bitwise(model(tokens, iterations=N), bare), "and leaves nothing behind"


def test_recording_changes_no_output_in_training_either(model, tokens):
    model.train()
    assert bitwise(
        ls.record(model, tokens, iterations=N, sites="all").output, model(tokens, iterations=N).detach()
    )


def test_driving_the_four_functions_equals_forward(model, tokens):
    context = model.encode(tokens)
    state = model.initial(context)
    for t in range(N):
        if model.finished(state):
            break
        state = model.step(state, context, t)
    assert bitwise(model.decode(state, context), model(tokens, iterations=N))


def test_the_state_after_the_last_iteration_is_what_the_read_out_reads(model, tokens):
    run = ls.record(model, tokens, iterations=N)
    with torch.no_grad():
        assert bitwise(model.decode(run.state(-1), model.encode(tokens)), run.output)


def test_each_states_logits_are_those_of_a_shorter_run(model, tokens):
    run = ls.record(model, tokens, iterations=N)
    for k in range(run.iterations + 1):
        with torch.no_grad():
            assert bitwise(run.logits[k], model(tokens, iterations=k))


def test_patching_a_run_with_its_own_values_changes_nothing(model, tokens):
    run = ls.record(model, tokens, iterations=N, sites="all")
    edits = [ls.patch(iteration=k, value=run.state(k)) for k in range(run.iterations + 1)]
    for name in run.names:
        if isinstance(run[name], ls.States) and not name.startswith("state"):
            edits += [ls.patch(name, iteration=t, value=run[name][t]) for t in run[name].iterations]
    again = ls.record(model, tokens, iterations=N, sites="all", edits=edits)
    for name in run.names:
        one, other = (r[name].tensor if isinstance(r[name], ls.States) else r[name] for r in (run, again))
        assert bitwise(one, other), name
    assert bitwise(run.output, again.output)


def test_before_a_patched_iteration_both_runs_are_equal_and_there_it_holds_what_was_put(model, tokens):
    donor = ls.record(model, tokens.roll(1, 0), iterations=N)
    run = ls.record(model, tokens, iterations=N)
    swap = ls.patch("state", iteration=3, value=donor.states[3], position=-1)
    patched = ls.record(model, tokens, iterations=N, edits=[swap])
    assert all(bitwise(patched.states[k], run.states[k]) for k in range(3))
    assert bitwise(patched.states[3][:, -1], donor.states[3][:, -1])
    assert bitwise(patched.states[3][:, :-1], run.states[3][:, :-1])
    with torch.no_grad():
        follows = model.step(patched.state(3), model.encode(tokens), 3)
    assert bitwise(follows if isinstance(follows, torch.Tensor) else follows[0], patched.states[4]), (
        "it is what iteration 3 reads"
    )
    assert not bitwise(patched.states[4], run.states[4])
    rest = ls.resume(model, run, N, start=3, edits=[swap])
    assert bitwise(rest.states.tensor, patched.states.tensor) and bitwise(rest.output, patched.output)


@pytest.mark.parametrize("start", [0, 2, 4])
def test_n_iterations_and_then_m_more_equal_n_plus_m(model, tokens, start):
    whole = ls.record(model, tokens, iterations=N, sites="all")
    longer = ls.resume(model, ls.record(model, tokens, iterations=start, sites="all"), N)
    middle = ls.resume(model, whole, N, start=start)
    for run in (longer, middle):
        assert run.iterations == whole.iterations and bitwise(run.output, whole.output)
        for name in whole.names:
            if isinstance(whole[name], ls.States) and not (run is longer and start == 0):
                assert bitwise(run[name].tensor, whole[name].tensor), name


def test_a_later_tokens_embedding_has_no_gradient_on_an_earlier_answer(model, tokens):
    """The answer at position p may depend on tokens at and before p, and on none after it, at
    whatever depth."""
    run = ls.record(model, tokens, iterations=N, sites=["embed.hook_embed"], grad=True)
    position = 3
    (gradient,) = torch.autograd.grad(run.logits[-1][:, position].pow(2).sum(), run["embed.hook_embed"])
    assert (gradient[:, position + 1 :] == 0).all()
    assert (gradient[:, : position + 1].abs().amax(-1) > 0).any(0).all(), "while all others do matter"


def test_a_gradient_at_a_recorded_state_is_the_gradient_of_the_rest_of_the_loop(model, tokens):
    model = model.double()
    run = ls.record(model, tokens, iterations=N, grad=True)
    k = min(3, run.iterations)
    (gradient,) = torch.autograd.grad(run.output.pow(2).sum(), run.states[k])

    def nudged(by):
        edit = ls.add(value=by, iteration=k, position=2)
        return ls.record(model, tokens, iterations=N, edits=[edit]).output.pow(2).sum().item()

    assert gradient[:, 2].sum().item() == pytest.approx(
        (nudged(1e-6) - nudged(-1e-6)) / 2e-6, rel=1e-4, abs=1e-4
    )


def test_a_run_is_the_same_read_back_from_its_file(model, tokens, tmp_path):
    run = ls.record(model, tokens, iterations=N, sites="all")
    again = ls.load_run(run.save(tmp_path / "run.safetensors"), model=model)
    assert again.names == run.names and again.iterations == run.iterations and again.origin == run.origin
    for name in run.names:
        one, other = (r[name].tensor if isinstance(r[name], ls.States) else r[name] for r in (run, again))
        assert bitwise(one, other), name
    assert bitwise(again.logits[2], run.logits[2]) and bitwise(again.tokens, tokens)
    assert (run.halting is None) == (again.halting is None)
    if run.halting is not None:
        own, read = dict(vars(run.halting)), dict(vars(again.halting))
        assert own.pop("kind") == read.pop("kind")
        assert all(bitwise(read[name], value) for name, value in own.items())


def test_what_a_run_was_given_besides_is_saved_or_said_to_be_lost(model, tokens, tmp_path):
    run = ls.record(model, tokens, iterations=1)
    run.inputs = {"num_steps": (2, 3), "use_cache": False, "past": None}
    again = ls.load_run(run.save(tmp_path / "run.safetensors"), model=None)
    assert again.inputs == run.inputs and type(again.inputs["num_steps"]) is tuple
    run.inputs = {"past": object()}
    with pytest.raises(ls.LoopscopeError, match="input 'past' must be made of .*, but holds one of"):
        run.save(tmp_path / "other.safetensors")


def test_transformerlens_calls_give_the_whole_stack_of_iterations(model, tokens):
    run = ls.record(model, tokens, iterations=N, sites="all")
    logits, cache = model.run_with_cache(tokens, iterations=N)
    assert bitwise(logits.detach(), run.output)
    for name, value in cache.items():
        recorded = run[name].tensor if isinstance(run[name], ls.States) else run[name]
        assert bitwise(value, recorded), name
    assert cache["core.0.attn.hook_pattern"].shape[0] == run.iterations
    assert cache["state"].shape[0] == run.iterations + 1
    last = {}
    with model.hooks(fwd_hooks=[("core.0.hook_resid_post", lambda value, hook: last.update(value=value))]):
        model(tokens, iterations=N)
    assert bitwise(last["value"].detach(), cache["core.0.hook_resid_post"][-1])


def test_a_transformerlens_hook_can_ask_the_clock_for_its_iteration(model, tokens):
    def mute(value, hook):
        return torch.zeros_like(value) if model.clock.iteration == 2 else value

    hooked = model.run_with_hooks(tokens, iterations=N, fwd_hooks=[("core.0.attn.hook_z", mute)])
    edited = ls.record(model, tokens, iterations=N, edits=[ls.ablate("core.0.attn.hook_z", iteration=2)])
    assert bitwise(hooked.detach(), edited.output)


def test_a_hook_that_works_in_place_does_not_reach_back_into_the_recording(model, tokens):
    def spoil(value, hook):
        value[:, 0] = 7.0
        return value

    with model.hooks(fwd_hooks=[("core_in", spoil)]):
        run = ls.record(model, tokens, iterations=N)
    clean = ls.record(model, tokens, iterations=1)
    assert bitwise(run.states[0], clean.states[0])


def test_inside_sites_have_n_values_and_states_n_plus_one(model, tokens):
    run = ls.record(model, tokens, iterations=N, sites=["core_in", "core.0.attn.hook_pattern"])
    n = run.iterations
    assert run.states.iterations == list(range(n + 1)) and run["core_in"].iterations == list(range(n))
    pattern = run["core.0.attn.hook_pattern"]
    assert pattern.axes == ("iteration", "batch", "head", "position", "key")
    assert torch.allclose(pattern.tensor.sum(-1), torch.ones(()))


def test_bare_loop_of_zero_iterations_is_the_read_out_of_the_first_state(model, tokens):
    run = ls.record(model, tokens, iterations=0)
    assert len(run.states) == 1 and bitwise(run.output, run.logits[0])

"""Tuned lenses: what was planted is found, what isn't there is not made up, and a lens stays with
its model."""

import json
import struct

import pytest
import torch
from torch import Tensor

import loopscope as ls
from loopscope.common.errors import LoopscopeError
from loopscope.nn import LoopedModule

V, N = 6, 4


class Turned(LoopedModule):
    """A state that holds the answer from the start, in another basis at each iteration: state k is
    basis[k] applied to the answer's vector, and the basis is the identity at the end. The read-out
    reads the last basis alone."""

    def __init__(self, bases: Tensor, sure: float = 4.0) -> None:
        super().__init__(len(bases) - 1, V)
        self.register_buffer("bases", bases)
        self.sure = sure
        self.setup()

    def encode(self, tokens: Tensor) -> Tensor:
        return self.sure * torch.nn.functional.one_hot((tokens * 7 + 1) % V, V).float()

    def initial(self, context: Tensor) -> Tensor:
        return context @ self.get_buffer("bases")[0].T

    def step(self, state: Tensor, context: Tensor, t: int) -> Tensor:
        return context @ self.get_buffer("bases")[t + 1].T

    def decode(self, state: Tensor, context: Tensor) -> Tensor:
        return state


def bases(seed: int, same: bool = False) -> Tensor:
    """(N + 1, V, V): rotations, the last of them none; `same`: one for all but the last."""
    made = torch.linalg.qr(torch.randn(N, V, V, generator=torch.Generator().manual_seed(seed)))[0]
    made = made[:1].expand(N, V, V) if same else made
    return torch.cat([made, torch.eye(V)[None]])


def runs_of(model, count=3, size=40, positions=5):
    generator = torch.Generator().manual_seed(0)
    return [
        ls.record(model, torch.randint(0, V, (size, positions), generator=generator)) for _ in range(count)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_a_basis_of_its_own_at_every_iteration_is_found_by_a_map_for_each(seed):
    runs = runs_of(Turned(bases(seed)).eval())
    tuned = ls.TunedLens.fit(runs, steps=200)
    kl = tuned.kl["state"]
    assert (kl.before[:-1] > 0.5).all(), "the untuned lens doesn't see the answer"
    assert (kl.after < 0.01).all(), "which is there"
    assert (kl.low[:-1] > 0).all() and kl.after[-1] == 0


@pytest.mark.parametrize("seed", range(3))
def test_one_map_for_all_iterations_finds_one_basis_and_not_several(seed):
    one = ls.TunedLens.fit(runs_of(Turned(bases(seed, same=True)).eval()), shared=True, steps=300)
    assert (one.kl["state"].after < 0.01).all()
    several = ls.TunedLens.fit(runs_of(Turned(bases(seed)).eval()), shared=True, steps=300)
    assert float(several.kl["state"].after[:-1].mean()) > 0.2, "four rotations can't be undone by one map"


def test_where_nothing_is_known_nothing_is_found():
    class Late(Turned):
        def step(self, state, context, t):
            return context if t == N - 1 else torch.randn(context.shape)

        def initial(self, context):
            return torch.randn(context.shape)

    torch.manual_seed(0)
    kl = ls.TunedLens.fit(runs_of(Late(bases(0)).eval(), count=4)).kl["state"]
    # What can be had without knowing is the share of each answer: the entropy of six, less what is
    # sure.
    final = torch.softmax(4.0 * torch.eye(V)[0].double(), 0)
    blind = float((final * final.log()).sum()) + torch.log(torch.tensor(float(V))).item()
    assert (kl.after[:-1] > 0.8 * blind).all() and (kl.after[:-1] < 1.1 * blind).all()


def test_what_is_already_exact_is_left_alone():
    tuned = ls.TunedLens.fit(runs_of(Turned(torch.eye(V).expand(N + 1, V, V).clone()).eval()))
    assert not tuned.translators["state"].active.any()
    assert (tuned.kl["state"].after == tuned.kl["state"].before).all()


def test_the_last_iteration_is_the_models_own_answer_bit_for_bit():
    runs = runs_of(Turned(bases(1)).eval())
    for shared in (False, True):
        read = ls.lens(runs[0], ls.TunedLens.fit(runs, shared=shared, steps=20))
        assert read.checked and torch.equal(read.logits(-1), runs[0].output)


def test_the_maps_are_the_inverse_of_what_was_planted():
    tuned = ls.TunedLens.fit(runs_of(Turned(bases(2)).eval(), count=3), steps=300, decay=1e-5)
    h = runs_of(Turned(bases(2)).eval(), count=1)[0].states[0]
    own = tuned.translators["state"].apply(h, 0)
    assert own is not None
    p, q = own.softmax(-1), (h @ bases(2)[0]).softmax(-1)
    assert float((p - q).abs().max()) < 0.05


def test_a_lens_that_was_saved_reads_the_same_again(tmp_path):
    runs = runs_of(Turned(bases(0)).eval())
    tuned = ls.TunedLens.fit(runs, steps=30)
    again = ls.TunedLens.load(tuned.save(tmp_path / "lens.safetensors"))
    assert str(again) == str(tuned) and again.training == tuned.training
    assert torch.equal(ls.lens(runs[1], again).kl(), ls.lens(runs[1], tuned).kl())


def test_a_lens_of_other_weights_is_refused(tmp_path):
    tuned = ls.TunedLens.fit(runs_of(Turned(bases(0)).eval()), steps=5)
    path = tuned.save(tmp_path / "lens.safetensors")
    other = runs_of(Turned(bases(1)).eval(), count=1)[0]
    with pytest.raises(
        LoopscopeError, match=r"fits only the weights it was trained on, Turned .*Fit one for it"
    ):
        ls.lens(other, ls.TunedLens.load(path))
    with pytest.raises(LoopscopeError, match="runs of one model, but these are of several"):
        ls.TunedLens.fit([*runs_of(Turned(bases(0)).eval(), count=1), other])


def test_a_file_that_lacks_something_is_refused(tmp_path):
    path = ls.TunedLens.fit(runs_of(Turned(bases(0)).eval()), steps=5).save(tmp_path / "lens.safetensors")
    raw = path.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + size])
    told = json.loads(header["__metadata__"]["loopscope"])
    del told["places"]
    header["__metadata__"]["loopscope"] = json.dumps(told)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + size :])
    with pytest.raises(LoopscopeError, match="its header and the digest in it don't fit"):
        ls.TunedLens.load(path)
    with pytest.raises(LoopscopeError, match="must hold a tuned lens, but holds a 'run'"):
        ls.TunedLens.load(runs_of(Turned(bases(0)).eval(), 1)[0].save(tmp_path / "run.safetensors"))


def test_equal_sequences_are_never_on_both_sides():
    tokens = torch.arange(12)[:, None] % V + torch.zeros(12, 5, dtype=torch.long)
    model = Turned(bases(0)).eval()
    with pytest.raises(LoopscopeError, match="needs 10 different examples or more, .* but got 6"):
        ls.TunedLens.fit([ls.record(model, tokens), ls.record(model, tokens)])


def test_an_example_is_on_one_side_alone_in_all_runs():
    from loopscope.lenses.tuned_lens_data import divide

    model = Turned(bases(0)).eval()
    tokens = torch.randint(0, V, (30, 5), generator=torch.Generator().manual_seed(0))
    runs = [ls.record(model, tokens), ls.record(model, tokens.flip(0)), ls.record(model, tokens[:7])]
    data, counts = divide(runs, True, 0)
    assert (counts["examples"], counts["held"], counts["items"]) == (30, 6, 67 * 5)
    first, second, third = (one.part.view(-1, 5) for one in data)
    assert (first == first[:, :1]).all(), "whole examples"
    assert torch.equal(first, second.flip(0)) and torch.equal(first[:7], third)


@pytest.mark.parametrize("seed", range(3))
def test_what_can_only_be_gained_by_chance_is_left_alone(seed):
    class Blind(Turned):
        def initial(self, context):
            return 0.3 * torch.randn(context.shape)

        def step(self, state, context, t):
            return context if t == N - 1 else 0.3 * torch.randn(context.shape)

    torch.manual_seed(seed)
    model = Blind(bases(0), sure=1.0).eval()
    tokens = torch.randint(0, V, (30, 5), generator=torch.Generator().manual_seed(seed))
    kl = ls.TunedLens.fit(ls.record(model, tokens), seed=seed).kl["state"]
    assert (kl.after <= kl.before + 1e-3).all()


@pytest.mark.parametrize("told, best", [((1.0, 0.7, 0.5, 0.9, 0.8), 2), ((1.0, 1.2, 1.1, 1.3, 1.4), 0)])
def test_of_all_maps_that_were_tried_the_best_on_the_validation_examples_is_kept(monkeypatch, told, best):
    from loopscope.lenses import tuned_lens_training as fit
    from loopscope.lenses.lens_input import lens_input
    from loopscope.lenses.tuned_lens_data import divide
    from loopscope.runs.location import Place

    tried = []

    def scripted(seen, base, result, part):
        tried.append(result)
        return told[len(tried) - 1]

    monkeypatch.setattr(fit, "mean_kl", scripted)
    (run,) = runs_of(Turned(bases(0)).eval(), count=1)
    (one,), _ = divide([run], True, 0)
    a, _ = fit.train_map(
        [(one, lens_input(run, Place("state"), 0))], fit.UNTRAINED["coda"], 1e-3, 4 * fit.EVERY, seed=0
    )
    assert len(tried) == 5 and tried[0] is None, "what isn't translated is looked at first"
    assert torch.equal(a, tried[best][0] if best else torch.zeros(V, V))


def test_the_model_is_left_as_it_was():
    model = ls.models.build("universal", vocabulary=3, width=16, heads=2, iterations=3).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    runs = [ls.record(model, torch.randint(0, 3, (30, 6), generator=torch.Generator().manual_seed(0)))]
    ls.TunedLens.fit(runs, steps=10)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_the_same_seed_gives_the_same_lens():
    runs = runs_of(Turned(bases(0)).eval())
    one, other = (ls.TunedLens.fit(runs, steps=20, seed=5) for _ in range(2))
    assert torch.equal(one.translators["state"].a, other.translators["state"].a)


def test_sites_of_the_body_and_turns_of_inner_loops_get_maps_of_their_own():
    model = ls.models.build("hrm", length=6, segments=1, low_updates=2, width=16, heads=2).eval()
    tokens = torch.randint(0, 5, (40, 6), generator=torch.Generator().manual_seed(0))
    run = ls.record(model, tokens, sites=["hook_low"])
    tuned = ls.TunedLens.fit(run, ["state", "hook_low"], steps=40)
    assert list(tuned.translators) == ["state", "hook_low, low 0", "hook_low, low 1"]
    for kl in tuned.kl.values():
        assert (kl.after <= kl.before + 1e-3).all()
    read = ls.lens(run, tuned, sites=["state", "hook_low"])
    assert read.kl().shape[0] == 3
    with pytest.raises(LoopscopeError, match="fitted for 'state', but 'hook_low, low 0' was requested"):
        ls.lens(run, ls.TunedLens.fit(run, steps=2), sites="hook_low").kl()


def test_iterations_that_it_was_not_fitted_at_are_refused_unless_it_is_shared():
    model = ls.models.build("universal", vocabulary=3, width=16, heads=2, iterations=3).eval()
    tokens = torch.randint(0, 3, (30, 6), generator=torch.Generator().manual_seed(0))
    short, long = ls.record(model, tokens, 3), ls.record(model, tokens, 6)
    with pytest.raises(
        LoopscopeError, match=r"has maps for those that it was fitted at \(0..3\), but iteration 4"
    ):
        ls.lens(long, ls.TunedLens.fit(short, steps=5)).kl()
    assert ls.lens(long, ls.TunedLens.fit(short, steps=5, shared=True)).kl().isfinite().all()


def test_a_read_out_that_isnt_the_models_own_is_refused_unless_it_is_wanted():
    model = ls.models.build("huginn", vocabulary=5, width=16, heads=2, iterations=2).eval()
    tokens = torch.randint(0, 5, (30, 6), generator=torch.Generator().manual_seed(0))
    run = ls.record(model, tokens, seed=0)
    with pytest.raises(LoopscopeError, match="leaves out the coda"):
        ls.TunedLens.fit(run, read="logit")
    tuned = ls.TunedLens.fit(run, read="logit", steps=5, check=False)
    assert not ls.lens(run, tuned, check=False).checked
    with pytest.raises(LoopscopeError, match="read must be 'coda' or 'logit'"):
        ls.TunedLens.fit(run, read="head")
    with pytest.raises(LoopscopeError, match="needs a run or more"):
        ls.TunedLens.fit([])


def test_bf16_models_are_tuned_in_single_precision():
    model = (
        ls.models.build("universal", vocabulary=3, width=16, heads=2, iterations=3).eval().to(torch.bfloat16)
    )
    run = ls.record(model, torch.randint(0, 3, (30, 6), generator=torch.Generator().manual_seed(0)))
    tuned = ls.TunedLens.fit(run, steps=40)
    assert tuned.translators["state"].a.dtype == torch.float32
    kl = tuned.kl["state"]
    assert (kl.after <= kl.before + 5e-3).all()
    assert torch.equal(ls.lens(run, tuned).logits(-1), run.output)


def test_on_a_trained_entry_it_is_nearer_to_the_final_answer_at_every_iteration_on_examples_held_out():
    model = ls.models.load("universal-prefix-parity")
    runs = [ls.record(model, model.task.batch(128, seed=seed, split="train").tokens) for seed in range(4)]
    tuned = ls.TunedLens.fit(runs, steps=60)
    fresh = ls.record(model, model.task.batch(128, seed=0).tokens)
    asked = model.task.batch(128, seed=0).mask
    before = ls.lens(fresh, "coda").kl()[0][:, asked].mean(1)
    after = ls.lens(fresh, tuned).kl()[0][:, asked].mean(1)
    open_ = before > 0.03
    assert open_.sum() >= 12
    assert (after[open_] < before[open_]).all() and (after[~open_] <= before[~open_] + 1e-6).all()
    assert (after[1:8] < 0.5 * before[1:8]).all(), (
        "the states hold much more of the answer than the read-out says"
    )


def test_a_map_is_h_plus_a_times_h_plus_b():
    from loopscope.lenses.translator import translate

    h, a, b = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[0.0, 1.0], [0.0, 0.0]]), torch.tensor([0.5, 0.0])
    assert translate(h, a, b).tolist() == [[[3.5, 2.0]]]


def test_a_shared_map_is_learned_from_all_iterations_and_not_from_the_first():
    class Unready(Turned):
        def initial(self, context):
            return torch.randn(context.shape)

    torch.manual_seed(0)
    kl = ls.TunedLens.fit(runs_of(Unready(bases(0, same=True)).eval()), shared=True, steps=300).kl["state"]
    assert (kl.after[1:-1] < 0.3 * kl.before[1:-1]).all()

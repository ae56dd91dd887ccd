"""Parts that run more than once and are no loops; and what `find_loops` leaves unchanged."""

import pytest
import torch
from torch import nn

import loopscope as ls
from loopscope.loop_detection.loop_finder import find_loops

from ..toys import foreign_loops
from ..toys.foreign_loops import WIDTH, Core, batch, build_loop
from ..toys.loop_modules import Module, only, residual, stacked


def shared_norm(self, h):
    for attention, mlp in zip(self.attention, self.mlp, strict=True):
        h = h + attention(self.norm(h))
        h = h + mlp(self.norm(h))
    return self.norm(h)


def cores(count):
    return stacked(*(nn.Sequential(Core(), Core()) for _ in range(count)))


NO_LOOPS = {
    "shared norm": Module(shared_norm, norm=nn.LayerNorm(WIDTH), attention=cores(3), mlp=cores(3)),
    "shared norm around functions": Module(
        lambda self, h: self.mlp(self.norm(torch.softmax(h, 1) + self.norm(h))),
        norm=nn.LayerNorm(WIDTH),
        mlp=nn.Sequential(Core(), Core()),
    ),
    "shared activation": Module(
        lambda self, h: self.act(self.two(self.act(self.one(h)))),
        act=nn.PReLU(),
        one=nn.Linear(WIDTH, WIDTH),
        two=nn.Linear(WIDTH, WIDTH),
    ),
    "siamese": Module(lambda self, x: self.net(x) - self.net(x + 1), net=cores(1)[0]),
    "siamese of several parts": Module(
        lambda self, x: self.b(self.a(x)) - self.b(self.a(x + 1)), a=cores(1)[0], b=cores(1)[0]
    ),
    "siamese with batch norm": Module(
        lambda self, x: self.net(x[:, 0]) - self.net(x[:, 1]),
        net=nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH)),
    ),
    "siamese with spectral norm": Module(
        lambda self, x: self.net(x) - self.net(x + 1),
        net=nn.utils.parametrizations.spectral_norm(nn.Linear(WIDTH, WIDTH)),
    ),
    "noise as large as an earlier result": Module(
        lambda self, x: self.net(torch.randn_like(self.net(x))), net=nn.Linear(WIDTH, WIDTH)
    ),
    "q, k, v and out": Module(
        lambda self, x: self.proj(torch.softmax(self.proj(x) @ self.proj(x).mT, -1) @ self.proj(x)),
        proj=nn.Linear(WIDTH, WIDTH),
    ),
    "shared mlp between layers of their own": Module(
        lambda self, h: residual([f for layer in self.layers for f in (layer, self.mlp)], h),
        layers=cores(3),
        mlp=Core(),
    ),
    "untied layers": nn.TransformerEncoder(
        nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True), 3, enable_nested_tensor=False
    ),
    "mlp": nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH)),
}


@pytest.mark.parametrize("name", NO_LOOPS)
@pytest.mark.parametrize("training", [False, True])
def test_what_shares_a_part_without_looping_is_no_loop(name, training):
    result = find_loops(NO_LOOPS[name].train(training), batch())
    assert not result and len(result) == 0, str(result)
    assert "no loop found" in str(result)


def test_why_nothing_was_counted_is_said():
    once = str(find_loops(NO_LOOPS["mlp"], batch()))
    assert (
        "Every part with parameters that ran, ran once." in once
        and "Only calls of modules are traced" in once
    )
    twice = str(find_loops(NO_LOOPS["siamese"], batch()))
    assert "net runs 2 times, but no call uses the result of an earlier one." in twice
    mixed = str(find_loops(NO_LOOPS["shared mlp between layers of their own"], batch()))
    assert "mlp runs 3 times, but most of the parameters between its calls run only once" in mixed


def test_a_loop_over_bare_weights_is_not_seen_and_the_text_says_why():
    def forward(self, h):
        for _ in range(4):
            h = torch.tanh(nn.functional.linear(h, self.core.linear.weight))
        return h

    result = find_loops(Module(forward, core=Core()), batch())
    assert (
        not result
        and "A loop that uses weights directly, without calling their module, isn't detected" in str(result)
    )


def test_one_embedding_used_twice_is_no_loop():
    def forward(self, tokens):
        h = self.embed(tokens)
        return h + self.embed((h.sum(-1) > 0).long())

    assert not find_loops(Module(forward, embed=nn.Embedding(5, WIDTH)), torch.zeros(2, 3, dtype=torch.long))


def test_finding_leaves_module_and_generators_as_they_were():
    def forward(self, h):
        for _ in range(3):
            h = self.core(h + torch.rand_like(h))
        self.count.add_(1)
        return h

    model = Module(forward, core=nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(3), nn.Dropout(0.5)))
    model.register_buffer("count", torch.zeros(()))
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parts = {name: vars(part).copy() for name, part in model.named_modules()}
    state = torch.get_rng_state()
    assert only(find_loops(model, batch())).times == 3
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training and all(
        torch.equal(value, before[name]) for name, value in model.state_dict().items()
    )
    assert all(vars(part).keys() == parts[name].keys() for name, part in model.named_modules())


def test_nothing_stays_attached_after_an_exception():
    model = build_loop(foreign_loops.Loop)
    with pytest.raises(RuntimeError):
        find_loops(model, torch.zeros(2, 3, 5))
    assert all("forward" not in vars(part) for part in model.modules())
    with pytest.raises(ls.LoopscopeError, match=r"find_loops: module must be a torch.nn.Module, but is"):
        find_loops("core", batch())

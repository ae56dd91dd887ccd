"""The package tiny-recursive-model: one network in two roles (Jolicoeur-Martineau 2025, arXiv
2510.04871).

An iteration is one refinement block: calls of the network on output + latent + input, which update
the latent (axis `low`), then one on output + latent, which updates the output. `forward` runs a
segment of iterations, of which only the last has gradients; further iterations are those of further
segments, as in `predict`. In `predict` a sequence leaves the batch at the end of the first segment
at which its Q-head predicts to halt: `run.halting`. Register tokens come before the sequence.
"""

from contextlib import nullcontext
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ..halting.halting_record import Halting, q_halting
from ..halting.model_rules import q_rule
from ..halting.rule import Rule
from .base import Adapter


class State(NamedTuple):
    """The answer and the latent state."""

    output: Tensor
    """(batch, position, width)"""
    latent: Tensor


class Context(NamedTuple):
    """What an iteration reads besides the state."""

    embedded: Tensor
    """(batch, position, width): registers first."""
    registers: int
    start: tuple[Tensor, Tensor]


class TinyRecursive(Adapter):
    """The class TinyRecursiveModel."""

    fields = State._fields
    loop_sites = ("low_in", "low_out", "high_in")
    update_sites: ClassVar = {"output": (), "latent": ("low_out",)}
    followed_inputs = ("outputs", "latents")
    family = (
        "an iteration is one refinement block, calls of the network on the latent (axis low) and the output"
    )

    @property
    def iterations(self) -> int:
        return self.module.num_refinement_blocks

    @property
    def vocabulary(self) -> int:
        return self.module.input_embed.num_embeddings

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's own forward, which starts from its initial answer and latent unless others
        are passed."""
        output, latent = self.module.get_initial()
        given = {name for name, _ in zip(("seq", "outputs", "latents"), args, strict=False)} | set(kwargs)
        start = {"outputs": output, "latents": latent}
        return super().forward(*args, **({k: v for k, v in start.items() if k not in given} | kwargs))

    def logits_in(self, output: Any) -> Any:
        return output[2]

    def encode(self, tokens: Tensor, **inputs: Any) -> Context:
        embedded, _ = self.module.embed_inputs_with_registers(tokens)
        output, latent = self.module.get_initial()
        start = inputs.get("outputs", output), inputs.get("latents", latent)
        return Context(embedded, len(self.module.register_tokens), start)

    def initial(self, context: Context) -> State:
        return State(*(part.expand_as(context.embedded) for part in context.start))

    def step(self, state: State, context: Context, t: int) -> State:
        network, segment = self.module.network, self.iterations
        output, latent = state
        if self.truncates_gradients and t and t % segment == 0:
            output, latent = output.detach(), latent.detach()
        with torch.no_grad() if self.truncates_gradients and (t + 1) % segment else nullcontext():
            for _ in self.clock.loop("low", range(self.module.num_latent_refinements)):
                latent = self.low_out(network(self.low_in(output + latent + context.embedded)))
            output = network(self.high_in(output + latent))
        return State(output, latent)

    def decode(self, state: State, context: Context) -> Tensor:
        return self.logits_of(state.output, context)

    def logits_of(self, h: Tensor, context: Context) -> Tensor:
        return self.module.to_pred(h[:, context.registers :])

    def q_values(self, state: State) -> Tensor:
        """(batch, 1): above 0 where the model halts; the model also halts at exactly 0."""
        q = self.module.to_halt_pred(state.output)
        return torch.where(q == 0, torch.ones_like(q), q)[:, None]

    @property
    def rule(self) -> Rule:
        return q_rule(self.q_values, self.iterations)

    def halting(self, run: Any) -> Halting | None:
        return q_halting(run, self.iterations) if run.iterations >= self.iterations else None


def adapt(module: nn.Module) -> TinyRecursive:
    """The adapter of a TinyRecursiveModel."""
    return TinyRecursive(module)

"""A recurrent network that stores three bits (Sussillo & Barak 2013), trained in seconds: its
stable fixed points are the eight combinations of the bits."""

import torch
from torch import Tensor

UNITS = 16


def trained(steps: int = 400, seed: int = 0) -> dict[str, Tensor]:
    """h <- tanh(W h + V u + b), read out by R. A pulse of ±1 on an input u sets its bit, and the
    outputs are all three."""
    generator = torch.Generator().manual_seed(seed)

    def random_parameter(*shape: int) -> torch.nn.Parameter:
        return torch.nn.Parameter(torch.randn(*shape, generator=generator) / shape[1] ** 0.5)

    W, V, R = random_parameter(UNITS, UNITS), random_parameter(UNITS, 3), random_parameter(3, UNITS)
    b = torch.nn.Parameter(torch.zeros(UNITS))
    optimiser = torch.optim.Adam([W, V, b, R])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.02, total_steps=steps)
    for _ in range(steps):
        pulses = torch.rand(64, 24, 3, generator=generator) < 0.15
        pulses[:, 0] = True
        u = torch.where(pulses, torch.randn(64, 24, 3, generator=generator).sign(), 0.0)
        h, bits, loss = torch.zeros(64, UNITS), torch.zeros(64, 3), torch.zeros(())
        for now in u.unbind(1):
            bits = torch.where(now != 0, now, bits)
            h = torch.tanh(h @ W.T + now @ V.T + b)
            loss = loss + (h @ R.T - bits).square().mean() / 24
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([W, V, b, R], 1.0)
        optimiser.step()
        schedule.step()
    return {name: p.detach().double() for name, p in {"W": W, "V": V, "R": R, "b": b}.items()}

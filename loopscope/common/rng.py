"""Seeds: one number from which every draw of a piece of work gets a seed of its own."""

import torch


def mixed(seed: int, stream: int) -> int:
    """A seed of its own for each (seed, stream), so that neighbours share nothing: SplitMix64's
    finaliser."""
    z = (int(seed) * 0x9E3779B97F4A7C15 + (int(stream) + 1) * 0xD1B54A32D192ED03) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return (z ^ (z >> 31)) % 2**63


def drawn() -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Where torch's global random generators are, of the CPU and of every CUDA device in use; for
    `put_back`."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return torch.get_rng_state(), cuda


def put_back(state: tuple[torch.Tensor, list[torch.Tensor]]) -> None:
    """Set the generators to where they were."""
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])

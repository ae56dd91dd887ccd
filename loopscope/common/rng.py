"""Random numbers: seeds made from one seed, and the state of torch's global generators."""

import torch

Generators = tuple[torch.Tensor, list[torch.Tensor]]
"""The state of torch's global generators: of the CPU, and of every CUDA device in use."""


def mixed(seed: int, stream: int) -> int:
    """A seed for each pair (seed, stream); neighbouring pairs give unrelated seeds.

    The finaliser of SplitMix64 (Steele, Lea & Flood 2014).
    """
    z = (int(seed) * 0x9E3779B97F4A7C15 + (int(stream) + 1) * 0xD1B54A32D192ED03) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return (z ^ (z >> 31)) % 2**63


def generator_state() -> Generators:
    """The state of torch's global generators: of the CPU, and of every CUDA device if CUDA is in
    use. `restore_generator` takes it."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return torch.get_rng_state(), cuda


def restore_generator(state: Generators) -> None:
    """Set torch's global generators to a state that `generator_state` gave."""
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])

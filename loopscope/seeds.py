"""Seeds: one number from which every draw of a piece of work gets a seed of its own."""


def mixed(seed: int, stream: int) -> int:
    """A seed of its own for each (seed, stream), so that neighbours share nothing: SplitMix64's finaliser."""
    z = (int(seed) * 0x9E3779B97F4A7C15 + (int(stream) + 1) * 0xD1B54A32D192ED03) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return (z ^ (z >> 31)) % 2**63

"""Seeds of a command line."""


def read_seeds(text: str) -> range:
    """`7`, or `1-10` with both ends. Raises ValueError."""
    first, _, last = text.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    if not seeds:
        raise ValueError(f"no seeds in '{text}'; write one, or from-to")
    return seeds

"""What all programs of many callers share: the ids they ask with and how tokens are counted, as batch.rs does both."""

Times = dict[int, list[float]]


def prompt(length: int, number: int, vocab: int) -> list[int]:
    return [(i * 7919 + number * 10473 + length * 131 + 17) % vocab for i in range(length)]


def rates(start: float, times: Times, length: int, generated: int) -> dict:
    """Of requests begun at `start`: generated tokens per second, from when each one's tokens came."""
    count = len(times)
    begun = max(t[0] for t in times.values())
    ended = min(t[-1] for t in times.values())
    last = max(t[-1] for t in times.values())
    decoded = sum(begun < time <= ended for t in times.values() for time in t)
    return {
        "concurrent": count,
        "prompt": length,
        "generated": generated,
        "total": count * generated / (last - start),
        "decode": decoded / (ended - begun) if ended > begun else None,
        "first": begun - start,
    }

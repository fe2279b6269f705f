"""Which questions are held out of training.

The choice is a hash of the question's key, not of the order in which things
are generated, so the training text and the held-out questions can never
disagree about it, whatever the seed.
"""

import hashlib

# Of 256 hash values, how many are held out: 32 of 256 is one question in eight.
HELD_OUT_OF_256 = 32


def is_held_out(kind: str, key: str) -> bool:
    """Whether the question with this key never appears in training."""
    digest = hashlib.sha256(f"{kind}\n{key}".encode()).digest()
    return digest[0] < HELD_OUT_OF_256

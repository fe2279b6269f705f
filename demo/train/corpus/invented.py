"""Made-up words, so that the model learns to copy a word it has never met."""

from random import Random

_STARTS = "b br c ch d dr f fl g gr h j k kl l m n p pl qu r s sh st t tr v w y z".split()
_MIDDLES = "a e i o u ai ee oo ar or".split()
_ENDS = "b d f l ll m n nd p r rd s st".split()


def word(rng: Random) -> str:
    """Two or three syllables in lower case, such as "brimon" or "shalla"."""
    syllables = rng.choice([2, 2, 2, 3])
    text = "".join(rng.choice(_STARTS) + rng.choice(_MIDDLES) for _ in range(syllables))
    return text + rng.choice(_ENDS) if rng.random() < 0.5 else text

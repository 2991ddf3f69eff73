"""What is measured, and how a measured process counts it."""

import random
from dataclasses import dataclass

import weights


@dataclass(frozen=True)
class Work:
    """One thing that every program does; each time is a process of its own."""

    name: str
    kind: str  # check, cold, prefill or decode
    prompt: int
    new: int = 1
    batch: int = 1
    # Inside a process, whose median counts, after one that does not; a single one has a prompt that warms enough.
    repeats: int = 3
    # What takes minutes is measured less often.
    rounds_max: int = 1000

    @property
    def tokens_max(self) -> int:
        return self.prompt + self.new

    def prompts(self) -> list[list[int]]:
        """Ids in an arbitrary fixed order, no special ones among them."""
        draw = random.Random(self.name)
        return [[draw.randrange(10, weights.VOCABULARY) for _ in range(self.prompt)] for _ in range(self.batch)]


# Not timed: the likeliest token after each of some prompts, which must be everyone's.
CHECK = Work("check", "check", prompt=16, batch=8, rounds_max=1)

TIMED = (
    Work("cold start", "cold", prompt=16),
    Work("prefill 16", "prefill", prompt=16),
    Work("prefill 128", "prefill", prompt=128),
    Work("prefill 512", "prefill", prompt=512),
    Work("decode at 16", "decode", prompt=16, new=33),
    Work("decode at 1024", "decode", prompt=1024, new=33, repeats=1),
    Work("decode at 8192", "decode", prompt=8192, new=17, repeats=1, rounds_max=2),
    Work("batch 8", "decode", prompt=16, new=33, batch=8),
)

# Enough to see that every adapter works.
QUICK = ("cold start", "prefill 128", "decode at 16", "batch 8")

# The peak of resident memory is that of the process that decodes at this context.
MEMORY_OF = "decode at 1024"


def work_named(name: str) -> Work:
    return next(work for work in (CHECK, *TIMED) if work.name == name)

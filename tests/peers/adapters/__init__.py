"""The programs that bloomery is compared with, one file each, all with the same interface.

What `run.py` reads, without any package installed:

- `NAME`, and `DTYPES`, the types of weights to measure it with
- `PACKAGES` to install, perhaps `BARE_PACKAGES` to install without what they ask for, and one `SOURCE_PACKAGE` to
  build after `SOURCE_EDITS`, under `BUILD_ENVIRONMENT`; `SHOWN`, those whose versions are told
- `ENVIRONMENT` for the measured process, `{threads}` and `{processors}` filled in
- `CONVERTS_IN`, where that is another peer's environment with this one's packages before its own

What `worker.py` calls, in the peer's own environment (other packages are imported inside functions for that reason):

- `convert(weights, target, dtype)` makes of a Hugging Face folder what the peer runs, or raises `Refused` where it has
  no such arithmetic on this processor
- `Model(target, dtype, threads, tokens_max, sequences)`, with `generate(prompts, new_tokens, tick) -> new ids`;
  `tick()` is called whenever all sequences have a new token
"""

PEERS = ("llama_cpp", "openvino_cpu", "ctranslate2_cpu", "pytorch", "ik_llama_cpp")


class Refused(Exception):
    """The peer cannot do this here, by its own word."""


class Stepwise:
    """A model that is fed tokens: a subclass has `begin()` and `feed(ids of each sequence) -> likeliest next ids`."""

    CHUNK = 512

    def generate(self, prompts, new_tokens, tick):
        self.begin()
        for at in range(0, len(prompts[0]), self.CHUNK):
            newest = self.feed([prompt[at : at + self.CHUNK] for prompt in prompts])
        tick()
        generated = [newest]
        for _ in range(1, new_tokens):
            newest = self.feed([[id] for id in newest])
            tick()
            generated.append(newest)
        return [list(ids) for ids in zip(*generated)]

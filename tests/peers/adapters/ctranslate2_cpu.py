"""CTranslate2. It offers no single step, so each new token is noted by the callback of its generator.

On a CPU its floats are float32, and bfloat16 on some processors; it would silently take float32 for a type that it does
not offer, so that is refused here.
"""

from pathlib import Path
from types import SimpleNamespace

import weights
from adapters import Refused

NAME = "CTranslate2"
DTYPES = ("f32", "f16", "bf16")
PACKAGES = ("ctranslate2", "numpy")
# Its converter needs PyTorch; the measured process shall not import it.
CONVERTS_IN = "pytorch"
SHOWN = ("ctranslate2",)
ENVIRONMENT = {"OMP_NUM_THREADS": "{threads}"}

COMPUTE = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}


def convert(folder: Path, target: Path, dtype: str) -> None:
    import ctranslate2
    import transformers
    from ctranslate2.converters import transformers as converters

    if COMPUTE[dtype] not in ctranslate2.get_supported_compute_types("cpu"):
        raise Refused(f"CTranslate2 offers no {COMPUTE[dtype]} on this processor")
    # The model has no tokenizer, and the converter asks for one: its special tokens and its list of tokens.
    special = SimpleNamespace(bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    transformers.AutoTokenizer.from_pretrained = staticmethod(lambda *_, **__: special)
    loader = converters._MODEL_LOADERS["BloomConfig"]
    loader.get_vocabulary = lambda *_: [token(id) for id in range(weights.VOCABULARY)]
    converter = converters.TransformersConverter(str(folder))
    converter.convert(str(target), quantization=COMPUTE[dtype], force=True)


def token(id: int) -> str:
    return {0: "<unk>", 1: "<s>", 2: "</s>", 3: "<pad>"}.get(id, f"t{id}")


class Model:
    def __init__(self, target, dtype, threads, tokens_max, sequences):
        import ctranslate2

        settings = dict(compute_type=COMPUTE[dtype], inter_threads=1, intra_threads=threads)
        self.generator = ctranslate2.Generator(str(target), device="cpu", **settings)

    def generate(self, prompts, new_tokens, tick):
        def stepped(step):
            if step.batch_id == len(prompts) - 1:
                tick()

        results = self.generator.generate_batch(
            [[token(id) for id in prompt] for prompt in prompts],
            max_length=new_tokens,
            min_length=new_tokens,
            sampling_topk=1,
            include_prompt_in_result=False,
            callback=stepped,
        )
        return [result.sequences_ids[0] for result in results]

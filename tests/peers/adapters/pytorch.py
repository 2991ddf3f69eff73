"""PyTorch with Hugging Face transformers, as one would call it: eager, logits of the last token alone."""

from pathlib import Path

from adapters import Stepwise

NAME = "transformers"
DTYPES = ("f32", "f16", "bf16")
PACKAGES = ("torch", "transformers", "numpy", "safetensors")
SHOWN = ("transformers", "torch")
ENVIRONMENT = {"GOMP_CPU_AFFINITY": "{processors}", "HF_HUB_OFFLINE": "1"}


def convert(folder: Path, target: Path, dtype: str) -> None:
    """It reads the folder as it is."""
    for name in ("config.json", "model.safetensors"):
        (target / name).symlink_to(folder.resolve() / name)


class Model(Stepwise):
    def __init__(self, target, dtype, threads, tokens_max, sequences):
        import torch
        from transformers import BloomForCausalLM

        self.torch = torch
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        kind = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[dtype]
        self.model = BloomForCausalLM.from_pretrained(target, dtype=kind).eval()

    def begin(self):
        self.cache = None

    def feed(self, ids):
        ids = self.torch.tensor(ids)
        output = self.model(ids, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        self.cache = output.past_key_values
        return output.logits[:, -1].argmax(-1).tolist()

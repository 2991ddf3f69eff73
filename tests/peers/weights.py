"""The model that everyone runs: BLOOM-560M's shape with random weights, as a Hugging Face folder.

Every weight is one of 256 values with at most eight significant bits. So f32, f16 and bf16 hold equal numbers, no
conversion rounds, and all programs must find the same tokens. And a byte of randomness is a weight: `bytes.translate`
writes half a billion of them in seconds, without any package.
"""

import hashlib
import json
import mmap
import random
import struct
from pathlib import Path
from statistics import NormalDist
from typing import Iterator, NamedTuple

HIDDEN, LAYERS, HEADS, VOCABULARY = 1024, 24, 16, 250_880
CONTEXT = 8448

DTYPES = {"f32": "F32", "f16": "F16", "bf16": "BF16"}
BYTES = {"f32": 4, "f16": 2, "bf16": 2}


def quantiles(deviation: float, grid: int) -> list[float]:
    """256 values of a normal distribution, all equally likely, rounded to multiples of 1/grid."""
    normal = NormalDist(0, deviation)
    return [round(normal.inv_cdf((i + 0.5) / 256) * grid) / grid for i in range(256)]


MATRIX = quantiles(0.02, 4096)
GAIN = [1 + x for x in quantiles(0.02, 128)]
# With biases as large as weights, prompts would hardly matter; and as the head is the embedding, a stream that begins
# with all of it would end in the last token again. Both so small, each prompt has an answer of its own.
BIAS = [x / 4 for x in MATRIX]
FIRST_GAIN = [x / 16 for x in GAIN]


def names_and_shapes() -> dict[str, tuple[int, ...]]:
    """Every tensor of the checkpoint; the head is the embedding."""
    h = HIDDEN
    norm = lambda name: {f"{name}.weight": (h,), f"{name}.bias": (h,)}
    linear = lambda name, n, k: {f"{name}.weight": (n, k), f"{name}.bias": (n,)}
    shapes = {"word_embeddings.weight": (VOCABULARY, h)} | norm("word_embeddings_layernorm")
    for i in range(LAYERS):
        shapes |= norm(f"h.{i}.input_layernorm")
        shapes |= linear(f"h.{i}.self_attention.query_key_value", 3 * h, h)
        shapes |= linear(f"h.{i}.self_attention.dense", h, h)
        shapes |= norm(f"h.{i}.post_attention_layernorm")
        shapes |= linear(f"h.{i}.mlp.dense_h_to_4h", 4 * h, h)
        shapes |= linear(f"h.{i}.mlp.dense_4h_to_h", h, 4 * h)
    shapes |= norm("ln_f")
    return {f"transformer.{name}": shape for name, shape in shapes.items()}


def elements(shape: tuple[int, ...]) -> int:
    return shape[0] * (shape[1] if len(shape) == 2 else 1)


def encode(value: float, dtype: str) -> bytes:
    """One value, little endian; bf16 is the upper half of an f32."""
    if dtype == "f16":
        return struct.pack("<e", value)
    return struct.pack("<f", value)[-BYTES[dtype] :]


def random_tensor(name: str, shape: tuple[int, ...], dtype: str) -> bytearray:
    """The same weights for the same name, whatever the type."""
    values = [encode(value, dtype) for value in values_of(name)]
    choices, width = random.Random(name).randbytes(elements(shape)), BYTES[dtype]
    data = bytearray(width * len(choices))
    for place in range(width):
        data[place::width] = choices.translate(bytes(value[place] for value in values))
    return data


def values_of(name: str) -> list[float]:
    if name.endswith(".bias"):
        return BIAS
    if name.endswith("word_embeddings_layernorm.weight"):
        return FIRST_GAIN
    return GAIN if name.endswith(("layernorm.weight", "ln_f.weight")) else MATRIX


def fingerprint(dtype: str) -> str:
    """Another one wherever the folder would be another."""
    told = (MATRIX, BIAS, GAIN, FIRST_GAIN, config(dtype), names_and_shapes())
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def write(folder: Path, dtype: str) -> None:
    """A folder with `config.json` and `model.safetensors`."""
    shapes, header, end = names_and_shapes(), {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes.items():
        begin, end = end, end + elements(shape) * BYTES[dtype]
        header[name] = {"dtype": DTYPES[dtype], "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            file.write(random_tensor(name, shape, dtype))
    (folder / "config.json").write_text(json.dumps(config(dtype), indent=1))


def config(dtype: str) -> dict:
    return {
        "architectures": ["BloomForCausalLM"],
        "model_type": "bloom",
        "hidden_size": HIDDEN,
        "n_layer": LAYERS,
        "n_head": HEADS,
        "vocab_size": VOCABULARY,
        "seq_length": CONTEXT,
        "layer_norm_epsilon": 1e-5,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "apply_residual_connection_post_layernorm": False,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 3,
        "torch_dtype": {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}[dtype],
    }


class Tensor(NamedTuple):
    """A tensor as it lies in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: memoryview


def read(folder: Path) -> Iterator[Tensor]:
    """The tensors of a folder that `write` made, mapped."""
    with open(folder / "model.safetensors", "rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    start = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(bytes(data[8:start]))
    dtypes = {theirs: ours for ours, theirs in DTYPES.items()}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            yield Tensor(name, dtypes[entry["dtype"]], tuple(entry["shape"]), data[start + begin : start + end])

"""llama.cpp, built for this processor by llama-cpp-python and called through its low-level API.

Its defaults, but for flash attention, which is off: on a CPU it gains 5 % in prefill and loses a third of the decoding
speed at context 1024. The cache is f16 for every type of weights, as is its default.
"""

from pathlib import Path

import weights
from adapters import Stepwise

NAME = "llama.cpp"
DTYPES = ("f32", "f16", "bf16")
PACKAGES = ("llama-cpp-python", "numpy", "gguf")
SHOWN = ("llama-cpp-python",)
# For this processor, and without what looks at pictures.
BUILD_ENVIRONMENT = {"CMAKE_ARGS": "-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF"}
ENVIRONMENT = {"GOMP_CPU_AFFINITY": "{processors}"}

# What GGUF calls the tensors of a layer.
NAMES = {
    "input_layernorm": "attn_norm",
    "self_attention.query_key_value": "attn_qkv",
    "self_attention.dense": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.dense_h_to_4h": "ffn_up",
    "mlp.dense_4h_to_h": "ffn_down",
    "word_embeddings": "token_embd",
    "word_embeddings_layernorm": "token_embd_norm",
    "ln_f": "output_norm",
}


def convert(folder: Path, target: Path, dtype: str) -> None:
    import gguf

    writer = gguf.GGUFWriter(target / "model.gguf", "bloom")
    writer.add_context_length(weights.CONTEXT)
    writer.add_embedding_length(weights.HIDDEN)
    writer.add_feed_forward_length(4 * weights.HIDDEN)
    writer.add_block_count(weights.LAYERS)
    writer.add_head_count(weights.HEADS)
    writer.add_head_count_kv(weights.HEADS)
    writer.add_layer_norm_eps(1e-5)
    writer.add_file_type({"f32": 0, "f16": 1, "bf16": 32}[dtype])
    add_vocabulary(writer)
    for tensor in weights.read(folder):
        data, raw_dtype = gguf_data(tensor)
        writer.add_tensor(gguf_name(tensor.name), data, raw_dtype=raw_dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_vocabulary(writer) -> None:
    """A vocabulary that only counts: llama.cpp loads no model without one."""
    special = ["<unk>", "<s>", "</s>", "<pad>"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("bloom")
    writer.add_token_list(special + [f"t{i}" for i in range(len(special), weights.VOCABULARY)])
    writer.add_token_types([3] * len(special) + [1] * (weights.VOCABULARY - len(special)))
    writer.add_token_merges(["t 4", "t 5"])


def gguf_name(name: str) -> str:
    """`transformer.h.3.mlp.dense_h_to_4h.bias` is `blk.3.ffn_up.bias`."""
    module, kind = name.removeprefix("transformer.").rsplit(".", 1)
    if not module.startswith("h."):
        return f"{NAMES[module]}.{kind}"
    _, layer, rest = module.split(".", 2)
    return f"blk.{layer}.{NAMES[rest]}.{kind}"


def gguf_data(tensor: weights.Tensor):
    """Matrices keep their type and vectors are f32; query, key and value lie one after another, not head by head."""
    import gguf
    import numpy as np

    stored = {"f32": "<u4", "f16": "<u2", "bf16": "<u2"}[tensor.dtype]
    data = np.frombuffer(tensor.data, stored).reshape(tensor.shape)
    if "query_key_value" in tensor.name:
        split = data.reshape(weights.HEADS, 3, weights.HIDDEN // weights.HEADS, -1)
        data = np.ascontiguousarray(split.swapaxes(0, 1)).reshape(tensor.shape)
    if data.ndim == 1:
        return widened(data, tensor.dtype), None
    if tensor.dtype == "bf16":
        return data.view(np.uint8), gguf.GGMLQuantizationType.BF16
    return data.view({"f32": np.float32, "f16": np.float16}[tensor.dtype]), None


def widened(data, dtype: str):
    import numpy as np

    if dtype == "bf16":
        return (data.astype(np.uint32) << 16).view(np.float32)
    return data.view({"f32": np.float32, "f16": np.float16}[dtype]).astype(np.float32)


class Model(Stepwise):
    def __init__(self, target, dtype, threads, tokens_max, sequences):
        import llama_cpp

        self.api = llama_cpp
        self.silence = llama_cpp.llama_log_callback(lambda *_: None)
        llama_cpp.llama_log_set(self.silence, None)
        llama_cpp.llama_backend_init()
        file = str(target / "model.gguf").encode()
        self.model = llama_cpp.llama_model_load_from_file(file, llama_cpp.llama_model_default_params())
        settings = self.settings(threads, tokens_max, sequences)
        settings.kv_unified = True
        settings.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.context = llama_cpp.llama_init_from_model(self.model, settings)

    def settings(self, threads, tokens_max, sequences):
        settings = self.api.llama_context_default_params()
        settings.n_ctx = tokens_max * sequences
        settings.n_batch = settings.n_ubatch = self.CHUNK
        settings.n_threads = settings.n_threads_batch = threads
        settings.n_seq_max = sequences
        return settings

    def begin(self):
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)
        self.length = 0

    def feed(self, ids):
        count = len(ids) * len(ids[0])
        batch = self.api.llama_batch_init(count, 0, 1)
        batch.n_tokens = count
        for at in range(count):
            sequence, i = divmod(at, len(ids[0]))
            batch.token[at], batch.pos[at] = ids[sequence][i], self.length + i
            batch.n_seq_id[at], batch.seq_id[at][0] = 1, sequence
            batch.logits[at] = i + 1 == len(ids[0])
        code = self.api.llama_decode(self.context, batch)
        self.api.llama_batch_free(batch)
        if code != 0:
            raise RuntimeError(f"llama_decode returned {code} for {count} tokens")
        self.length += len(ids[0])
        return [self.likeliest((sequence + 1) * len(ids[0]) - 1) for sequence in range(len(ids))]

    def likeliest(self, place: int) -> int:
        import numpy as np

        return int(np.ctypeslib.as_array(self.logits(place), (weights.VOCABULARY,)).argmax())

    def logits(self, place: int):
        return self.api.llama_get_logits_ith(self.context, place)

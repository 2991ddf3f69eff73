"""ik_llama.cpp, a fork of llama.cpp with kernels of its own, built for this processor from its package's source.

As released it cannot run BLOOM: its loader does not know that the head is the embedding, and the norm before the MLP is
taken for another kind, which asserts. Two lines of it are edited before it is built; no kernel is touched.
"""

from adapters import llama_cpp

NAME = "ik_llama.cpp"
DTYPES = llama_cpp.DTYPES
PACKAGES = ("numpy", "gguf")
SOURCE_PACKAGE = "ik-llama-cpp-python"
# In which file, at the first place after what, is what replaced by what.
SOURCE_EDITS = (
    (
        "vendor/ik_llama.cpp/src/llama-load-tensors.cpp",
        "create_tensors_helper::create_bloom_tensors",
        'tn(LLM_TENSOR_OUTPUT,      "weight"), {n_embd, n_vocab});',
        'tn(LLM_TENSOR_TOKEN_EMBD, "weight"), {n_embd, n_vocab}, llama_model_loader::TENSOR_DUPLICATED);',
    ),
    (
        "vendor/ik_llama.cpp/src/llama-build-context.cpp",
        "llm_build_context::build_bloom()",
        "cur = llm_build_ffn(ctx0, lctx, model.layers[il].ffn_norm, ffn_inp,",
        "cur = llm_build_norm(ctx0, ffn_inp, hparams, model.layers[il].ffn_norm, model.layers[il].ffn_norm_b,\n"
        "                    LLM_NORM, cb, il);\n"
        "            cur = llm_build_ffn(ctx0, lctx, NULL, cur,",
    ),
)
BUILD_ENVIRONMENT = llama_cpp.BUILD_ENVIRONMENT
SHOWN = ("ik-llama-cpp-python",)
ENVIRONMENT = llama_cpp.ENVIRONMENT

convert = llama_cpp.convert


class Model(llama_cpp.Model):
    """The same API, but for what its fork was spared."""

    def __init__(self, target, dtype, threads, tokens_max, sequences):
        from ik_llama_cpp import _ctypes_api as api

        self.api = api
        api.llama_backend_init()
        file = str(target / "model.gguf").encode()
        self.model = api.llama_model_load_from_file(file, api.llama_model_default_params())
        settings = self.settings(threads, tokens_max, sequences)
        settings.flash_attn = False
        self.context = api.llama_init_from_model(self.model, settings)

    def begin(self):
        self.api.llama_kv_cache_clear(self.context)
        self.length = 0

    def logits(self, place: int):
        return self.api.llama_get_logits_ith(self.context, place)

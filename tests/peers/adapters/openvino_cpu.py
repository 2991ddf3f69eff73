"""OpenVINO's CPU plugin on the stateful graph that optimum-intel exports, cut to the logits of the last token.

f16 is what OpenVINO saves by default: weights in f16, arithmetic in f32 where the processor has no f16 products. bf16
is its own choice on processors with bf16 products, and refused here on others.
"""

from pathlib import Path

from adapters import Refused, Stepwise

NAME = "OpenVINO"
DTYPES = ("f32", "f16", "bf16")
PACKAGES = ("openvino", "numpy", "transformers==4.57.6")
# Their own lists ask for another PyTorch and another transformers.
BARE_PACKAGES = ("optimum", "optimum-intel", "optimum-onnx")
# Its converter needs PyTorch; the measured process shall not import it.
CONVERTS_IN = "pytorch"
SHOWN = ("openvino",)
ENVIRONMENT = {}


def convert(folder: Path, target: Path, dtype: str) -> None:
    import numpy as np
    import openvino
    from openvino import opset13 as operations
    from optimum.intel import OVModelForCausalLM

    if dtype == "bf16" and "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise Refused("OpenVINO offers no bf16 on this processor")
    graph = OVModelForCausalLM.from_pretrained(folder, export=True, compile=False, load_in_8bit=False).model
    head = graph.output("logits").get_node()
    while head.get_type_name() != "MatMul":
        head = head.input_value(0).get_node()
    numbers = lambda *values: np.array(values, np.int64)
    last = operations.slice(head.input_value(0), numbers(-1), numbers(2**31), numbers(1), numbers(1))
    head.input(0).replace_source_output(last.output(0))
    graph.validate_nodes_and_infer_types()
    openvino.save_model(graph, target / "model.xml", compress_to_fp16=dtype == "f16")


class Model(Stepwise):
    def __init__(self, target, dtype, threads, tokens_max, sequences):
        import numpy
        import openvino

        self.numpy = numpy
        core = openvino.Core()
        offered = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        precision = {"f32": "f32", "bf16": "bf16", "f16": "f16" if "FP16" in offered else "f32"}[dtype]
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": precision,
        }
        model = core.compile_model(target / "model.xml", "CPU", settings)
        self.inputs = {input.get_any_name() for input in model.inputs}
        self.request = model.create_infer_request()

    def begin(self):
        self.request.reset_state()
        self.length = 0

    def feed(self, ids):
        numpy, ids = self.numpy, self.numpy.array(ids, self.numpy.int64)
        sequences, count = ids.shape
        positions = numpy.arange(self.length, self.length + count, dtype=numpy.int64)
        self.length += count
        inputs = {
            "input_ids": ids,
            "attention_mask": numpy.ones((sequences, self.length), numpy.int64),
            "position_ids": numpy.tile(positions, (sequences, 1)),
            "beam_idx": numpy.arange(sequences, dtype=numpy.int32),
        }
        self.request.infer({name: value for name, value in inputs.items() if name in self.inputs})
        return self.request.get_tensor("logits").data[:, -1].argmax(-1).tolist()

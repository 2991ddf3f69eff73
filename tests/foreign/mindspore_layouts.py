"""What the makers of fixtures and check_mindspore.py share: layout arithmetic of our own, and small file helpers.

The arithmetic (`pieces`, `cut`) is written from the format, not from MindSpore, so that a fixture whose source
was cut here and whose result was made by MindSpore proves both.
"""
import hashlib, json, os, struct

os.environ.setdefault("GLOG_v", "4")


# ---- layouts: which piece of a tensor a rank holds -------------------------------------------------------------

class Layout:
    """One parameter's entry of a strategy file. `tensor_map` has one list of axis numbers per dimension
    (axes counted from the right of `dev_matrix`; [] = not split)."""

    def __init__(self, dev_matrix, tensor_map, opt_step=0, opt_size=0):
        self.dev_matrix = list(dev_matrix)
        self.tensor_map = [[a for a in (e if isinstance(e, (list, tuple)) else [e]) if a != -1] for e in tensor_map]
        self.opt_step, self.opt_size = opt_step, opt_size

    def devices(self):
        product = 1
        for n in self.dev_matrix:
            product *= n
        return product


def coordinates(rank, dev_matrix):
    digits = []
    for n in reversed(dev_matrix):
        digits.append(rank % n)
        rank //= n
    return digits[::-1]


def pieces(layout, rank):
    """[(index, count)] per dimension for a rank inside its stage; the optimizer shard is inside dimension 0."""
    dev, at = layout.dev_matrix, coordinates(rank, layout.dev_matrix)
    used, result = set(), []
    for axes in layout.tensor_map:
        index, count = 0, 1
        for a in axes:
            position = len(dev) - 1 - a
            used.add(position)
            index, count = index * dev[position] + at[position], count * dev[position]
        result.append((index, count))
    if layout.opt_size:
        free = [p for p in range(len(dev)) if p not in used and dev[p] > 1]
        size = layout.opt_size
        if size == -1:
            size = 1
            for p in free:
                size *= dev[p]
        left, index, weight = size, 0, 1
        for p in reversed(free):
            if left == 1:
                break
            take = min(dev[p], left)
            index, weight, left = index + (at[p] % take) * weight, weight * take, left // take
        i, k = result[0]
        result[0] = (i * size + index, k * size)
    return result


def cut(full, layout, rank):
    """The rank's slice of a full array."""
    where = tuple(slice(i * (n // k), (i + 1) * (n // k)) for (i, k), n in zip(pieces(layout, rank), full.shape))
    return full[where]


# ---- strategy files (through MindSpore's own message classes) ------------------------------------------------

def read_strategy(path):
    from mindspore.train.node_strategy_pb2 import ParallelStrategyMap
    message = ParallelStrategyMap()
    with open(path, "rb") as f:
        message.ParseFromString(f.read())
    return message


def layouts_of(message):
    """{parameter: [Layout per stage entry in file order]} with the stage prefix still in the name."""
    found = {}
    for item in message.parallel_layout_item:
        body = item.parallel_layouts
        maps = [list(m.dim) for m in body.tensor_map]
        tensor_map = maps if len(maps) > 1 else list(maps[0]) if maps else []
        found[item.param_name] = Layout(body.dev_matrix[0].dim, tensor_map, body.opt_weight_shard_step,
                                        body.opt_weight_shard_size)
    return found


def strategy_table(message):
    """The whole file as plain JSON values, in file order. What is constant in every file MindSpore's compiler wrote is
    asserted, not repeated: one dev_matrix, one empty param_split_shape, one empty indices_offset, field 0."""
    layouts = {}
    for item in message.parallel_layout_item:
        body = item.parallel_layouts
        assert len(body.dev_matrix) == 1 and [list(m.dim) for m in body.param_split_shape] == [[]] == [list(m.dim) for m in body.indices_offset]
        assert body.field == 0 and item.param_name not in layouts
        layouts[item.param_name] = {"dev_matrix": list(body.dev_matrix[0].dim), "tensor_map": [list(m.dim) for m in body.tensor_map],
                                    "opt": [body.opt_weight_shard_step, body.opt_weight_shard_size]}
    return {"current_stage": message.current_stage,
            "operators": [[i.node_name, i.parallel_strategys.stage, [list(s.dim) for s in i.parallel_strategys.parallel_strategy]]
                          for i in message.parallel_strategy_item],
            "layouts": layouts}


def write_strategy(path, layouts, stage=0):
    """A strategy file from {name: Layout}, the way MindSpore's compiler lays it out."""
    from mindspore.train.node_strategy_pb2 import ParallelStrategyMap
    message = ParallelStrategyMap()
    message.current_stage = 2
    operator = message.parallel_strategy_item.add()
    operator.node_name, operator.parallel_strategys.stage = f"MatMul_{next(iter(layouts))}", stage
    for name, layout in layouts.items():
        item = message.parallel_layout_item.add()
        item.param_name, body = name, item.parallel_layouts
        body.dev_matrix.add().dim.extend(layout.dev_matrix)
        if any(len(axes) > 1 for axes in layout.tensor_map):
            for axes in layout.tensor_map:
                body.tensor_map.add().dim.extend(axes or [-1])
        else:
            body.tensor_map.add().dim.extend([axes[0] if axes else -1 for axes in layout.tensor_map])
        body.param_split_shape.add()
        body.indices_offset.add()
        body.field, body.opt_weight_shard_step, body.opt_weight_shard_size = 0, layout.opt_step, layout.opt_size
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(message.SerializeToString())


# ---- checkpoints ------------------------------------------------------------------------------------------------

def tensor(array):
    """A MindSpore tensor of a numpy array; ("bf16", float32 array) makes a bfloat16 one."""
    import mindspore as ms
    import numpy as np
    if isinstance(array, tuple):
        return ms.Tensor(np.ascontiguousarray(array[1]), ms.bfloat16)
    return ms.Tensor(np.ascontiguousarray(array) if array.ndim else array)


def save(path, arrays, **options):
    """save_checkpoint of {name: array}, in the given order, readable and writable afterwards."""
    import mindspore as ms
    os.makedirs(os.path.dirname(path), exist_ok=True)
    ms.save_checkpoint([{"name": n, "data": ms.Parameter(tensor(a), name=n)} for n, a in arrays.items()], path, **options)
    os.chmod(path, 0o644)


def parse_checkpoint(path):
    """{tag: (dims, type, bytes, entries)} of the file itself, through MindSpore's own message class."""
    from mindspore.train.checkpoint_pb2 import Checkpoint
    with open(path, "rb") as f:
        data = f.read()
    if data[-17:-10] == b"crc_num":
        data = data[:-17]
    message, found = Checkpoint(), {}
    message.ParseFromString(data)
    for value in message.value:
        dims, kind, body, entries = found.get(value.tag, (None, None, b"", 0))
        found[value.tag] = (list(value.tensor.dims), value.tensor.tensor_type, body + value.tensor.tensor_content, entries + 1)
    return found


def describe_checkpoint(path):
    """What a reader must find in a checkpoint, in file order: {name: [dims, type, bytes, entries, sha256 (16 digits)]}."""
    return {name: [dims, kind, len(body), entries, short_hash(body)] for name, (dims, kind, body, entries) in parse_checkpoint(path).items()}


def short_hash(data):
    return hashlib.sha256(data).hexdigest()[:16]


def write_json(path, value):
    """JSON a person can read: one line per innermost list or object."""
    def lines(v, depth):
        flat = json.dumps(v, ensure_ascii=False)
        if len(flat) <= 150 or not isinstance(v, (dict, list)):
            return flat
        pad = "  " * (depth + 1)
        if isinstance(v, dict):
            body = ",\n".join(f"{pad}{json.dumps(k, ensure_ascii=False)}: {lines(x, depth + 1)}" for k, x in v.items())
            return "{\n" + body + "\n" + "  " * depth + "}"
        return "[\n" + ",\n".join(pad + lines(x, depth + 1) for x in v) + "\n" + "  " * depth + "]"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write(lines(value, 0) + "\n")


def write_text(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


# ---- checkpoint wire format by hand (no MindSpore), for accepted and refused oddities ------------------------

def varint(n):
    out = b""
    while True:
        low, n = n & 127, n >> 7
        out += bytes([low | (128 if n else 0)])
        if not n:
            return out


def field(number, body):
    return varint(number << 3 | 2) + varint(len(body)) + body


def raw_value(tag, dims, kind, content, packed=False):
    shape = field(1, b"".join(map(varint, dims))) if packed else b"".join(b"\x08" + varint(d) for d in dims)
    return field(1, field(1, tag.encode()) + field(2, shape + field(2, kind.encode()) + field(3, content)))


def floats(*values):
    return struct.pack(f"<{len(values)}f", *values)

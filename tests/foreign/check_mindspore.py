"""Judge our files with MindSpore itself (`pip install mindspore`). Exit status 0: equal; 1: different, with the first differences printed.

    python3 tests/foreign/check_mindspore.py checkpoints DIR_OR_FILE DIR_OR_FILE [--any-name] [--order]
        Load every .ckpt of both with mindspore.load_checkpoint; names, types, shapes and bits must agree.
        Files pair by relative path; --any-name pairs rank_N folders with one checkpoint each; --order compares file order too.
    check_mindspore.py records FILE EXPECTED.npz|EXPECTED.json
        Iterate FILE (any shard of the set) with MindDataset(shuffle=False) and compare with the rows in EXPECTED.npz, which
        holds per column C: C__values (all rows flat) and C__shapes (rows x rank), or C__text (one string per row); or with
        those in EXPECTED.json as `bloomery data show --json` prints them (`schema`, `rows`).
    check_mindspore.py strategy FILE FILE
        Parse both (.json or protobuf) and compare layouts and operators, whatever their order.
    check_mindspore.py merge DIR FILE
        Let MindSpore merge the strategies of all stages in DIR and compare with FILE as `strategy` does.
    check_mindspore.py transform SRC_DIR OUR_DIR PREFIX [--src-strategy FILE] [--dst-strategy FILE]
        Let MindSpore transform SRC_DIR and compare with OUR_DIR as `checkpoints` does.
"""
import argparse, os, sys, tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
os.environ.setdefault("GLOG_v", "4")


class Differences(list):
    def say(self, text):
        self.append(text)
        if len(self) <= 20:
            print("different:", text)


def checkpoint_files(root):
    if os.path.isfile(root):
        return {"": root}
    found = {}
    for folder, _, files in os.walk(root):
        for f in files:
            if f.endswith(".ckpt"):
                found[os.path.relpath(os.path.join(folder, f), root)] = os.path.join(folder, f)
    return found


def by_folder(files):
    grouped = {}
    for name, path in files.items():
        grouped.setdefault(os.path.dirname(name), []).append(path)
    several = [f for f, p in grouped.items() if len(p) != 1]
    assert not several, f"more than one checkpoint in {several}"
    return {f: p[0] for f, p in grouped.items()}


def values(path):
    """{name: (type, shape, bytes or text)} as MindSpore loads it."""
    import mindspore as ms
    import numpy as np
    out = {}
    for name, v in ms.load_checkpoint(path).items():
        if isinstance(v, str):
            out[name] = ("str", (), v)
        else:
            kind = str(v.dtype)
            array = v.float().asnumpy() if kind == "BFloat16" else v.asnumpy()
            out[name] = (kind, tuple(v.shape), np.ascontiguousarray(array).tobytes())
    return out


def compare_checkpoints(a, b, any_name=False, order=False):
    bad = Differences()
    files_a, files_b = checkpoint_files(a), checkpoint_files(b)
    if any_name:
        files_a, files_b = by_folder(files_a), by_folder(files_b)
    for name in sorted(set(files_a) ^ set(files_b)):
        bad.say(f"only one side has {name or 'the file'}")
    count = 0
    for name in sorted(set(files_a) & set(files_b)):
        left, right = values(files_a[name]), values(files_b[name])
        for p in [p for p in left if p not in right] + [p for p in right if p not in left]:
            bad.say(f"{name}: only one side has parameter {p}")
        if order and list(left) != list(right):
            bad.say(f"{name}: parameters in another order")
        for p in left:
            if p in right:
                count += 1
                for what, x, y in zip(("type", "shape"), left[p], right[p]):
                    if x != y:
                        bad.say(f"{name}: {p}: {what} {x} and {y}")
                if left[p][:2] == right[p][:2] and left[p][2] != right[p][2]:
                    bad.say(f"{name}: {p}: values")
    if not files_a and not files_b:
        bad.say("no checkpoint on either side")
    print(f"{len(files_a)} files, {count} parameters, {len(bad)} differences")
    return not bad


def save_rows(path, rows):
    """rows: list of {column: numpy array or str}; what `records` compares with."""
    import numpy as np
    out = {}
    for c in rows[0]:
        if isinstance(rows[0][c], str):
            out[f"{c}__text"] = np.array([r[c] for r in rows])
        else:
            out[f"{c}__values"] = np.concatenate([np.asarray(r[c]).ravel() for r in rows])
            out[f"{c}__shapes"] = np.array([np.asarray(r[c]).shape for r in rows], np.int64).reshape(len(rows), -1)
    np.savez_compressed(path, **out)


def compare_rows(file, expected):
    """With rows as JSON has them: every value, and every column's type."""
    import json
    import mindspore.dataset as ds
    bad = Differences()
    with open(expected, encoding="utf-8") as f:
        told = json.load(f)
    types = {name: field["type"] for name, field in told["schema"].items()}
    rows = list(ds.MindDataset(file, shuffle=False).create_dict_iterator(output_numpy=True, num_epochs=1))
    if len(rows) != len(told["rows"]):
        bad.say(f"{len(rows)} rows and {len(told['rows'])}")
    for i, (row, want) in enumerate(zip(rows, told["rows"])):
        if sorted(row) != sorted(types):
            bad.say(f"row {i}: columns {sorted(row)} and {sorted(types)}")
        for name in set(row) & set(types):
            if str(row[name].dtype) != types[name] or row[name].tolist() != want[name]:
                bad.say(f"row {i}: {name}: {row[name].dtype} {row[name].tolist()[:4]} and {types[name]} {want[name][:4]}")
    print(f"{len(rows)} rows, {len(types)} columns, {len(bad)} differences")
    return not bad


def compare_records(file, expected):
    import mindspore.dataset as ds
    import numpy as np
    bad = Differences()
    want = np.load(expected)
    columns = sorted({k.rsplit("__", 1)[0] for k in want.files})
    rows = list(ds.MindDataset(file, shuffle=False).create_dict_iterator(output_numpy=True, num_epochs=1))
    if rows and sorted(rows[0]) != columns:
        bad.say(f"columns {sorted(rows[0])} and {columns}")
        columns = [c for c in columns if c in rows[0]]
    for c in columns:
        if f"{c}__text" in want.files:
            texts = [str(t) for t in want[f"{c}__text"]]
            if len(texts) != len(rows):
                bad.say(f"{len(rows)} rows and {len(texts)}")
            for i, (row, text) in enumerate(zip(rows, texts)):
                if str(row[c]) != text:
                    bad.say(f"row {i}: {c}: {str(row[c])!r} and {text!r}")
            continue
        flat, shapes, at = want[f"{c}__values"], want[f"{c}__shapes"], 0
        if len(shapes) != len(rows):
            bad.say(f"{len(rows)} rows and {len(shapes)}")
        for i, (row, shape) in enumerate(zip(rows, shapes)):
            size = int(np.prod(shape)) if len(shape) else 1
            part, at = flat[at:at + size].reshape(shape), at + size
            got = row[c]
            if got.dtype.kind == "S":
                got = np.frombuffer(got.tobytes(), np.uint8)
            if got.dtype != part.dtype or got.shape != part.shape or got.tobytes() != part.tobytes():
                bad.say(f"row {i}: {c}: {got.dtype}{got.shape} {got.ravel()[:4]} and {part.dtype}{part.shape} {part.ravel()[:4]}")
    print(f"{len(rows)} rows, {len(columns)} columns, {len(bad)} differences")
    return not bad


def strategy_values(path):
    import json
    if path.endswith(".json"):
        with open(path, encoding="utf-8") as f:
            data = json.load(f)
        keep = ("dev_matrix", "tensor_map", "opt_weight_shard_step", "opt_weight_shard_size", "field")
        layouts = {n: {k: v[k] for k in keep} for n, v in data["parallel_layout_item"].items()}
        operators = {n: [v["stage"], v["parallel_strategy"]] for n, v in data["parallel_strategy_item"].items()}
        return layouts, operators
    import mindspore_layouts as lib
    message = lib.read_strategy(path)
    layouts, operators = {}, {}
    for i in message.parallel_layout_item:
        body = i.parallel_layouts
        maps = [list(m.dim) for m in body.tensor_map]
        assert i.param_name not in layouts, f"{i.param_name} twice in {path}"
        layouts[i.param_name] = dict(dev_matrix=list(body.dev_matrix[0].dim), tensor_map=maps if len(maps) > 1 else maps[0], field=body.field,
                                     opt_weight_shard_step=body.opt_weight_shard_step, opt_weight_shard_size=body.opt_weight_shard_size)
    for i in message.parallel_strategy_item:
        operators[i.node_name] = [i.parallel_strategys.stage, [list(s.dim) for s in i.parallel_strategys.parallel_strategy]]
    return layouts, operators


def compare_strategies(a, b):
    bad = Differences()
    for what, left, right in zip(("layout", "operator"), strategy_values(a), strategy_values(b)):
        for n in sorted(set(left) | set(right)):
            if left.get(n) != right.get(n):
                bad.say(f"{what} {n}: {left.get(n)} and {right.get(n)}")
    print(f"{len(bad)} differences")
    return not bad


def compare_merged(folder, ours):
    import mindspore as ms
    with tempfile.TemporaryDirectory() as scratch:
        merged = os.path.join(scratch, "merged.ckpt")
        ms.merge_pipeline_strategys(folder, merged)
        return compare_strategies(merged, ours)


def compare_transform(args):
    import mindspore as ms
    with tempfile.TemporaryDirectory() as scratch:
        ms.transform_checkpoints(args.src, scratch, args.prefix, args.src_strategy, args.dst_strategy)
        return compare_checkpoints(scratch, args.ours)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ways = parser.add_subparsers(dest="way", required=True)
    p = ways.add_parser("checkpoints")
    p.add_argument("a"), p.add_argument("b"), p.add_argument("--any-name", action="store_true"), p.add_argument("--order", action="store_true")
    p = ways.add_parser("records")
    p.add_argument("file"), p.add_argument("expected")
    p = ways.add_parser("strategy")
    p.add_argument("a"), p.add_argument("b")
    p = ways.add_parser("merge")
    p.add_argument("folder"), p.add_argument("file")
    p = ways.add_parser("transform")
    p.add_argument("src"), p.add_argument("ours"), p.add_argument("prefix"), p.add_argument("--src-strategy"), p.add_argument("--dst-strategy")
    args = parser.parse_args()
    same = {"checkpoints": lambda: compare_checkpoints(args.a, args.b, args.any_name, args.order),
            "records": lambda: (compare_rows if args.expected.endswith(".json") else compare_records)(args.file, args.expected),
            "strategy": lambda: compare_strategies(args.a, args.b),
            "merge": lambda: compare_merged(args.folder, args.file),
            "transform": lambda: compare_transform(args)}[args.way]()
    raise SystemExit(0 if same else 1)


if __name__ == "__main__":
    main()

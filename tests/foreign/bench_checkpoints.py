"""How fast checkpoints are converted and transformed, against `cp` of the same bytes, and how much memory that takes.

    python3 tests/foreign/bench_checkpoints.py --folder DIR [--turns 3] [--bloomery target/release/bloomery] [--layers 24]

Writes a checkpoint of BLOOM-1b7's sizes (3.4 GB of f16, random numbers) into a new folder in DIR, which needs 30 GB of room. Every
work is timed in turn with `cp -r` of what it wrote, both from files in the page cache and with nothing left to write for the
system; figures are medians of the turns. Memory is the largest resident set (`ru_maxrss`, what `time -v` tells), in which pages of
mapped files count. At last what went there and back is compared with what it was. Prints the README's table; exit status 1 if
something is slower than a third of `cp`, takes 600 MB, or came back another one. Removes what it wrote. Needs Python alone.
"""
import argparse, json, os, platform, random, shutil, statistics, struct, subprocess, sys, tempfile, time
from pathlib import Path

HIDDEN, HEADS, VOCABULARY = 2048, 16, 250_880
FROM_STRATEGY, TO_STRATEGY = "dp=2,mp=2,pp=2,optimizer_shard=true", "mp=4,pp=2"
SLOWEST, MEMORY_MAX = 1 / 3, 600e6
# Small, as a child's peak begins with that of the process that started it.
PIECE = 4 << 20
# Sets the exponent's upper bit to zero: all numbers are finite, and below two.
FINITE = bytes(byte & 0xBF for byte in range(256))


# ---- the checkpoint ---------------------------------------------------------------------------------------------

def shapes(layers):
    h = HIDDEN
    norm = lambda name: {f"{name}.weight": [h], f"{name}.bias": [h]}
    linear = lambda name, n, k: {f"{name}.weight": [n, k], f"{name}.bias": [n]}
    found = {"word_embeddings.weight": [VOCABULARY, h]} | norm("word_embeddings_layernorm")
    for i in range(layers):
        found |= norm(f"h.{i}.input_layernorm") | norm(f"h.{i}.post_attention_layernorm")
        found |= linear(f"h.{i}.self_attention.query_key_value", 3 * h, h) | linear(f"h.{i}.self_attention.dense", h, h)
        found |= linear(f"h.{i}.mlp.dense_h_to_4h", 4 * h, h) | linear(f"h.{i}.mlp.dense_4h_to_h", h, 4 * h)
    return {f"transformer.{name}": shape for name, shape in sorted((found | norm("ln_f")).items())}


def write_checkpoint(folder, layers):
    """A Hugging Face folder, which is the same whenever it is written."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes(layers).items():
        begin, end = end, end + 2 * shape[0] * (shape[1] if len(shape) == 2 else 1)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    folder.mkdir(parents=True)
    source = random.Random(1)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for begin in range(0, end, PIECE):
            piece = bytearray(source.randbytes(min(PIECE, end - begin)))
            piece[1::2] = piece[1::2].translate(FINITE)
            file.write(piece)
    config = {"architectures": ["BloomForCausalLM"], "model_type": "bloom", "hidden_size": HIDDEN, "n_layer": layers, "n_head": HEADS,
              "vocab_size": VOCABULARY, "layer_norm_epsilon": 1e-5, "apply_residual_connection_post_layernorm": False,
              "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3, "unk_token_id": 0,
              "torch_dtype": "float16"}
    (folder / "config.json").write_text(json.dumps(config, indent=1))


# ---- what is timed ----------------------------------------------------------------------------------------------

def works():
    """What the README calls it, the command, what it reads, what it writes, and whether that is read later."""
    transform = ["checkpoint", "transform"]
    return [
        ("`convert hf ms --to mindspore`", ["convert", "hf", "ms", "--to", "mindspore"], "hf", "ms", True),
        ("`convert ms back --to hf`", ["convert", "ms", "back", "--to", "hf"], "ms", "back", True),
        ("`checkpoint transform`: one rank to 8", [*transform, "ms/model.ckpt", "eight", "--dst-strategy", "from"], "ms", "eight", True),
        ("8 ranks to 8 others", [*transform, "eight", "others", "--src-strategy", "from", "--dst-strategy", "to"], "eight", "others", True),
        ("8 ranks to one", [*transform, "others", "one", "--src-strategy", "to"], "others", "one", False),
        ("`checkpoint combine`", ["checkpoint", "combine", "others", "one.ckpt", "--strategy", "to"], "others", "one.ckpt", True),
    ]


def timed(command, folder):
    """Seconds, and the largest resident set in bytes."""
    os.sync()
    begin = time.monotonic()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}: exit code {process.returncode}")
    return seconds, usage.ru_maxrss * 1024


def files(path):
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def read_through(path):
    """Puts what will be read into the page cache, if it is not there."""
    buffer = bytearray(PIECE)
    for file in files(path):
        with open(file, "rb", buffering=0) as opened:
            while opened.readinto(buffer):
                pass


def remove(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def turn(bloomery, folder, arguments, source, target, keep):
    """One run, and `cp` of what it wrote: both their seconds, the bytes written, the peak of memory."""
    remove(folder / target)
    read_through(folder / source)
    seconds, memory = timed([bloomery, *arguments], folder)
    size = sum(p.stat().st_size for p in files(folder / target))
    read_through(folder / target)
    copied, _ = timed(["cp", "-r", target, "copy"], folder)
    remove(folder / "copy")
    if not keep:
        remove(folder / target)
    return seconds, copied, size, memory


# ---- what is told -----------------------------------------------------------------------------------------------

def row(name, turns):
    seconds, copied, size, memory = ([t[i] for t in turns] for i in range(4))
    ratio = statistics.median(c / s for s, c in zip(seconds, copied))
    middle = statistics.median
    text = f"| {name} | {size[0] / 1e9:.1f} GB | {middle(seconds):.1f} | {middle(copied):.1f} | {ratio:.2f} | {max(memory) / 1e6:.0f} MB |"
    return text, ratio >= SLOWEST and max(memory) < MEMORY_MAX


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return f"{os.cpu_count()} processors of {names[0] if names else platform.machine()}"


def same(bloomery, folder, one, other):
    """Whether two checkpoints hold the same, to the bit."""
    told = subprocess.run([bloomery, "checkpoint", "diff", one, other, "--json"], cwd=folder, stdout=subprocess.PIPE).stdout
    equal = json.loads(told)["equal"]
    print(f"{one} and {other}: {'the same' if equal else 'different'}", file=sys.stderr)
    return equal


def prepare(bloomery, folder, layers):
    write_checkpoint(folder / "hf", layers)
    for name, strategy in (("from", FROM_STRATEGY), ("to", TO_STRATEGY)):
        command = [bloomery, "compile", "hf", "--strategy", strategy, "--save-strategy", name]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def measure(bloomery, folder, turns):
    """What each work took in each turn; then whether everything came back as it was."""
    taken = {name: [] for name, *_ in works()}
    for number in range(turns):
        for name, *what in works():
            taken[name].append(turn(bloomery, folder, *what))
            seconds, copied, _, memory = taken[name][-1]
            print(f"{number + 1}: {name}: {seconds:.1f} s, cp {copied:.1f} s, {memory / 1e6:.0f} MB", file=sys.stderr, flush=True)
    return taken, all([same(bloomery, folder, "hf", "back"), same(bloomery, folder, "ms/model.ckpt", "one.ckpt")])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="on the disk that is meant; a new folder in it is used")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--bloomery", type=Path, default=Path("target/release/bloomery"), help="a release build")
    parser.add_argument("--layers", type=int, default=24, help="fewer make a smaller checkpoint, to try this out")
    args = parser.parse_args()
    bloomery = args.bloomery.resolve(strict=True)
    args.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.folder, prefix="bench_checkpoints_") as folder:
        prepare(bloomery, Path(folder), args.layers)
        taken, whole = measure(bloomery, Path(folder), args.turns)
    rows = [row(name, turns) for name, turns in taken.items()]
    print(f"{processor()}; medians of {args.turns} turns:\n")
    print("| | written | seconds | `cp` of that | speed of `cp` | peak memory |\n| --- | --- | --- | --- | --- | --- |")
    print("\n".join(text for text, _ in rows))
    raise SystemExit(0 if whole and all(good for _, good in rows) else 1)


if __name__ == "__main__":
    main()

#!/usr/bin/env bash
# Lets MindSpore judge what we write: checkpoints that were cleaned, converted, transformed and combined, strategies, data sets.
#
#     tests/foreign/judge.sh BLOOMERY        the binary; `python3` must find MindSpore (`pip install mindspore`)
set -euo pipefail
bloomery="$(realpath "$1")"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
fixtures=tests/fixtures/mindspore
transform=$fixtures/transform
written="$(mktemp -d)"
trap 'rm -r "$written"' EXIT

judge() { python3 tests/foreign/check_mindspore.py "$@"; }
bloomery() { "$bloomery" "$@" > /dev/null 2> "$written/stderr" || { cat "$written/stderr" >&2; exit 1; }; }
told() { printf '%s: ' "$*"; }

told clean
bloomery checkpoint clean "$fixtures/ckpt/dtypes.ckpt" "$written/dtypes.ckpt"
judge checkpoints "$fixtures/ckpt/dtypes.ckpt" "$written/dtypes.ckpt" --order

told convert
bloomery convert "$fixtures/models/gelu.ckpt" "$written/hf" --to hf --heads 6
bloomery convert "$written/hf" "$written/gelu.ckpt" --to mindspore
judge checkpoints "$fixtures/models/gelu.ckpt" "$written/gelu.ckpt" --order

# Every recorded case anew, MindSpore's own transformation beside ours.
for case in "$transform"/cases/*; do
    told transform "$(basename "$case")"
    said() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]] or "")' "$case/expected.json" "$1"; }
    sides=()
    for side in src dst; do
        strategy="$(said "${side}_strategy")"
        [ -z "$strategy" ] || sides+=("--$side-strategy" "$transform/strategies/$strategy.ckpt")
    done
    prefix="$(said ckpt_prefix)"
    ours="$written/$(basename "$case")"
    bloomery checkpoint transform "$case/src" "$ours" "${sides[@]}" --prefix "$prefix"
    judge transform "$case/src" "$ours" "$prefix" "${sides[@]}"
done

told combine
bloomery checkpoint combine "$transform/combine/checkpoint" "$written/combined.ckpt" --strategy "$transform/combine/strategy"
judge checkpoints "$transform/combine/combined/rank_0/combined_0.ckpt" "$written/combined.ckpt"

# Strategies of our own, merged by us and by MindSpore; what both make of a checkpoint by them, and of that the whole again.
for strategy in mp=4 dp=2,mp=2,optimizer_shard=true mp=2,pp=2 dp=2,mp=2,pp=2,optimizer_shard=true; do
    told "strategy $strategy"
    ours="$written/$strategy"
    bloomery compile tests/fixtures/hf/tiny/model --strategy "$strategy" --save-strategy "$ours/strategy"
    bloomery strategy merge "$ours/strategy" -o "$ours/merged.ckpt"
    judge merge "$ours/strategy" "$ours/merged.ckpt"
    mkdir -p "$ours/whole/rank_0"
    bloomery convert tests/fixtures/hf/tiny/model "$ours/whole/rank_0/tiny.ckpt" --to mindspore
    bloomery checkpoint transform "$ours/whole" "$ours/ranks" --dst-strategy "$ours/strategy" --prefix tiny_
    judge transform "$ours/whole" "$ours/ranks" tiny_ --dst-strategy "$ours/merged.ckpt"
    bloomery checkpoint transform "$ours/ranks" "$ours/back" --src-strategy "$ours/merged.ckpt" --prefix tiny
    judge transform "$ours/ranks" "$ours/back" tiny --src-strategy "$ours/merged.ckpt"
    judge checkpoints "$ours/whole" "$ours/back" --any-name
done

# The rows of MindFormers are recorded; others are what our own reader finds.
records="$written/records.json"
recorded="$fixtures/data/mindformers.json"
python3 - "$recorded" "$records" "$written/recorded.json" << 'END'
import json, sys
recorded, records, rows = sys.argv[1:]
told = json.load(open(recorded))
json.dump(told["records"], open(records, "w"))
schema = {"input_ids": {"type": "int64", "shape": [-1]}}
json.dump({"schema": schema, "rows": [{"input_ids": ids} for ids in told["rows"]]}, open(rows, "w"))
END
make() { bloomery data make "$records" "$written/$1" --tokenizer tests/fixtures/hf/tokenizer "${@:2}"; }
told data make --compat mindformers
make compat.mindrecord --compat mindformers --seq-length "$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["seq_length"])' "$recorded")"
judge records "$written/compat.mindrecord" "$written/recorded.json"
for options in "" "--packed" "--shards 3" "--packed --shards 2" "--compat mindformers --shards 4"; do
    told "data make $options"
    # shellcheck disable=SC2086
    make "set${options// /}.mindrecord" --seq-length 192 $options
    first="$(ls "$written/set${options// /}.mindrecord"* | head -n 1)"
    "$bloomery" data show "$first" --rows 100000 --json > "$written/shown.json"
    judge records "$first" "$written/shown.json"
done

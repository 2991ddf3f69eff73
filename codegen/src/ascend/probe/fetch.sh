#!/usr/bin/env bash
# Gets the real ACL and HCCL headers into a directory, at test time, from the
# torch-npu wheel, by pip. Nothing that it fetches is to be committed.
#
#   fetch.sh DIR [VERSION]
#
# VERSION: a torch-npu release (default 2.7.1.post4: CANN 8.x headers, ACL and
#   HCCL). 2.1.0.post8 is the oldest served (ACL only); 2.14.0 the newest here.
# DIR afterwards holds:
#   third_party/acl/inc/{acl,ge}/…  for  #include "acl/acl.h"
#   third_party/hccl/inc/hccl/…     for  #include "third_party/hccl/inc/hccl/hccl.h"
#   aclnn_base_typedefs.h           the function-pointer types of the aclnn base calls
#                                   (aclCreateTensor …) as torch-npu's own source has them
#   CFLAGS                          the -I flags that these need
#   VERSION, SHA256                 which wheel this came from
# Licences: read acl_base.h and hccl.h for theirs (the newer ones carry the CANN
#   Open Software License 2.0: for software for Huawei processors only); so
#   they are looked at, at test time, and never kept.
# Exit: 0 there now · 3 it is not served here (a caller may skip) · 1 else
set -euo pipefail
out=${1:?usage: fetch.sh DIR [VERSION]}
ver=${2:-2.7.1.post4}
py=${PYTHON:-python3}
if [ -f "$out/VERSION" ] && [ "$(cat "$out/VERSION")" = "$ver" ]; then exit 0; fi
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
got=
for tag in 3.9 3.10 3.11 3.12; do
  if "$py" -m pip download -q --no-deps --no-cache-dir --only-binary=:all: \
      --python-version "$tag" --platform manylinux_2_28_x86_64 \
      --platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64 \
      -d "$tmp" "torch-npu==$ver" >"$tmp/log" 2>&1; then got=1; break; fi
done
if [ -z "$got" ]; then echo "torch-npu $ver: not served" >&2; tail -2 "$tmp/log" >&2; exit 3; fi
"$py" - "$tmp" "$out" "$ver" <<'PY'
import glob, hashlib, os, re, shutil, sys, zipfile
tmp, out, ver = sys.argv[1:]
whl = glob.glob(os.path.join(tmp, "*.whl"))[0]
base = "torch_npu/include/third_party/"
want = [base + "acl/inc/acl/", base + "acl/inc/ge/ge_error_codes.h",
        base + "hccl/inc/hccl/"]
if os.path.isdir(out) and os.listdir(out) and not os.path.exists(os.path.join(out, "VERSION")):
    sys.exit(out + " holds something else; give an empty or new directory")
shutil.rmtree(out, ignore_errors=True)
os.makedirs(out)
n = 0
with zipfile.ZipFile(whl) as z:
    for name in z.namelist():
        if name.endswith(".h") and any(name.startswith(w) for w in want):
            p = os.path.join(out, name[len("torch_npu/include/"):])
            os.makedirs(os.path.dirname(p), exist_ok=True)
            with open(p, "wb") as f:
                f.write(z.read(name))
            n += 1
    text = ""
    for name in z.namelist():
        if name.endswith("op_plugin/utils/op_api_common_base.h"):
            text = z.read(name).decode("utf-8", "replace")
    defs = re.findall(r"^typedef struct acl\w+ acl\w+;$|^typedef [^;]*\(\*_acl(?:Create|Destroy)\w+\)[^;]*;",
                      text, re.M)
if n == 0:
    sys.exit("no ACL headers in " + os.path.basename(whl))
if defs:
    with open(os.path.join(out, "aclnn_base_typedefs.h"), "w") as f:
        f.write("#pragma once\n#include \"acl/acl_base.h\"\n" + "\n".join(defs) + "\n")
with open(whl, "rb") as f:
    digest = hashlib.sha256(f.read()).hexdigest()
with open(os.path.join(out, "SHA256"), "w") as f:
    f.write(digest + "  " + os.path.basename(whl) + "\n")
with open(os.path.join(out, "CFLAGS"), "w") as f:
    f.write(f"-I{out} -I{out}/third_party/acl/inc -I{out}/third_party/acl/inc/acl\n")
with open(os.path.join(out, "VERSION"), "w") as f:
    f.write(ver + "\n")
print(f"{n} headers of torch-npu {ver} in {out}")
PY

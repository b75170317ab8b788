#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""gguf_package.py - files of "rerankd convert" read by the Python package gguf, and files that the
package writes read by rerankd.  By hand (make test-eval): installs gguf into build/venv-eval, exit
status 77 when PyPI is out of reach."""
import json
import os
import struct
import subprocess
import tempfile

import venv_support
from cli_support import MODELS, RERANKD

TYPES = {"f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0"}


def safetensors(folder):
    import numpy as np
    with open(os.path.join(folder, "model.safetensors"), "rb") as f:
        data = f.read()
    n = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + n])
    return {k: np.frombuffer(data[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]],
                             np.float32).reshape(v["shape"])
            for k, v in header.items() if k != "__metadata__" and v["dtype"] == "F32"}


def check(name, dtype, path):
    """Names that llama.cpp knows, and the weights within the type's rounding."""
    import gguf
    import numpy as np
    from gguf.quants import dequantize
    reader = gguf.GGUFReader(path)
    arch = reader.fields["general.architecture"].contents()
    known = gguf.get_tensor_name_map(
        {"bert": gguf.MODEL_ARCH.BERT, "qwen3": gguf.MODEL_ARCH.QWEN3,
         "modern-bert": gguf.MODEL_ARCH.MODERN_BERT, "gemma": gguf.MODEL_ARCH.GEMMA}[arch], 4)
    names = {a[1] for a in known.mapping.values()} | {"cls", "cls.output", "cls.norm"}
    tensors = {t.name: t for t in reader.tensors}
    assert all(n.rsplit(".", 1)[0] in names for n in tensors), sorted(tensors)
    want = next(v for k, v in safetensors(os.path.join(MODELS, name)).items()
                if k.endswith(("word_embeddings.weight", "tok_embeddings.weight", "embed_tokens.weight")))
    t = tensors["token_embd.weight"]
    assert t.tensor_type.name == TYPES[dtype], t
    got = dequantize(t.data, t.tensor_type).reshape(want.shape)
    assert np.abs(got - want).max() <= {"f32": 0, "f16": 2**-11, "bf16": 2**-8,
                                        "q8_0": 1 / 225}[dtype] * np.abs(want).max()
    assert len(reader.fields["tokenizer.ggml.tokens"].data) == want.shape[0]


def rewrite(path, quantised, wanted, widened=False):
    """The same model as the package writes it, matrices in another type, or as f32 rounded to it."""
    import gguf
    from gguf.quants import dequantize, quantize
    reader = gguf.GGUFReader(path)
    writer = gguf.GGUFWriter(quantised, reader.fields["general.architecture"].contents())
    for f in reader.fields.values():
        if f.name.startswith("GGUF.") or f.name == "general.architecture":
            continue
        kind = f.types[0]
        writer.add_key_value(f.name, f.contents(), kind, f.types[-1] if len(f.types) > 1 else None)
    for t in reader.tensors:
        data = dequantize(t.data, t.tensor_type)
        kind = gguf.GGMLQuantizationType.F32
        if t.name.endswith("weight") and t.name.startswith("blk") and "norm" not in t.name \
                and data.shape[-1] % 32 == 0:
            kind = gguf.GGMLQuantizationType[wanted]
        data = quantize(data, kind)
        if widened:
            data, kind = dequantize(data, kind), gguf.GGMLQuantizationType.F32
        writer.add_tensor(t.name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def difference(path, name):
    p = subprocess.run([RERANKD, "score", "--model", path, "--json", "--reference",
                        os.path.join(MODELS, name, "reference.jsonl")], stdout=subprocess.PIPE)
    return json.loads(p.stdout)["max_logit_difference"]


def main():
    venv_support.install("gguf", "gguf")
    n = 0
    for name in ("tiny-bert", "tiny-xlmr", "tiny-roberta", "tiny-modernbert-cls", "tiny-qwen3",
                 "tiny-gemma"):
        with tempfile.TemporaryDirectory() as d:
            for dtype in TYPES:
                path = os.path.join(d, dtype + ".gguf")
                subprocess.run([RERANKD, "convert", "--model", os.path.join(MODELS, name), "--to",
                                path, "--to-dtype", dtype], check=True)
                check(name, dtype, path)
                n += 1
            if name in ("tiny-qwen3", "tiny-gemma"):  # small random decoders: any score
                continue
            for kind in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"):
                path, wide = os.path.join(d, kind + ".gguf"), os.path.join(d, kind + ".f32.gguf")
                rewrite(os.path.join(d, "f32.gguf"), path, kind)
                rewrite(os.path.join(d, "f32.gguf"), wide, kind, widened=True)
                worst = difference(path, name)
                assert 1e-4 < worst < 6 and worst == difference(wide, name), (name, kind, worst)
                n += 1
    print("%d passed, 0 failed" % n)


if __name__ == "__main__":
    main()

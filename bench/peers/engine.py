# SPDX-License-Identifier: Apache-2.0
"""engine.py - one peer as a child process: a shape a line on stdin, milliseconds a line on stdout.

    python3 bench/peers/engine.py NAME FOLDER THREADS

The first line of the output is what was loaded, with its version.  Each answer is one call on a batch
padded to its longest pair, of llama.cpp on the bare pairs; ids are made beforehand, tokenizing is not
measured.
"""
import os
import sys
import time

import net
import shapes


def openvino_engine(folder, threads, name, precision, **more):
    import openvino

    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads,
              "INFERENCE_PRECISION_HINT": precision, **more}
    model = openvino.Core().compile_model(os.path.join(folder, name + ".xml"), "CPU", config)
    request = model.create_infer_request()
    return ("OpenVINO " + openvino.__version__.split("-")[0],
            lambda ids, mask: request.infer({"input_ids": ids, "attention_mask": mask}))


def onnx_engine(folder, threads, name):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(os.path.join(folder, name, "model.onnx"), options,
                                           ["CPUExecutionProvider"])
    return ("ONNX Runtime " + onnxruntime.__version__,
            lambda ids, mask: session.run(None, {"input_ids": ids, "attention_mask": mask}))


def torch_engine(folder, threads, dtype):
    import torch
    from transformers import XLMRobertaForSequenceClassification

    torch.set_num_threads(threads)
    model = XLMRobertaForSequenceClassification.from_pretrained(
        folder, dtype=getattr(torch, dtype), attn_implementation="sdpa").eval()

    def call(ids, mask):
        with torch.inference_mode():
            model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask))

    return "PyTorch " + torch.__version__.split("+")[0], call


def llama_engine(folder, threads, dtype):
    import llamacpp

    ranker = llamacpp.Ranker(os.path.join(folder, dtype + ".gguf"), threads)
    forms = {}

    def call(ids, mask):
        key = ids.tobytes()
        if key not in forms:
            forms[key] = ranker.fastest([row[:n] for row, n in zip(ids, mask.sum(axis=1))])
        forms[key].run()

    return ranker.version, call


# What sentence-transformers' CrossEncoder computes is torch-f32; bench/compare.py times the whole.
ENGINES = {
    "openvino-int8-static": lambda f, t: openvino_engine(f, t, "ov_static", "f32"),
    "openvino-int8-static-bf16": lambda f, t: openvino_engine(f, t, "ov_static", "bf16"),
    "openvino-int8-dynamic": lambda f, t: openvino_engine(
        f, t, "ov_dynamic", "f32", DYNAMIC_QUANTIZATION_GROUP_SIZE="32"),
    "openvino-f32": lambda f, t: openvino_engine(f, t, "ov_f16", "f32"),
    "openvino-bf16": lambda f, t: openvino_engine(f, t, "ov_f16", "bf16"),
    "onnxruntime-int8": lambda f, t: onnx_engine(f, t, "onnx_int8"),
    "onnxruntime-f32": lambda f, t: onnx_engine(f, t, "onnx_f32"),
    "torch-bf16": lambda f, t: torch_engine(f, t, "bfloat16"),
    "torch-f32": lambda f, t: torch_engine(f, t, "float32"),
    "llamacpp-q8_0": lambda f, t: llama_engine(f, t, "q8_0"),
    "llamacpp-f16": lambda f, t: llama_engine(f, t, "f16"),
    "llamacpp-bf16": lambda f, t: llama_engine(f, t, "bf16"),
    "llamacpp-f32": lambda f, t: llama_engine(f, t, "f32"),
}


def main():
    name, folder, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    # The libraries print to the standard output; the answers have it to themselves.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    version, call = ENGINES[name](folder, threads)
    print(version, file=answers, flush=True)
    made, vocab = {}, net.config(folder)["vocab_size"]
    for line in sys.stdin:
        shape = line.strip()
        if shape not in made:
            made[shape] = shapes.batch(shape, vocab)
        start = time.perf_counter()
        call(*made[shape])
        print("%.3f" % ((time.perf_counter() - start) * 1e3), file=answers, flush=True)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""convert.py - the model folder in the forms that the peers load; what exists is kept.

    python3 bench/peers/convert.py FOLDER KIND...      all kinds: openvino onnx

openvino: f16; int8 weights with activations quantized at run time (NNCF weight compression); W8A8
with fixed scales (NNCF post-training quantization).  onnx: f32, and int8 by ONNX Runtime's dynamic
quantization.  Fixed scales come from random ids here: right for speed, meaningless for accuracy.
"""
import os
import sys

import numpy
import torch

import net

SAMPLE = {"input_ids": torch.randint(5, 1000, (2, 32)),
          "attention_mask": torch.ones((2, 32), dtype=torch.int64)}


def check(folder, network):
    """The plain network must be the model that the others load."""
    from transformers import XLMRobertaForSequenceClassification

    theirs = XLMRobertaForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        difference = (theirs(**SAMPLE).logits - network(**SAMPLE)).abs().max().item()
    if not difference < 1e-3:
        raise SystemExit("net.py computes something else: largest difference %g" % difference)


def openvino_files(folder, network):
    import nncf
    import openvino

    f16, int8 = (os.path.join(folder, name) for name in ("ov_f16.xml", "ov_static.xml"))
    dynamic = os.path.join(folder, "ov_dynamic.xml")
    if not os.path.exists(f16):
        shape = [-1, -1]
        model = openvino.convert_model(
            network(), example_input=SAMPLE,
            input=[("input_ids", shape, numpy.int64), ("attention_mask", shape, numpy.int64)])
        openvino.save_model(model, f16, compress_to_fp16=True)
    if not os.path.exists(dynamic):
        model = openvino.Core().read_model(f16)
        openvino.save_model(nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM),
                            dynamic)
    if not os.path.exists(int8):
        random = numpy.random.default_rng(0)
        vocab = net.config(folder)["vocab_size"]
        data = [{"input_ids": random.integers(5, vocab, (1, 128)),
                 "attention_mask": numpy.ones((1, 128), numpy.int64)} for _ in range(8)]
        model = nncf.quantize(openvino.Core().read_model(f16), nncf.Dataset(data), subset_size=8,
                              model_type=nncf.ModelType.TRANSFORMER)
        openvino.save_model(model, int8)


def onnx_files(folder, network):
    from onnxruntime.quantization import QuantType, quantize_dynamic

    f32, int8 = (os.path.join(folder, name) for name in ("onnx_f32", "onnx_int8"))
    if not os.path.exists(os.path.join(f32, "done")):
        os.makedirs(f32, exist_ok=True)
        batch, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens")
        torch.onnx.export(network(), (SAMPLE["input_ids"], SAMPLE["attention_mask"]),
                          os.path.join(f32, "model.onnx"), dynamo=True, external_data=True,
                          input_names=list(SAMPLE), output_names=["logits"],
                          dynamic_shapes={k: {0: batch, 1: tokens} for k in SAMPLE})
        open(os.path.join(f32, "done"), "w").close()
    if not os.path.exists(os.path.join(int8, "done")):
        os.makedirs(int8, exist_ok=True)
        quantize_dynamic(os.path.join(f32, "model.onnx"), os.path.join(int8, "model.onnx"),
                         weight_type=QuantType.QInt8, per_channel=True,
                         use_external_data_format=True)
        open(os.path.join(int8, "done"), "w").close()


def main():
    folder, kinds = sys.argv[1], sys.argv[2:]
    loaded = []

    def network():
        if not loaded:
            loaded.append(net.load(folder))
            check(folder, loaded[0])
        return loaded[0]

    for kind in kinds:
        {"openvino": openvino_files, "onnx": onnx_files}[kind](folder, network)


if __name__ == "__main__":
    main()

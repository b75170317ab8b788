#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Small random rerankers as llama.cpp's own converter writes them, with the logits that transformers
computes of the folders before.

    make_llama_gguf.py LLAMA_CPP OUT [NAME ...]

LLAMA_CPP is a checkout (or the folder vendor/llama.cpp of the source package llama-cpp-python), whose
convert_hf_to_gguf.py is run as it is, but for the name of the pre-tokenizer: it knows those of published
vocabularies only.  OUT gets NAME.gguf in BF16 and NAME.reference.jsonl; the folders stay in OUT/NAME.
Weights are seeded random numbers that bfloat16 holds exactly.  Tokenizers are those of
tests/golden/models with fewer pieces; those of Gemma and XLM-R are trained by sentencepiece, which the
published models were made with, on the texts of the references.  Needs torch, transformers, tokenizers,
sentencepiece and the requirements of the converter.
"""
import argparse
import json
import os
import shutil
import sys

import sentencepiece
import torch
import transformers
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Tokenizer
from transformers.convert_slow_tokenizer import generate_merges

from make_tiny import GEMMA, GOLDEN, QWEN2, first, pair_ids, randomise

POSITIONS = 128
SIZES = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48)
PRE = {"bert": "bert-bge", "distilbert": "bert-bge", "roberta": "roberta-bpe",
       "modernbert": "modern-bert", "qwen2": "qwen2"}


def texts():
    with open(os.path.join(GOLDEN, "tiny-bert", "reference.jsonl"), encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


# ---- tokenizers ----------------------------------------------------------------------------------


def renumber(value, ids):
    """Ids beside the tokens that they belong to, wherever a tokenizer.json has them."""
    if isinstance(value, list):
        if len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int):
            value[1] = ids[value[0]]
        for v in value:
            renumber(v, ids)
    elif isinstance(value, dict):
        if "ids" in value and "tokens" in value:
            value["ids"] = [ids[t] for t in value["tokens"]]
        for v in value.values():
            renumber(v, ids)


def cut(source, folder, keep):
    """The tokenizer of a golden model with its first merges, or pieces, and all special tokens."""
    os.makedirs(folder, exist_ok=True)
    shutil.copy(os.path.join(GOLDEN, source, "tokenizer_config.json"), folder)
    with open(os.path.join(GOLDEN, source, "tokenizer.json"), encoding="utf-8") as f:
        t = json.load(f)
    model, special = t["model"], {a["content"] for a in t["added_tokens"]}
    pieces = sorted(model["vocab"], key=model["vocab"].get)
    if "merges" in model:
        model["merges"] = model["merges"][:keep]
        made = {"".join(m) if isinstance(m, list) else m.replace(" ", "") for m in model["merges"]}
        pieces = [p for p in pieces if len(p) == 1 or p in made or p in special]
    else:
        pieces = [p for i, p in enumerate(pieces) if i < keep or p in special]
    ids = {p: i for i, p in enumerate(pieces)}
    for a in t["added_tokens"]:
        a["id"] = ids.setdefault(a["content"], len(ids))
    model["vocab"] = {p: ids[p] for p in pieces}
    renumber(t["post_processor"], ids)
    with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as f:
        json.dump(t, f, ensure_ascii=False)
    return len(ids)


def train(folder, name, kind, vocab, **more):
    os.makedirs(folder, exist_ok=True)
    lines = [s for r in texts() for s in [r["query"], *r["documents"]] if s and max(s) < "\u0250"]
    with open(os.path.join(folder, name), "wb") as f:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=f, model_type=kind, vocab_size=vocab,
            num_threads=1, minloglevel=2,
            character_coverage=1.0, **more)
    return os.path.join(folder, name)


def pieces_of(path):
    sp = sentencepiece.SentencePieceProcessor(model_file=path)
    return [(sp.id_to_piece(i), sp.get_score(i)) for i in range(sp.get_piece_size())]


def gemma_tokenizer(folder):
    """As published: pieces of newlines and turns are added tokens, one in tokenizer_config.json."""
    added = ["<start_of_turn>", "<end_of_turn>", "\n", "\n\n", "\t"]
    path = train(folder, "tokenizer.model", "bpe", 480, byte_fallback=True,
                 normalization_rule_name="identity", add_dummy_prefix=False,
                 remove_extra_whitespaces=False, split_digits=True, allow_whitespace_only_pieces=True,
                 pad_id=0, eos_id=1, bos_id=2, unk_id=3, pad_piece="<pad>", eos_piece="<eos>",
                 bos_piece="<bos>", unk_piece="<unk>", user_defined_symbols=added)
    pieces = pieces_of(path)
    vocab = {p: i for i, (p, _) in enumerate(pieces)}
    tokenizer = transformers.GemmaTokenizer(vocab=vocab, merges=generate_merges(vocab, pieces),
                                            mask_token="<unk>")
    tokenizer.add_tokens([AddedToken(a, normalized=False) for a in added])
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def xlmr_tokenizer(folder):
    """With sentencepiece.bpe.model, which the converter prefers, as the published ones have it."""
    rules = os.path.join(folder, "rules.tsv")
    os.makedirs(folder, exist_ok=True)
    with open(rules, "w", encoding="utf-8") as f:  # NFKC's table has 240 kB
        f.write("FF01\t21\nFF1F\t3F\n2026\t2E 2E 2E\nA0\t20\n3000\t20\n9\t20\nA\t20\n")
    path = train(folder, "sentencepiece.bpe.model", "unigram", 300, normalization_rule_tsv=rules,
                 unk_id=0, bos_id=1, eos_id=2, pad_id=-1, hard_vocab_limit=False)
    os.remove(rules)
    proto = sentencepiece_model_pb2.ModelProto()
    with open(path, "rb") as f:
        proto.ParseFromString(f.read())
    pieces = [(p, 0.0) for p in ("<s>", "<pad>", "</s>", "<unk>")] + pieces_of(path)[3:]
    tokenizer = transformers.XLMRobertaTokenizer(
        vocab=pieces + [("<mask>", 0.0)],
        _spm_precompiled_charsmap=proto.normalizer_spec.precompiled_charsmap)
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


# ---- models --------------------------------------------------------------------------------------


def encoder(kind, vocab, **more):
    config = getattr(transformers, kind + "Config")(
        **{**SIZES, "vocab_size": vocab, "max_position_embeddings": POSITIONS, "num_labels": 1, **more})
    return getattr(transformers, kind + "ForSequenceClassification")(config)


def decoder(kind, vocab, **more):
    config = getattr(transformers, kind + "Config")(
        **SIZES, vocab_size=vocab, num_key_value_heads=1, max_position_embeddings=1024,
        tie_word_embeddings=True, pad_token_id=0, eos_token_id=1, bos_token_id=2, **more)
    return getattr(transformers, kind + "ForCausalLM")(config)


ROBERTA = dict(pad_token_id=1, bos_token_id=0, eos_token_id=2, type_vocab_size=1,
               max_position_embeddings=POSITIONS + 2, layer_norm_eps=1e-5)
MODELS = {
    "gemma": (gemma_tokenizer, lambda v: decoder("Gemma", v, head_dim=24, rms_norm_eps=1e-6)),
    "qwen2": (lambda f: cut("tiny-qwen2", f, 100), lambda v: decoder("Qwen2", v, rms_norm_eps=1e-6)),
    "xlmr": (xlmr_tokenizer, lambda v: encoder("XLMRoberta", v, **ROBERTA)),
    "roberta": (lambda f: cut("tiny-roberta", f, 100), lambda v: encoder("Roberta", v, **ROBERTA)),
    # an epsilon that shows: the converter calls it that of an RMSNorm
    "modernbert": (lambda f: cut("tiny-modernbert-cls", f, 100), lambda v: encoder(
        "ModernBert", v, norm_eps=1e-2, local_attention=32, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, cls_token_id=1, sep_token_id=2, classifier_pooling="mean")),
    # files that lack what the score needs
    "bert": (lambda f: cut("tiny-bert", f, 120), lambda v: encoder("Bert", v)),
    "distilbert": (lambda f: cut("tiny-bert", f, 120), lambda v: transformers.
                   DistilBertForSequenceClassification(transformers.DistilBertConfig(
                       vocab_size=v, dim=32, n_layers=1, n_heads=2, hidden_dim=48, num_labels=1,
                       max_position_embeddings=POSITIONS))),
}


def logit(name, model, tokenizer, query, document, limit):
    with torch.no_grad():
        if name not in ("gemma", "qwen2"):
            tokenizer.enable_truncation(max_length=limit, strategy="longest_first")
            e = tokenizer.encode(query, document)
            types_of = {"token_type_ids": torch.tensor([e.type_ids])} if name == "bert" else {}
            return model(input_ids=torch.tensor([e.ids]), **types_of).logits[0, 0].item()
        form = GEMMA if name == "gemma" else QWEN2
        ids = torch.tensor([pair_ids(tokenizer, form, query, document, limit)])
        row, w = model.model(ids).last_hidden_state[0, -1], model.lm_head.weight
        if name == "gemma":
            return (row @ w[first(tokenizer, "Yes")]).item()
        return (row @ (w[first(tokenizer, "1")] - w[first(tokenizer, "0")])).item()


def write_reference(name, model, folder, path):
    tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    limit = 500 if name in ("gemma", "qwen2") else POSITIONS
    with open(path, "w", encoding="utf-8") as f:
        for r in texts()[:10]:
            r.update(documents=r["documents"][:4], max_length=limit)
            r["logits"] = [round(logit(name, model, tokenizer, r["query"], d, limit), 6)
                           for d in r["documents"]]
            r["scores"] = [round(torch.sigmoid(torch.tensor(z)).item(), 7) for z in r["logits"]]
            f.write(json.dumps(r, ensure_ascii=False) + "\n")


def convert(folder, out, pre):
    import conversion.base  # of LLAMA_CPP
    import convert_hf_to_gguf
    if pre:
        conversion.base.TextModel.get_vocab_base_pre = lambda self, tokenizer: pre
    sys.argv = ["convert_hf_to_gguf.py", "--outtype", "bf16", "--outfile", out, folder]
    convert_hf_to_gguf.main()


def make(name, out):
    folder = os.path.join(out, name)
    shutil.rmtree(folder, ignore_errors=True)
    tokenizer, network = MODELS[name]
    model = network(tokenizer(folder))
    model.set_attn_implementation("eager")
    model.eval()
    randomise(model, 5, 2.0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(p.to(torch.bfloat16))
    if name in ("xlmr", "roberta"):  # the format has no rows for positions up to the padding's
        with torch.no_grad():
            model.roberta.embeddings.position_embeddings.weight[:2] = 0
    model.save_pretrained(folder)
    write_reference(name, model, folder, os.path.join(out, name + ".reference.jsonl"))
    convert(folder, os.path.join(out, name + ".gguf"), PRE.get(name))


def main():
    parser = argparse.ArgumentParser(description="Files of llama.cpp's converter, with logits.")
    parser.add_argument("llama_cpp")
    parser.add_argument("out")
    parser.add_argument("names", nargs="*", default=list(MODELS))
    args = parser.parse_args()
    torch.set_num_threads(1)  # tiny; and sums in one order
    sys.path[:0] = [os.path.join(args.llama_cpp, "gguf-py"), args.llama_cpp]
    for name in args.names:
        make(name, args.out)


if __name__ == "__main__":
    main()

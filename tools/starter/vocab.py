"""tokenizer.json in the usual XLM-RoBERTa form, with a small Unigram vocabulary."""
import base64
import io
import json
import os

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


def train_pieces(lines, size, workdir):
    """[[piece, score]] and the nmt_nfkc character map, by sentencepiece"""
    import sentencepiece as spm
    from sentencepiece import sentencepiece_model_pb2 as pb
    out = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=out, vocab_size=size,
        model_type="unigram", character_coverage=0.9998, normalization_rule_name="nmt_nfkc",
        num_threads=2, max_sentence_length=4000, minloglevel=1)
    m = pb.ModelProto()
    m.ParseFromString(out.getvalue())
    return [[p.piece, p.score] for p in m.pieces[3:]], bytes(m.normalizer_spec.precompiled_charsmap)


def added(i, text, lstrip=False):
    return dict(id=i, content=text, single_word=False, lstrip=lstrip, rstrip=False,
                normalized=False, special=True)


def tokenizer_json(vocab, charsmap):
    meta = dict(type="Metaspace", replacement="\u2581", prepend_scheme="always", split=True)

    def tok(t):
        return {"SpecialToken": {"id": t, "type_id": 0}}

    def seq(s):
        return {"Sequence": {"id": s, "type_id": 0}}

    return dict(
        version="1.0", truncation=None, padding=None,
        added_tokens=[added(i, s) for i, s in enumerate(SPECIAL)]
        + [added(len(vocab) - 1, "<mask>", True)],
        normalizer=dict(type="Precompiled",
                        precompiled_charsmap=base64.b64encode(charsmap).decode()),
        pre_tokenizer=dict(type="Sequence", pretokenizers=[dict(type="WhitespaceSplit"), meta]),
        post_processor=dict(
            type="TemplateProcessing",
            single=[tok("<s>"), seq("A"), tok("</s>")],
            pair=[tok("<s>"), seq("A"), tok("</s>"), tok("</s>"), seq("B"), tok("</s>")],
            special_tokens={t: dict(id=t, ids=[SPECIAL.index(t)], tokens=[t])
                            for t in ("<s>", "</s>")}),
        decoder=meta,
        model=dict(type="Unigram", unk_id=3, vocab=vocab, byte_fallback=False))


def write_side_files(out, max_length=512):
    mask = dict(content="<mask>", lstrip=True, normalized=False, rstrip=False, single_word=False)
    names = dict(bos_token="<s>", cls_token="<s>", eos_token="</s>", mask_token=mask,
                 pad_token="<pad>", sep_token="</s>", unk_token="<unk>")
    with open(os.path.join(out, "special_tokens_map.json"), "w") as f:
        json.dump(names, f, indent=2)
        f.write("\n")
    conf = dict(names, mask_token="<mask>", model_max_length=max_length,
                clean_up_tokenization_spaces=True, tokenizer_class="XLMRobertaTokenizer")
    with open(os.path.join(out, "tokenizer_config.json"), "w") as f:
        json.dump(conf, f, indent=2)
        f.write("\n")


def build(lines, size, out):
    """size counts every id, the specials and <mask> included"""
    pieces, charsmap = train_pieces(lines, size - 2, out)
    vocab = [[s, 0.0] for s in SPECIAL] + pieces + [["<mask>", 0.0]]
    with open(os.path.join(out, "tokenizer.json"), "w", encoding="utf-8") as f:
        json.dump(tokenizer_json(vocab, charsmap), f, ensure_ascii=False, separators=(",", ":"))
    write_side_files(out)


# How many texts of each language the vocabulary is trained on: French and English are what the
# model is for first, Spanish has about ten thousand in all.
SHARE = {"fr": 18000, "en": 22000, "it": 9000, "de": 10000, "pt": 9000, "es": 9000}


def training_lines(entries, rng):
    for lang, limit in SHARE.items():
        rows = [e.text[lang] for e in entries if lang in e.text]
        for short, long in rng.sample(rows, min(limit, len(rows))):
            yield (short[:1].upper() + short[1:] + ". " + long)[:1200]

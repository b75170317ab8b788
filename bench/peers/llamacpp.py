# SPDX-License-Identifier: Apache-2.0
"""llamacpp.py - llama.cpp as a peer: its C interface, as the package llama-cpp-python wraps it.

    python3 bench/peers/llamacpp.py FILE.gguf THREADS < rows of ids, JSON, one line each

Run by itself it prints the logit of each row.

Nothing is padded: each pair is a sequence of its own, and a call holds any number of them.  A call's
tokens all attend to each other behind a mask, of which flash attention leaves masked tiles out, so
that how many pairs a call should hold depends on their lengths; the first run of a list tries.
"""
import itertools
import json
import logging
import sys
import time

import llama_cpp as api

CALL_TOKENS = 512  # llama.cpp's own n_ubatch
PLAIN_TOKENS = 4096  # without flash attention the scores of a call are a square of so many
MOST_PAIRS = 256  # LLAMA_MAX_SEQ
TRIES = 2  # of each form; the first one allocates

logging.getLogger("llama-cpp-python").setLevel(logging.ERROR)  # or a thousand lines a context


def take(rows, tokens, pairs=MOST_PAIRS):
    """The rows in their order, cut into lists of at most so many tokens and pairs."""
    taken = []
    for row in rows:
        if not taken or len(taken[-1]) == pairs or sum(map(len, taken[-1])) + len(row) > tokens:
            taken.append([])
        taken[-1].append(row)
    return taken


class Form:
    """Lists of pairs, one list a call, and the context for the largest."""

    def __init__(self, model, calls, flash, threads):
        most = max(sum(map(len, call)) for call in calls)
        pairs = max(map(len, calls))
        params = api.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = most + -most % pairs  # or ModernBERT aborts
        params.n_seq_max = pairs
        params.n_threads = params.n_threads_batch = threads
        params.pooling_type = api.LLAMA_POOLING_TYPE_RANK
        params.flash_attn_type = (api.LLAMA_FLASH_ATTN_TYPE_ENABLED if flash
                                  else api.LLAMA_FLASH_ATTN_TYPE_DISABLED)
        params.embeddings = True
        params.kv_unified = True  # read by causal networks only: a context is all sequences' together
        self.name = "%d calls%s" % (len(calls), ", flash attention" if flash else "")
        self.context = api.llama_init_from_model(model, params)
        if not self.context:
            raise SystemExit("llama.cpp makes no context for %d tokens" % most)
        self.batches = [(self.batch(call), len(call)) for call in calls]

    @staticmethod
    def batch(rows):
        batch = api.llama_batch_init(sum(map(len, rows)), 0, 1)
        for pair, row in enumerate(rows):
            for position, token in enumerate(row):
                at = batch.n_tokens
                batch.token[at], batch.pos[at] = int(token), position
                batch.n_seq_id[at], batch.seq_id[at][0], batch.logits[at] = 1, pair, True
                batch.n_tokens += 1
        return batch

    def run(self):
        memory = api.llama_get_memory(self.context)  # encoders have none
        logits = []
        for batch, pairs in self.batches:
            if memory:
                api.llama_memory_clear(memory, True)
            if (api.llama_decode if memory else api.llama_encode)(self.context, batch):
                raise SystemExit("llama.cpp refused a batch")
            logits += [api.llama_get_embeddings_seq(self.context, i)[0] for i in range(pairs)]
        return logits

    def close(self):
        for batch, _ in self.batches:
            api.llama_batch_free(batch)
        api.llama_free(self.context)


class Ranker:
    def __init__(self, path, threads):
        params = api.llama_model_default_params()
        params.n_gpu_layers = 0
        api.llama_backend_init()
        self.model = api.llama_model_load_from_file(path.encode(), params)
        if not self.model:
            raise SystemExit("llama.cpp cannot load %s" % path)
        self.threads = threads
        self.version = "llama.cpp " + api.llama_version().decode()

    def fastest(self, rows):
        """One call a pair, as many pairs as llama.cpp takes by itself, all; flash attention or not."""
        best = None
        cuts = [take(rows, 0), take(rows, CALL_TOKENS), take(rows, sys.maxsize)]
        cuts = [c for i, c in enumerate(cuts) if c not in cuts[:i]]
        for calls, flash in itertools.product(cuts, (True, False)):
            if not flash and max(sum(map(len, call)) for call in calls) > PLAIN_TOKENS:
                continue
            form, seconds = Form(self.model, calls, flash, self.threads), []
            while len(seconds) < TRIES and not (best and seconds and seconds[0] > 2 * best[0]):
                start = time.perf_counter()
                form.run()
                seconds.append(time.perf_counter() - start)
            print("%s: %.1f ms" % (form.name, min(seconds) * 1e3), file=sys.stderr, flush=True)
            if best and best[0] <= min(seconds):
                form.close()
                continue
            if best:
                best[1].close()
            best = (min(seconds), form)
        print("taken: " + best[1].name, file=sys.stderr, flush=True)
        return best[1]


def main():
    ranker = Ranker(sys.argv[1], int(sys.argv[2]))
    for logit in ranker.fastest([json.loads(line) for line in sys.stdin]).run():
        print("%.9g" % logit)


if __name__ == "__main__":
    main()

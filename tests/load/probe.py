# SPDX-License-Identifier: Apache-2.0
"""probe.py - one fixed request whose scores must be the same bits after every fault.

A cache of scores would answer it without computing.  The longest length allowed is part of a cache's
key and changes nothing for texts that are shorter: each check takes another one, so it computes."""
import itertools

QUERY = "Comment vérifier un serveur ?"
TEXTS = ["Le serveur répond toujours la même chose.", "The probe compares bits, not digits.",
         "", "é", "x y z x y z x y z x y z", "检查 服务器"]
LENGTHS = range(100, 400)


class Probe:
    def __init__(self, server):
        self.server = server
        self.most = server.ask("GET", "/info").json().get("max_length", 512)
        self.lengths = itertools.cycle([n for n in LENGTHS if n < self.most] or [self.most])
        self.first = self.scores()

    def scores(self):
        answer = self.server.post({"query": QUERY, "texts": TEXTS, "raw_scores": True,
                                   "max_length": next(self.lengths)})
        assert answer.status == 200, answer
        scores = {x["index"]: x["score"] for x in answer.json()}
        assert sorted(scores) == list(range(len(TEXTS))), answer
        return [scores[i] for i in range(len(TEXTS))]

    def check(self):
        now = self.scores()  # JSON has the shortest digits that give the same bits
        assert now == self.first, "I3: the probe was %s and is %s" % (self.first, now)

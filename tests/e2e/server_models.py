# SPDX-License-Identifier: Apache-2.0
"""server_models.py - several models in one server: chosen by name and alias, loaded at first use,
unloaded for others, broken, reloaded; run by run.py."""
import json
import os
import re
import shutil
import signal
import threading

from cli_support import ROOT, folder, run
from server_support import Server, until

GOLDEN = os.path.join(ROOT, "tests", "golden", "models")
FOLDERS = {"xlmr": "tiny-xlmr", "bert": "tiny-bert", "rob": "tiny-roberta"}
NAMES = list(FOLDERS)
QUERY = "Où se trouve la tour Eiffel ?"
DOCUMENTS = ["The Eiffel Tower is in Paris.", "La farine fait le pain.", "A boat on the sea."]
KEY = [("Authorization", "Bearer s3cret-Admin")]
KEY_OPTION = ["--admin-key=s3cret-Admin"]

_own = {}


def path(name):
    return os.path.join(GOLDEN, FOLDERS[name])


def ask(name, **more):
    return {"model": name, "query": QUERY, "documents": DOCUMENTS, "no_cache": True, **more}


def scores(answer):
    """By document, as the text of the reply has them: the same bits have the same digits."""
    assert answer.status == 200, answer
    found = {r["index"]: r["relevance_score"] for r in answer.json()["results"]}
    return [found[i] for i in range(len(DOCUMENTS))]


def own(name):
    """What a server with this model alone answers."""
    if name not in _own:
        with Server(model_folder=path(name)) as s:
            _own[name] = scores(s.ask("POST", "/v1/rerank", ask("whatever")))
    return _own[name]


def options(names=("bert", "rob")):
    return ["--model=%s=%s" % (n, path(n)) for n in names]


def models(server):
    return {m["id"]: m for m in server.ask("GET", "/v1/models").json()["data"]}


def three(*more, **kw):
    return Server(*options(NAMES), *more, model_folder=False, **kw)


def test_models_by_name_and_alias():
    assert len({tuple(own(n)) for n in NAMES}) == 3  # else nothing here says anything
    with Server(*options(), "--model-alias=rerank-v3.5=rob", "--model-alias=old/name:1=default",
                model_folder=path("xlmr")) as s:
        assert [m["state"] for m in models(s).values()] == ["loaded", "idle", "idle"]
        for name, expected, says in [
                ("bert", "bert", "bert"), ("rob", "rob", "rob"), ("rerank-v3.5", "rob", "rob"),
                ("old/name:1", "xlmr", "tiny-xlmr"), ("tiny-xlmr", "xlmr", "tiny-xlmr"),
                ("unheard-of", "xlmr", "tiny-xlmr"), (None, "xlmr", "tiny-xlmr"),
                (7, "xlmr", "tiny-xlmr"), ("", "xlmr", "tiny-xlmr")]:
            a = s.ask("POST", "/v1/rerank", ask(name))
            assert scores(a) == own(expected), (name, a)
            assert a.json()["model"] == says, (name, a)
        listed = models(s)
        assert [m["state"] for m in listed.values()] == ["loaded"] * 3
        assert listed["rob"]["aliases"] == ["rerank-v3.5"], listed
        assert listed["tiny-xlmr"]["default"] and not listed["rob"]["default"]
        for name, says in [("bert", "bert"), ("rerank-v3.5", "rob"), ("old/name:1", "tiny-xlmr"),
                           ("old%2Fname%3A1", "tiny-xlmr"), ("unheard-of", "tiny-xlmr")]:
            a = s.ask("GET", "/v1/models/" + name)
            assert a.status == 200 and a.json() == listed[says], (name, a)
        prints = {m["fingerprint"] for m in listed.values()}
        assert len(prints) == 3
        a = s.ask("POST", "/v1/rerank", ask("bert"))
        assert a.headers["x-rerank-model-fingerprint"] == listed["bert"]["fingerprint"]


def test_models_in_every_dialect():
    """Wherever a form has the key, it chooses."""
    forms = {
        "/v2/rerank": (ask("bert"), lambda r: [x["relevance_score"] for x in r["results"]]),
        "/rerank": ({"model": "bert", "query": QUERY, "texts": DOCUMENTS},
                    lambda r: [x["score"] for x in r]),
        "/v1/score": ({"model": "bert", "text_1": QUERY, "text_2": DOCUMENTS},
                      lambda r: [x["score"] for x in r["data"]]),
        "/v1/ranking": ({"model": "bert", "query": {"text": QUERY},
                         "passages": [{"text": d} for d in DOCUMENTS]},
                        lambda r: [x["logit"] for x in r["rankings"]]),
    }
    with Server(*options(), model_folder=path("xlmr")) as s:
        for where, (body, read) in forms.items():
            a = s.ask("POST", where, body)
            b = s.ask("POST", where, {**body, "model": "rob"})
            assert a.status == b.status == 200, (where, a, b)
            assert sorted(read(a.json())) != sorted(read(b.json())), where
        tokens = [s.ask("POST", "/tokenize", {"model": m, "prompt": "une farine"}).json()["tokens"]
                  for m in ("tiny-xlmr", "bert")]
        assert tokens[0] != tokens[1], tokens


def test_models_tokenize_loads():
    """Asking for tokens of an idle model makes it load; who comes again gets them."""
    with Server(*options(), model_folder=path("xlmr")) as s:
        body = {"model": "rob", "prompt": "a"}
        assert s.ask("POST", "/tokenize", body).status == 503
        until(lambda: s.ask("POST", "/tokenize", body).status == 200, "the model")
        assert models(s)["bert"]["state"] == "idle"


def test_models_strict():
    with Server(*options(), "--strict-model", "--model-alias=x=bert",
                model_folder=path("xlmr")) as s:
        for name in ("bert", "x", "tiny-xlmr", None):
            assert s.ask("POST", "/v1/rerank", ask(name)).status == 200, name
        for name, status in [("x", 200), ("tiny-xlmr", 200), ("unheard-of", 404)]:
            a = s.ask("GET", "/v1/models/" + name)
            assert a.status == status, (name, a)
        assert isinstance(a.json()["detail"], str), a  # where Xinference's client looks
        for where, key in [("/v1/rerank", "message"), ("/v2/rerank", "message"),
                           ("/vllm/v1/rerank", "error"), ("/infinity/rerank", "error"),
                           ("/llamacpp/v1/rerank", "error")]:
            a = s.ask("POST", where, ask("unheard-of"))
            assert a.status == 404 and key in a.json(), (where, a)
            assert "unheard-of" not in a.body, a  # errors do not quote requests
        assert s.ask("POST", "/vllm/v1/rerank", ask("?")).json()["error"]["type"] == "NotFoundError"
        assert s.ask("POST", "/tokenize", {"model": "no", "prompt": "a"}).status == 404


def hammer(server, names, answers, stop, per_client=None):
    """A client that asks the models in turn."""
    with server.connect() as c:
        i = 0
        while not stop.is_set() and (per_client is None or i < per_client):
            name = names[i % len(names)]
            i += 1
            answers.append((name, c.ask("POST", "/v1/rerank", ask(name))))


def clients(server, plans, seconds_or_done):
    answers, stop = [], threading.Event()
    threads = [threading.Thread(target=hammer, args=(server, p, answers, stop)) for p in plans]
    for t in threads:
        t.start()
    try:
        until(lambda: seconds_or_done(answers), "the load to have done its part")
    finally:
        stop.set()
        for t in threads:
            t.join()
    return answers


def check_right(answers):
    for name, a in answers:
        assert a is not None and a.status == 200, (name, a)
        assert scores(a) == own(name), (name, a)
        assert a.json()["model"] == name, a


def test_models_used_at_once():
    for n in NAMES:
        own(n)
    with three() as s:
        plans = [["xlmr"], ["bert"], ["rob"], NAMES, NAMES[::-1]]
        answers = clients(s, plans, lambda a: len(a) >= 300)
        check_right(answers)
        assert {n for n, _ in answers} == set(NAMES)


def test_models_unloaded_under_load():
    """Two of three fit.  All are asked for all the time: nothing is lost, no answer is another
    model's, and the memory of models stays within its limit."""
    for n in NAMES:
        own(n)
    with three() as s:
        for n in NAMES:
            s.ask("POST", "/v1/rerank", ask(n))
        sizes = {n: m["bytes"] for n, m in models(s).items()}
    budget = sizes["xlmr"] + max(sizes["bert"], sizes["rob"]) + 1000
    assert budget < sum(sizes.values())
    with three("--model-memory=%d" % budget, *KEY_OPTION) as s:
        most = []

        def done(answers):
            most.append(sum(m.get("bytes", 0) for m in models(s).values()))
            counts = {m["name"]: m for m in s.ask("GET", "/debug/state", None, KEY).json()["models"]}
            return len(answers) >= 100 and counts["bert"]["unloads"] >= 2 and \
                counts["rob"]["unloads"] >= 2

        answers = clients(s, [["bert"], ["rob"], NAMES, ["xlmr"], NAMES[::-1]], done)
        check_right(answers)
        assert {n for n, _ in answers} == set(NAMES)
        assert max(most) <= budget, (max(most), budget)
        text = s.ask("GET", "/metrics", None, KEY).body
        assert 'rerank_model_unloads_total{model="xlmr"} 0' in text, text  # the default stays
        assert 'rerank_model_load_failures_total{model="rob"} 0' in text, text
        assert set(line.split('"')[1] for line in text.splitlines()
                   if line.startswith("rerank_model_loaded")) == set(NAMES)


def test_models_too_large():
    with three() as s:
        size = models(s)["xlmr"]["bytes"]
    with three("--model-memory=%d" % (size + 1000)) as s:
        a = s.ask("POST", "/v1/rerank", ask("bert"))
        assert a.status == 503 and int(a.headers["retry-after"]) >= 1, a
        assert scores(s.ask("POST", "/v1/rerank", ask("xlmr"))) == own("xlmr")
        s.log("bert needs.*--model-memory")
    r = run("serve", "--check", "--model=xlmr=" + path("xlmr"), *options(),
            "--model-memory=%d" % (size + 1000))
    assert r.code == 71 and "model bert" in r.err, r


def test_models_broken():
    """One that cannot be loaded is told of, tried again after a while, and hurts nobody."""
    with folder() as f:
        broken = os.path.join(f, "m")
        os.mkdir(broken)
        with Server("--model=broken=" + broken, *options(), *KEY_OPTION,
                    model_folder=path("xlmr")) as s:
            a = s.ask("POST", "/v1/rerank", ask("broken"))
            assert a.status == 503 and "retry-after" in a.headers, a
            assert f not in a.body, a  # the log has the folder, clients need not know it
            s.log(re.escape(f))
            a = s.ask("POST", "/v1/rerank", ask("broken"))  # within the pause
            assert a.status == 503, a
            assert s.ask("GET", "/ready").json() == {"status": "ready", "degraded": ["models"]}
            assert s.ask("GET", "/health").status == 200
            state = {m["name"]: m for m in s.ask("GET", "/debug/state", None, KEY).json()["models"]}
            assert state["broken"]["state"] == "failed" and "config.json" in state["broken"]["why"]
            assert state["broken"]["failures"] == 1, state
            for n in ("bert", "rob"):
                assert scores(s.ask("POST", "/v1/rerank", ask(n))) == own(n)
            for name in os.listdir(path("bert")):
                shutil.copy(os.path.join(path("bert"), name), broken)
            until(lambda: s.ask("POST", "/v1/rerank", ask("broken")).status == 200, "the next try")
            assert scores(s.ask("POST", "/v1/rerank", ask("broken"))) == own("bert")
            assert s.ask("GET", "/ready").json() == {"status": "ready"}


def test_models_wrong_reference():
    """A model whose scores are not those that its folder records is not served."""
    with folder() as f:
        wrong = os.path.join(f, "m")
        shutil.copytree(path("bert"), wrong)
        shutil.copy(os.path.join(path("rob"), "reference.jsonl"), wrong)
        with Server("--model=wrong=" + wrong, model_folder=path("xlmr")) as s:
            assert s.ask("POST", "/v1/rerank", ask("wrong")).status == 503
            s.log("has the logit")


def slow_model(f):
    """A folder whose check takes long on any machine: its reference has very many documents."""
    slow = os.path.join(f, "slow")
    shutil.copytree(path("xlmr"), slow)
    documents = ["texte %d " % i + "et encore un peu " * 150 for i in range(8)]
    with Server("--request-timeout=300", model_folder=path("xlmr")) as s:
        results = s.ask("POST", "/v1/rerank", ask("", documents=documents, return_logits=True)).json()
    logits = [r["logit"] for r in sorted(results["results"], key=lambda r: r["index"])]
    with open(os.path.join(slow, "reference.jsonl"), "w", encoding="utf-8") as out:
        json.dump({"query": QUERY, "documents": documents * 2400, "logits": logits * 2400}, out)
    return slow


def test_models_others_serve_while_one_loads():
    """What waits for a model has its own deadline, may leave, and at the end of --drain-timeout is
    answered, as a reload is that waits for its turn; and all the time others are served."""
    with folder() as f:
        with Server("--model=slow=" + slow_model(f), *options(), *KEY_OPTION, "--drain-timeout=0.5",
                    model_folder=path("xlmr")) as s:
            def waiting():
                return s.ask("GET", "/debug/state", None, KEY).json()["http"]["waiting"]

            with s.connect() as staying, s.connect() as leaving:
                staying.send("POST", "/v1/rerank", ask("slow"), [("X-Request-Timeout", "100")])
                leaving.send("POST", "/v1/rerank", ask("slow"))
                until(lambda: waiting() == 2, "both to wait")
                a = s.ask("POST", "/v1/rerank", ask("slow"), [("X-Request-Timeout", "200ms")])
                assert a.status == 504, a
                leaving.close()
                until(lambda: waiting() == 1, "the one that left to be dropped")
                assert scores(s.ask("POST", "/v1/rerank", ask("x"))) == own("xlmr")
                with s.connect() as reload:
                    reload.send("POST", "/admin/reload", {"model": "rob"}, KEY)
                    until(lambda: waiting() == 2, "the reload to wait for its turn")
                    assert models(s)["slow"]["state"] == "loading"  # all of that happened meanwhile
                    s.process.send_signal(signal.SIGTERM)
                    a = reload.receive()
                    assert a.status == 503 and "shutting down" in a.body, a
                a = staying.receive()
                assert a.status == 503, a
            assert s.wait() == 0, s.lines


def test_models_reload_one():
    with Server(*options(), *KEY_OPTION, "--sandbox-read=" + GOLDEN,
                model_folder=path("xlmr")) as s:
        def reload(**body):
            return s.ask("POST", "/admin/reload", body, KEY)

        a = reload(model="rob", path="/nowhere")  # its own folder is as good as before
        assert a.status == 422 and models(s)["rob"]["state"] == "idle", (a, models(s))
        assert scores(s.ask("POST", "/v1/rerank", ask("rob"))) == own("rob")
        a = reload(model="bert", path=path("rob"))
        assert a.status == 200 and a.json()["model"] == "bert", a
        assert scores(s.ask("POST", "/v1/rerank", ask("bert"))) == own("rob")
        assert scores(s.ask("POST", "/v1/rerank", ask("x"))) == own("xlmr")
        assert reload(model="bert").status == 200  # what is in service, read again
        assert scores(s.ask("POST", "/v1/rerank", ask("bert"))) == own("rob")
        a = reload(model="nobody", path=path("rob"))
        assert a.status == 422 and "no model of this name" in a.body, a
        a = reload(model="bert", path="/nowhere")
        assert a.status == 422, a
        assert scores(s.ask("POST", "/v1/rerank", ask("bert"))) == own("rob")
        a = reload(model=path("bert"))  # a folder alone: the default, as with one model
        assert a.status == 200, a
        assert scores(s.ask("POST", "/v1/rerank", ask("x"))) == own("bert")
        assert scores(s.ask("POST", "/v1/rerank", ask("rob"))) == own("rob")


def test_models_flood():
    """Requests that flood one model do not hold up another, whose request has its share at once."""
    with Server("--device", "null:per_token_ns=20000", "--model=other=x", model_folder="null") as s:
        text, done, threads = "a" * 400, [], []

        def one(name, i):
            body = {"model": name, "query": "q%d" % i, "no_cache": True,
                    "texts": [text + str(k) for k in range(8)]}
            with s.connect() as c:
                assert c.ask("POST", "/rerank", body).status == 200
            done.append(name)

        one("other", 0)  # it is loaded
        for i in range(40):
            threads.append(threading.Thread(target=one, args=("flood", i)))
            threads[-1].start()
        until(lambda: s.metrics()["rerank_queue_requests"] >= 35, "the flood")
        one("other", 1)
        count = done.count("flood")
        for t in threads:
            t.join()
        assert done.count("flood") == 40 and count <= 20, count


def test_models_settings():
    """Each has its own; a file names them as the command line does."""
    with folder() as f:
        conf = os.path.join(f, "rerankd.conf")
        with open(conf, "w", encoding="utf-8") as out:
            out.write("model = %s\nmodel = \"bert=%s,max-length=64,dtype=int8\"\n"
                      "model-alias = b=bert\nstrict-model = true\n" % (path("xlmr"), path("bert")))
        with Server("--config", conf, model_folder=False) as s:
            assert s.ask("POST", "/v1/rerank", ask("b")).status == 200
            assert s.ask("POST", "/v1/rerank", ask("c")).status == 404
            listed = models(s)
            assert listed["bert"]["max_length"] == 64 and listed["bert"]["dtype"] == "int8", listed
            assert listed["tiny-xlmr"]["max_length"] == 512, listed
            a = s.ask("POST", "/v1/rerank", ask("b", max_length=65))
            assert a.status == 422 and "max_length" in a.body, a
            with open(conf, "a", encoding="utf-8") as out:  # aliases follow a SIGHUP
                out.write("model-alias = c=bert\n")
            s.process.send_signal(signal.SIGHUP)
            until(lambda: s.ask("POST", "/v1/rerank", ask("c")).status == 200, "the new alias")

# SPDX-License-Identifier: Apache-2.0
"""server_devices.py - a server on several devices: what it tells of each, and that losing one, and
all, under load loses no request and gives no wrong score.

Devices are those of docs/internals/engine.md: "null", and "fault" where its plugin is built."""
import os
import tempfile
import threading

from cli_support import RERANKD, Skip, environment, run
from server_support import Server, until

KEY = [("Authorization", "Bearer boss")]
PLUGINS = os.path.join(os.path.dirname(RERANKD), "tests", "unit")


def lane_values(server, name, headers=()):
    """{device: value} of a metric of devices."""
    text = server.ask("GET", "/metrics", headers=headers).body
    rows = [line for line in text.splitlines() if line.startswith(name + "{")]
    return {row.split('device="')[1].split('"')[0]: float(row.rsplit(" ", 1)[1]) for row in rows}


def test_devices_mistakes():
    for devices, more, what in (
            ("cuda:0,cuda:0", (), "cuda:0 is there twice"),
            ("null,cpu", (), "null is a stand-in"),
            ("cpu,", (), "expected names such as"),
            ("null,null", ("--device", "cpu"), "give one of them"),
            ("nowhere:0,cpu", (), "nowhere")):
        r = run("serve", "--devices", devices, "--port", "0", *more)
        assert 64 <= r.code <= 78 and what in r.err, (devices, r)


def test_devices_two():
    devices = "null:per_token_ns=20000,null:per_token_ns=20000"
    with Server("--devices", devices, "--cache-size", "0", "--admin-key", "boss") as s:
        texts = [["text %d %d" % (i, k) for k in range(20)] for i in range(20)]
        threads = [threading.Thread(target=s.post, args=({"query": "q", "texts": t},)) for t in texts]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        pairs = lane_values(s, "rerank_lane_pairs_total", KEY)
        assert sum(pairs.values()) == 400 and min(pairs.values()) > 0, pairs
        assert lane_values(s, "rerank_lane_up", KEY) == {"null:0": 1, "null:1": 1}
        info = s.ask("GET", "/info").json()
        assert info["device"]["name"] == "null:0,null:1", info
        assert [d["name"] for d in info["devices"]] == ["null:0", "null:1"], info
        state = s.ask("GET", "/debug/state", headers=KEY).json()["devices"]
        assert sum(d["pairs"] for d in state) == 400 and state[0]["ns_per_token"] > 0, state
        assert s.log("device null:1: "), s.read()


def test_devices_lost():
    if not os.path.exists(os.path.join(PLUGINS, "librerank_fault.so")):
        raise Skip("librerank_fault.so is not built")
    with tempfile.TemporaryDirectory() as folder:
        switches = os.path.join(folder, "switches")

        def switch(text):
            with open(switches + ".new", "w", encoding="utf-8") as f:
                f.write(text)
            os.rename(switches + ".new", switches)

        switch("slow_us=3000")
        env = environment(LD_LIBRARY_PATH=PLUGINS, RR_FAULT_FILE=switches)
        # The sandbox would hide the file of switches.
        with Server("--devices", "fault:0,fault:1", "--no-fallback", "--cache-size", "0", "--sandbox",
                    "off", env=env) as s:
            body = {"query": "q", "texts": ["a", "b", "c"], "raw_scores": True}
            expected = s.post(body).json()
            stop, wrong, count = threading.Event(), [], [0]

            def load():
                while not stop.is_set():
                    r = s.post(body)
                    count[0] += 1
                    if r.status != 200 or r.json() != expected:
                        wrong.append(r)

            threads = [threading.Thread(target=load) for _ in range(8)]
            for t in threads:
                t.start()
            try:
                until(lambda: min(lane_values(s, "rerank_lane_batches_total").values()) > 0,
                      "both to work")
                switch("fail1=1")
                until(lambda: lane_values(s, "rerank_lane_up")["fault:1"] == 0, "fault:1 to be out")
                ready = s.ask("GET", "/ready")
                assert ready.status == 200, ready
                assert ready.json()["degraded"] == ["device"], ready
                assert "fault:1: " in ready.json()["why"], ready
                assert s.metrics()["rerank_device_fallback_active"] == 0
                assert s.metrics()["rerank_device_up"] == 0
                switch("fail1=0")
                until(lambda: lane_values(s, "rerank_lane_up")["fault:1"] == 1, "fault:1 to be back")
                until(lambda: s.metrics()["rerank_device_up"] == 1, "all to be well")
            finally:
                stop.set()
                for t in threads:
                    t.join()
            assert not wrong and count[0] > 10, (count, wrong[:3])
            assert lane_values(s, "rerank_lane_errors_total")["fault:1"] > 0
            switch("fail=1")
            r = s.post(body)
            assert r.status == 503 and "retry-after" in r.headers, r
            until(lambda: s.ask("GET", "/ready").status == 503, "/ready to be 503")
            assert s.ask("GET", "/live").status == 200
            switch("fail=0")
            until(lambda: s.ask("GET", "/ready").status == 200, "/ready to be 200")
            assert s.post(body).json() == expected

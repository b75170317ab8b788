# SPDX-License-Identifier: Apache-2.0
"""cli_mcp.py - "rerankd mcp": lines of JSON-RPC in, lines out; run by run.py.

The same through the protocol's own Python package is in tests/clients."""
import json

from cli_support import model, one_line, run

HELLO = {"jsonrpc": "2.0", "id": 1, "method": "initialize",
         "params": {"protocolVersion": "2025-06-18", "capabilities": {},
                    "clientInfo": {"name": "test", "version": "0"}}}
QUERY, TEXTS = "Où est Paris ?", ["Le pain.", "Paris est en France.", "Le pain.", "a\"b\\c é\n"]


def talk(*messages, options=()):
    """The replies to messages: objects, or text that goes in as it is."""
    lines = [m if isinstance(m, str) else json.dumps(m, ensure_ascii=False) for m in messages]
    r = run("mcp", "--model", model(), *options, stdin="".join(x + "\n" for x in lines))
    assert r.code == 0 and r.err == "", r
    return [json.loads(x) for x in r.out.splitlines()]


def call(serial=7, tool="rerank", **arguments):
    return {"jsonrpc": "2.0", "id": serial, "method": "tools/call",
            "params": {"name": tool, "arguments": arguments}}


def result(**arguments):
    (reply,) = talk(call(**arguments))
    assert reply["id"] == 7 and not reply["result"]["isError"], reply
    content = reply["result"]["content"]
    assert len(content) == 1 and content[0]["type"] == "text", reply
    assert json.loads(content[0]["text"]) == reply["result"]["structuredContent"], reply
    return reply["result"]["structuredContent"]


def scores():
    r = run("score", "--model", model(), "--query", QUERY, "--json", "--no-sort",
            stdin="".join(json.dumps(t) + "\n" for t in TEXTS))
    return [json.loads(x)["score"] for x in r.out.splitlines()]


def test_mcp_session():
    hello, tools, pong = talk(
        HELLO, {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": "t-é", "method": "tools/list", "params": {}}, "",
        {"jsonrpc": "2.0", "id": 2.5, "method": "ping"})
    assert hello["id"] == 1 and hello["result"]["protocolVersion"] == "2025-06-18", hello
    assert hello["result"]["serverInfo"]["name"] == "rerankd", hello
    assert "tools" in hello["result"]["capabilities"], hello
    (tool,) = tools["result"]["tools"]
    assert tools["id"] == "t-é" and tool["name"] == "rerank", tools
    assert tool["inputSchema"]["required"] == ["query", "documents"], tool
    assert pong == {"jsonrpc": "2.0", "id": 2.5, "result": {}}


def test_mcp_revisions():
    for asked, given in [("2024-11-05", "2024-11-05"), ("2025-03-26", "2025-03-26"),
                         ("2025-11-25", "2025-11-25"), ("2026-07-28", "2025-11-25"),
                         ("", "2025-11-25"), (None, "2025-11-25"), (3, "2025-11-25")]:
        (reply,) = talk({**HELLO, "params": {"protocolVersion": asked}})
        assert reply["result"]["protocolVersion"] == given, (asked, reply)


def test_mcp_rerank():
    """Every choice, against the scores of "rerankd score"."""
    truth = scores()
    best = sorted(range(len(TEXTS)), key=lambda i: (-truth[i], i))
    rows = [{"index": i, "score": truth[i], "text": TEXTS[i]} for i in best]
    all_of_it = result(query=QUERY, documents=TEXTS)
    assert all_of_it == {"model": "tiny-xlmr", "results": rows}, (all_of_it, rows)
    assert result(query=QUERY, documents=TEXTS, top_n=2)["results"] == rows[:2]
    assert result(query=QUERY, documents=TEXTS, top_n=99, score_threshold=None)["results"] == rows
    assert result(query=QUERY, documents=TEXTS, score_threshold=rows[1]["score"])["results"] == [
        r for r in rows if r["score"] >= rows[1]["score"]]
    assert result(query=QUERY, documents=TEXTS, score_threshold=2)["results"] == []
    assert result(query=QUERY, documents=TEXTS, return_documents=False)["results"] == [
        {"index": r["index"], "score": r["score"]} for r in rows]


def test_mcp_bad_arguments():
    """What a model did wrong is told to the model, and the session goes on."""
    for arguments, message in [
            ({"documents": TEXTS}, "query: found nothing, expected a string"),
            ({"query": 3, "documents": TEXTS}, "query: found an integer"),
            ({"query": " \n", "documents": TEXTS}, "query: found only white space"),
            ({"query": "q" * 70000, "documents": TEXTS}, "query: found 70000 bytes"),
            ({"query": "q"}, "documents: found nothing, expected an array"),
            ({"query": "q", "documents": "one"}, "documents: found a string"),
            ({"query": "q", "documents": []}, "documents: found 0, expected 1 to 3"),
            ({"query": "q", "documents": ["a"] * 4}, "documents: found 4, expected 1 to 3"),
            ({"query": "q", "documents": ["a", {"text": "b"}]}, "documents[1]: found an object"),
            ({"query": "q", "documents": ["a", "b" * 101]}, "documents[1]: found 101 bytes"),
            ({"query": "q", "documents": ["a"], "top_n": 0}, "top_n: found 0"),
            ({"query": "q", "documents": ["a"], "top_n": "1"}, "top_n: found a string"),
            ({"query": "q", "documents": ["a"], "score_threshold": True}, "score_threshold: found"),
            ({"query": "q", "documents": ["a"], "return_documents": 1}, "return_documents: found"),
            ({"query": "q", "documents": ["a"], "top_k": 1}, "did you mean top_n?")]:
        bad, good = talk(call(**arguments), call(8, query="q", documents=["a"]),
                         options=["--max-documents", "3", "--max-document-bytes", "100"])
        assert bad["result"]["isError"] and "structuredContent" not in bad["result"], bad
        assert message in bad["result"]["content"][0]["text"], (message, bad)
        assert good["id"] == 8 and not good["result"]["isError"], good


def test_mcp_bad_messages():
    for line, serial, code in [
            ("{", None, -32700), ("[1,", None, -32700), ("\"\\ud83d\"", None, -32700),
            ("{\"a\":1,\"a\":2}", None, -32700), ("[" * 60 + "]" * 60, None, -32700),
            ("[]", None, -32600), ("3", None, -32600), ("{}", None, -32600),
            ({"id": 4, "method": "ping"}, 4, -32600),
            ({"jsonrpc": "1.0", "id": 4, "method": "ping"}, 4, -32600),
            ({"jsonrpc": "2.0", "id": 4}, 4, -32600),
            ({"jsonrpc": "2.0", "id": 4, "method": 5}, 4, -32600),
            ({"jsonrpc": "2.0", "id": None, "method": "ping"}, None, -32600),
            ({"jsonrpc": "2.0", "id": [1], "method": "ping"}, None, -32600),
            ({"jsonrpc": "2.0", "id": 4, "method": "server/discover"}, 4, -32601),
            ({"jsonrpc": "2.0", "id": 4, "method": "tools/call"}, 4, -32602),
            ({"jsonrpc": "2.0", "id": 4, "method": "tools/call", "params": [1]}, 4, -32602),
            (call(4, tool="search", query="q"), 4, -32602),
            ("x" * 3000, None, -32600)]:
        bad, good = talk(line, {"jsonrpc": "2.0", "id": 9, "method": "ping"},
                         options=["--max-body", "2000"])
        assert bad["id"] == serial and bad["error"]["code"] == code, (line, bad)
        assert isinstance(bad["error"]["message"], str) and good["id"] == 9, (bad, good)
    for line in ({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {}},
                 {"jsonrpc": "2.0", "id": 4, "result": {}}, " ", ""):
        assert talk(line) == [], line


def test_mcp_batch():
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    (replies,) = talk([note, ping, note, 3, call(query="q", documents=["a"]), note])
    assert [r.get("id") for r in replies] == [1, None, 7] and "error" in replies[1], replies
    assert talk([note, note]) == []


def test_mcp_last_line_without_newline():
    r = run("mcp", "--model", model(), stdin='{"jsonrpc":"2.0","id":1,"method":"ping"}')
    assert r.code == 0 and json.loads(r.out)["id"] == 1, r


def test_mcp_no_model():
    r = run("mcp", "--model", "/nonexistent", stdin="{}\n")
    assert r.code != 0 and r.out == "" and one_line(r.err) and "/nonexistent" in r.err, r

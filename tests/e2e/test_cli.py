#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""test_cli.py - the program rerankd from outside: help, score, bench, verify, healthcheck, doctor,
exit codes.

    tests/e2e/test_cli.py [NAME...]     all tests, or those whose names contain a NAME

Environment: RERANKD, the program (build/rerankd).  Prints a line per test and, last,
"N passed, N failed, N skipped"; exit status 1 if any failed.
"""
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
import traceback

import cli_bench
import cli_doctor
import cli_eval
import cli_formats
import cli_healthcheck
import cli_mcp
import cli_score
import cli_shadow
from cli_support import (RERANKD, ROOT, TIMEOUT, Skip, environment, folder, one_line, run, terminal,
                         write)

COMMANDS = ["serve", "score", "doctor", "healthcheck", "version"]  # at least


def test_overview():
    for words in (["--help"], ["-h"], ["help"], ["help", "--help"], ["help", "-h"], ["help", "help"]):
        r = run(*words)
        assert r.code == 0 and r.err == "", r
        assert all(re.search(r"^  %s  " % c, r.out, re.M) for c in COMMANDS), r
        assert max(map(len, r.out.splitlines())) <= 80, r


def test_overview_without_arguments():
    r = terminal()
    assert r.code == 0 and "First steps:" in r.out, r
    r = terminal(env=environment(LANG="fr_FR.UTF-8"))
    assert r.code == 0 and "Premiers pas :" in r.out and "First steps" not in r.out, r
    r = run(env=environment(RERANKD_PORT="x"))  # no terminal: it serves
    assert r.code == 78 and r.err.startswith("rerankd serve: environment RERANKD_PORT: "), r


def test_french():
    """Every text that the overview and the tables look up has a translation."""
    cli = os.path.join(ROOT, "src", "cli")
    english = set()
    for path in [os.path.join(ROOT, "src", "main.c")] + [
            os.path.join(cli, f) for f in os.listdir(cli) if f.endswith(".c")]:
        with open(path, encoding="utf-8") as f:
            text = f.read()
        english |= set(re.findall(r'(?:rr_tr|label)\((?:\w+, )?(?:\w+->)?\w+, "([^"]+)"\)', text))
        english |= set(re.findall(r'\.summary = "([^"]+)"', text))
    with open(os.path.join(cli, "words.c"), encoding="utf-8") as f:
        known = dict(re.findall(r'\{\s*"([^"]+)",\s*"([^"]+)"\s*\}', f.read()))
    assert len(english) > 25 and english <= set(known), english - set(known)


def test_table_of_models_in_french():
    r = run("--markdown=support-fr")
    assert r.code == 0 and not re.search(r"\b(and|the|to|on|with|encoders?|converted)\b", r.out), r


def test_help_of_commands():
    for c in re.findall(r"^  ([a-z]+)  ", run("help").out.split("Sub-commands:")[1], re.M):
        if c == "help":
            continue
        r = run(c, "--help")
        assert r.code == 0 and r.err == "" and r.out.startswith("Usage: rerankd " + c), r
        assert max(map(len, r.out.splitlines())) <= 80, r
        assert not re.search(r"[ \t]$", r.out, re.M), r
        assert run("help", c).out == r.out and run(c, "-h").out == r.out
    r = run("serve", "--help")
    assert "[default: 8002]" in r.out and "RERANKD_PORT, PORT]" in r.out, r
    assert "--query" in run("score", "--help").out and "--port" not in run("score", "--help").out
    r = run("serve", "--help", env=environment(RERANKD_PORT="x", RERANKD_CONFIG="/no/file"))
    assert r.code == 0, r


def test_version():
    r = run("--version")
    assert r.code == 0 and re.match(r"rerankd \d+\.\d+\.\d+\ncompiler +\S.*\ninstruction sets +\S",
                                    r.out), r
    assert run("version").out == r.out and run("-V").out == r.out
    with open(os.path.join(ROOT, "include", "rerank.h"), encoding="utf-8") as f:
        assert re.search(r'RR_VERSION "(.*)"', f.read()).group(1) in r.out


def test_unknown():
    for words, message in [
            (["srve"], "rerankd: unknown sub-command srve; did you mean serve?"),
            (["zzzzzzz"], "unknown sub-command zzzzzzz; rerankd help lists them"),
            (["help", "scor"], "did you mean score?"),
            (["serve", "--prot", "1"],
             "rerankd serve: unknown option --prot; did you mean --port?"),
            (["--prot", "1"], "rerankd serve: unknown option --prot"),
            (["score", "--quary", "x"], "did you mean --query?"),
            (["score", "-q", "x"], "unknown option -q"),
            (["healthcheck", "--timeuot", "1"], "did you mean --timeout?"),
            (["doctor", "--jsn"], "did you mean --json?"),
            (["serve", "extra"], "unexpected \"extra\""),
            (["doctor", "extra"], "unexpected \"extra\""),
            (["score", "a", "b"], "unexpected \"b\""),
            (["serve", "--port", "99999"], "expected a whole number from 0 to 65535"),
            (["--completion", "csh"], "expected bash, zsh or fish"),
            (["--completion"], "expected bash, zsh or fish")]:
        r = run(*words)
        assert r.code == 64 and message in r.err and one_line(r.err) and r.out == "", (words, r)


def test_configuration_errors():
    with folder() as d:
        conf = write(os.path.join(d, "c"), "port = 1\nprot = 2\n")
        for words, env, code, message in [
                (["--config", conf], {}, 78, conf + ":2: unknown setting \"prot\""),
                ([], {"RERANKD_CONFIG": conf}, 78, "did you mean port?"),
                ([], {"PORT": "x"}, 78, "environment PORT: found \"x\""),
                ([], {"RERANKD_LANG": "de"}, 78, "expected auto, en or fr"),
                (["--config", d + "/none"], {}, 66, d + "/none")]:
            for command in ("serve", "score", "doctor", "healthcheck"):
                r = run(command, *words, env=environment(**env))
                assert r.code == code and message in r.err and one_line(r.err), (words, r)


def test_print_config():
    r = run("serve", "--print-config", "--model", "a b", "--no-fallback",
            env=environment(PORT="9"))
    assert r.code == 0 and r.err == "", r
    assert re.search(r'^port += 9  # environment PORT$', r.out, re.M), r
    assert re.search(r'^model += "a b"  # --model$', r.out, re.M), r
    assert re.search(r'^fallback += false  # --fallback$', r.out, re.M), r
    assert re.search(r'^host += 0.0.0.0  # default$', r.out, re.M), r
    with folder() as d:
        again = run("serve", "--print-config", "--config", write(os.path.join(d, "c"), r.out))
        values = [re.sub(r"  # .*", "", line) for line in r.out.splitlines()]
        assert values == [re.sub(r"  # .*", "", line) for line in again.out.splitlines()], again


def options_of_table():
    with open(os.path.join(ROOT, "src", "options.def"), encoding="utf-8") as f:
        return re.findall(r'^RR_OPTION\(\w+, \w+, "([a-z-]+)"', f.read(), re.M)


def test_completion():
    for shell in ("bash", "zsh", "fish"):
        r = run("--completion", shell)
        assert r.code == 0 and r.out == run("--completion=" + shell).out, r
        for name in options_of_table() + ["query", "timeout", "config"]:
            assert re.search(r"(--|-l )%s\b" % name, r.out), (shell, name)
        if shutil.which(shell):
            p = subprocess.run([shell, "-n", "/dev/stdin"], input=r.out.encode(),
                               stderr=subprocess.PIPE)
            assert p.returncode == 0 and not p.stderr, p


def test_completion_bash():
    if not shutil.which("bash"):
        raise Skip("no bash")
    script = run("--completion", "bash").out + """
        compopt() { :; }
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _rerankd; echo "${COMPREPLY[*]}" """
    for words, answer in [
            (["rerankd", "s"], "serve score shadow"),
            (["rerankd", "score", "--fo"], "--format"),
            (["rerankd", "score", "--format", ""], "auto lines jsonl"),
            (["rerankd", "serve", "--device", "=", "c"], "cpu cuda"),
            (["rerankd", "serve", "--no-f"], "--no-fallback"),
            (["rerankd", "help", "d"], "doctor"),
            (["rerankd", "--completion", "z"], "zsh")]:
        p = subprocess.run(["bash", "-c", script, "bash", *words], stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE)
        assert p.stdout.decode().strip() == answer, (words, p)


def test_completion_fish():
    if not shutil.which("fish"):
        raise Skip("no fish")
    with folder() as d:
        script = write(os.path.join(d, "rerankd.fish"), run("--completion", "fish").out)
        for line, answer in [
                ("rerankd s", ["score", "serve", "shadow"]), ("rerankd score --fo", ["--format"]),
                ("rerankd score --format ", ["auto", "jsonl", "lines"]),
                ("rerankd serve --device c", ["cpu", "cuda"]),
                ("rerankd serve --no-f", ["--no-fallback"]), ("rerankd help d", ["doctor"]),
                ("rerankd --completion z", ["zsh"])]:
            p = subprocess.run(["fish", "--no-config", "-c",
                                "source $argv[1]; complete -C $argv[2]", script, line], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env={**os.environ, "HOME": d}, timeout=TIMEOUT)
            found = [x.split("\t")[0] for x in p.stdout.decode().splitlines()]
            assert found == answer and not p.stderr, (line, p)


def test_completion_zsh():
    """On a terminal, since zsh completes nowhere else: what a tab makes of a line."""
    if not shutil.which("zsh"):
        raise Skip("no zsh")
    with folder() as d:
        script = write(os.path.join(d, "_rerankd"), run("--completion", "zsh").out)
        ours, theirs = pty.openpty()
        shell = subprocess.Popen(["zsh", "-f", "-i"], stdin=theirs, stdout=theirs, stderr=theirs,
                                 start_new_session=True, cwd=d,
                                 env={"PATH": os.environ["PATH"], "HOME": d, "TERM": "dumb"})
        os.close(theirs)
        try:
            os.write(ours, b"autoload -Uz compinit; compinit -u -d dump; source %s; "
                     b"bindkey '^I' complete-word; echo READ''Y\n" % script.encode())
            read_until(ours, b"READY")
            for line, answer in [
                    (b"rerankd serv", b"rerankd serve "), (b"rerankd help doc", b"doctor "),
                    (b"rerankd score --form", b"--format="),
                    (b"rerankd score --format=jso", b"--format=jsonl "),
                    (b"rerankd serve --no-fal", b"--no-fallback ")]:
                os.write(ours, line + b"\t")
                read_until(ours, answer)
                os.write(ours, b"\x15")  # clears the line
        finally:
            os.close(ours)
            shell.kill()
            shell.wait()


def read_until(terminal_fd, text):
    """Reads until the terminal shows text; zsh redraws by going back with ^H."""
    seen, end = b"", time.monotonic() + TIMEOUT
    while text not in re.sub(rb".\x08|\x07|\x1b\[[?0-9;]*[a-zA-Z]", b"", seen):
        ready = select.select([terminal_fd], [], [], max(0, end - time.monotonic()))[0]
        assert ready, (text, seen)
        seen += os.read(terminal_fd, 4096)


def test_man():
    r = run("--man")
    assert r.code == 0 and r.out.startswith(".\\\"") and ".TH RERANKD 1" in r.out, r
    for name in options_of_table():
        assert "\\-\\-" + name.replace("-", "\\-") in r.out or \
            "no\\-]" + name.replace("-", "\\-") in r.out, name
    if not shutil.which("man"):
        raise Skip("no man to check the page with")
    with folder() as d:
        page = write(os.path.join(d, "rerankd.1"), r.out)
        p = subprocess.run(["man", "--warnings", "-l", page], stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, env={**os.environ, "LC_ALL": "C.UTF-8"})
        assert p.returncode == 0 and not p.stderr, p
        text = re.sub(r".\x08", "", p.stdout.decode())
        assert "--max-length TOKENS" in text and "EXIT STATUS" in text, text


def test_markdown():
    r = run("--markdown")
    assert r.code == 0, r
    for name in options_of_table():
        assert r.out.count("\n| `%s` | `RERANKD_%s`" % (name, name.upper().replace("-", "_"))) == 1
    for line in r.out.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 6, line


def test_models():
    """The page is a row for each network, and says which are in GGUF files."""
    r = run("--markdown=models")
    with open(os.path.join(ROOT, "docs", "MODELS.md"), encoding="utf-8") as f:
        assert r.code == 0 and r.out == f.read(), r
    with open(os.path.join(ROOT, "src", "model", "arch.c"), encoding="utf-8") as f:
        names = re.findall(r'^    \{ "(\w+)", RR_FAMILY', f.read(), re.M)
    assert len(names) > 10 and re.findall(r"^\| `(\w+)`", r.out, re.M)[1:] == names, r
    gguf = dict(re.findall(r"^\| `(\w+)` \|[^|]*\|[^|]*\| (tested|-) \|", r.out, re.M))
    assert gguf["BertForSequenceClassification"] == "tested", r
    assert gguf["ElectraForSequenceClassification"] == "-", r


def test_output_errors():
    for words in (["--help"], ["serve", "--help"], ["--man"], ["serve", "--print-config"]):
        with open("/dev/full", "wb") as full:
            p = subprocess.run([RERANKD, *words], stdout=full, stderr=subprocess.PIPE,
                               env=environment())
        assert p.returncode == 74 and one_line(p.stderr.decode()), p
        assert b"cannot write to standard output: No space left" in p.stderr, p
        ours, theirs = os.pipe()
        os.close(ours)  # a reader that has left
        p = subprocess.run([RERANKD, *words], stdout=theirs, stderr=subprocess.PIPE,
                           env=environment())
        os.close(theirs)
        assert p.returncode == 0 and p.stderr == b"", p


# ---- running them --------------------------------------------------------------------------


def main():
    modules = [sys.modules[__name__], cli_score, cli_healthcheck, cli_doctor, cli_mcp, cli_bench,
               cli_eval, cli_formats, cli_shadow]
    tests = [(n, f) for m in modules for n, f in vars(m).items()
             if n.startswith("test_") and callable(f)]
    names = sys.argv[1:]
    counts = {"ok": 0, "FAIL": 0, "skip": 0}
    if not os.path.exists(RERANKD):
        sys.exit("%s is not built" % RERANKD)
    for name, function in tests:
        if names and not any(n in name for n in names):
            continue
        why = ""
        try:
            function()
            word = "ok"
        except Skip as e:
            word, why = "skip", ": %s" % e
        except Exception:  # an assertion, a time-out, a broken pipe: all are failures
            word, why = "FAIL", "\n" + traceback.format_exc()
        counts[word] += 1
        print("%-5s cli %s%s" % (word, name[5:], why), flush=True)
    print("%d passed, %d failed, %d skipped" % (counts["ok"], counts["FAIL"], counts["skip"]))
    return 1 if counts["FAIL"] else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""image.py - the container images, without a container engine.

The final stage's files are put together by the script that the Dockerfile runs, and rerankd is run
with them as its root, as the image's user, with nothing writable but /tmp.
"""
import os
import re
import shutil
import subprocess
import tempfile

import support
from support import ROOT, read

if os.geteuid():
    support.skip("only root can change the root")
CHROOT = support.need("chroot")
support.need("ldd", "strip")
MOST_BYTES = 60e6  # without the model
RERANKD = os.path.abspath(os.environ.get("RERANKD", os.path.join(ROOT, "build", "rerankd")))


def image(folder):
    root = os.path.join(folder, "image")
    program = os.path.join(folder, "rerankd")
    # a program of its own name, as the sources of the build stage: PREFIX=/usr
    shutil.copy(RERANKD, program)
    support.run(os.path.join(ROOT, "deploy", "docker", "rootfs.sh"), program, root, cwd=ROOT)
    return root


def instructions(name):
    """(word, rest) of a Dockerfile, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", read(name))
    return [line.split(" ", 1) for line in text.splitlines() if line and line[0] != "#"]


def sum_of_files(root, part=""):
    return sum(os.lstat(os.path.join(d, f)).st_size
               for d, _, files in os.walk(os.path.join(root, part)) for f in files)


def is_small():
    with tempfile.TemporaryDirectory() as folder:
        root = image(folder)
        everything, model = sum_of_files(root), sum_of_files(root, "usr/share/rerankd/models")
        print("     %.1f MB, and %.1f MB of starter model" % ((everything - model) / 1e6, model / 1e6))
        assert everything - model < MOST_BYTES
        for forbidden in ("bin/sh", "usr/bin/sh", "usr/bin/apt"):
            assert not os.path.exists(os.path.join(root, forbidden)), forbidden


def serves_as_in_a_container():
    """Read-only root, tmpfs at /tmp, uid 65532, the environment and command of the Dockerfile."""
    final = dict(instructions("Dockerfile")[-8:])
    assert final["USER"] == "65532:65532" and final["CMD"] == '["serve"]', final
    assert '["/usr/bin/rerankd", "healthcheck"]' in final["HEALTHCHECK"]
    env = dict(word.split("=", 1) for word in final["ENV"].split())
    port = support.free_port()
    env.update(PORT=str(port), RERANKER_MODEL="/usr/share/rerankd/models/starter", DEVICE="cpu")
    unshare = support.need("unshare")
    with tempfile.TemporaryDirectory() as folder:
        root, log = image(folder), os.path.join(folder, "log")
        mounts = ("mount --bind {0} {0} && mount -o remount,bind,ro {0} && "
                  "mount -t tmpfs -o mode=1777 tmpfs {0}/tmp && exec {1} --userspec=65532:65532 {0} "
                  "/usr/bin/rerankd serve --drain-delay 0").format(root, CHROOT)
        code, out = support.run(unshare, "--mount", "true", check=False)
        if code:
            raise support.Missing("mounts are not allowed here: " + out)
        with support.program(unshare, "--mount", "sh", "-ec", mounts, log=log,
                             env=dict(env, PATH="/usr/sbin:/usr/bin:/sbin:/bin")) as p:
            def healthy():
                assert p.poll() is None, read(log)
                return subprocess.run(
                    [CHROOT, "--userspec=65532:65532", root, "/usr/bin/rerankd", "healthcheck"],
                    env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                    check=False).returncode == 0
            support.until(healthy, "the health check in the image")
            text = read(log)
            # The port is closed to others by the compose file, which rerankd cannot know.
            warnings = [x for x in text.splitlines() if " warning " in x and
                        "no API key is set" not in x]
            assert not warnings, text
        assert p.returncode == 0, (p.returncode, read(log))


def health_check_fails_without_server():
    with tempfile.TemporaryDirectory() as folder:
        code, _ = support.run(CHROOT, image(folder), "/usr/bin/rerankd", "healthcheck", "--port",
                              str(support.free_port()), check=False)
        assert code == 1, code


def a_missing_library_shows():
    with tempfile.TemporaryDirectory() as folder:
        root = image(folder)
        _, out = support.run("find", root, "-name", "libjansson.so*")
        for path in out.split():
            os.remove(path)
        code, out = support.run(CHROOT, root, "/usr/bin/rerankd", "--version", check=False)
        assert code == 127 and "libjansson" in out, (code, out)


UBUNTU_BYTES = 78.1e6  # the files of ubuntu:24.04, of which nothing can be left out


def gpu_image_is_small():
    """What the Dockerfile adds to ubuntu:24.04; the plugin is there after "make cuda"."""
    plugin = os.path.join(ROOT, "build", "librerank_cuda.so")
    if not os.path.exists(plugin):
        raise support.Missing("build/librerank_cuda.so is not built (make cuda)")
    with tempfile.TemporaryDirectory() as folder:
        root = image(folder)
        copy = os.path.join(root, "usr", "bin", "librerank_cuda.so")
        shutil.copy(plugin, copy)
        support.run("strip", "--strip-unneeded", copy)
        size, whole = os.path.getsize(copy), sum_of_files(root) + UBUNTU_BYTES
        _, needs = support.run("ldd", copy)
        print("     plugin %.1f MB, image %.1f MB" % (size / 1e6, whole / 1e6))
        assert whole < 200e6, whole
        assert "cuda" not in needs.replace(copy, ""), "needs more of CUDA than the driver: " + needs


def build_arguments_are_used():
    """CUDA 12 and 13: the argument chooses the base and the plugin's architectures."""
    text = read("Dockerfile.gpu")
    words = [(w, r) for w, r in instructions("Dockerfile.gpu")]
    assert words[0] == ("ARG", "CUDA=13.0.1") and words[1][1].startswith("nvidia/cuda:${CUDA}-devel")
    assert ("ARG", "CUDA") in words, "an ARG before FROM is not seen behind it"
    for version, archs in (("13.0.1", "75 80"), ("12.9.1", "70 75 80")):
        _, out = support.run("make", "-n", "-C", ROOT, "CUDA=" + version.split(".")[0],
                             "NVCC=/nonexistent/nvcc", "OUT=build/none", "cuda-plugin", check=False)
        assert "compute capability " + archs in out, (version, out[-500:])
    assert 'CUDA="${CUDA%%.*}"' in text


def build_stage_installs_what_it_needs():
    """Every package of deps.sh's build list is in the build stage, and every folder is copied."""
    wanted = set(re.findall(r"need_(?:program|library|file) \S+ (.*)",
                            read("tools", "deps.sh").split("if [")[0]))
    wanted = {w for line in wanted for w in line.split() if "-" in w or w in ("gcc", "make")}
    for name in ("Dockerfile", "Dockerfile.gpu"):
        text = " ".join(rest for word, rest in instructions(name) if word == "RUN")
        assert not {w for w in wanted if w not in text}, {w for w in wanted if w not in text}
        copied = [rest.split() for word, rest in instructions(name)
                  if word == "COPY" and not rest.startswith("--")]
        ignore = read(".dockerignore").split()
        for words in copied:
            for source in words[:-1]:
                assert "!" + source.rstrip("*") in ignore, "%s is ignored by .dockerignore" % source


support.main([is_small, serves_as_in_a_container, health_check_fails_without_server,
              a_missing_library_shows, gpu_image_is_small, build_arguments_are_used, build_stage_installs_what_it_needs])

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""package.py - the Debian package: clean, the same bits twice, and installed, upgraded, removed and
purged in a small Debian of its own.

debootstrap makes that Debian; build/deb/debian-HASH.tar keeps it for the next run, as long as the
package depends on the same others.
"""
import glob
import hashlib
import os
import re
import shutil
import subprocess
import tempfile

import support
from support import ROOT, run

support.need("dpkg-deb", "dpkg-shlibdeps", "make")
STATE = {}
# One time for all builds of this run, whatever is committed meanwhile.
EPOCH = run("git", "-C", ROOT, "log", "-1", "--format=%ct", check=False)[1].strip()
BUILD_ENV = dict(os.environ, SOURCE_DATE_EPOCH=EPOCH if EPOCH.isdigit() else "1700000000")


def package():
    if "deb" not in STATE:
        run("make", "-C", ROOT, "deb", timeout=900, env=BUILD_ENV)
        STATE["deb"] = glob.glob(os.path.join(ROOT, "build", "deb", "rerankd_*.deb"))[0]
    return STATE["deb"]


def contents_are_as_promised():
    _, listing = run("dpkg-deb", "--contents", package())
    modes = {}
    for line in listing.splitlines():
        mode, owner, _, _, _, name = line.split(None, 5)
        assert owner == "root/root", line
        modes[name] = mode
    for name, mode in (("./usr/bin/rerankd", "-rwxr-xr-x"),
                       ("./lib/systemd/system/rerankd.service", "-rw-r--r--"),
                       ("./etc/rerankd/rerankd.conf", "-rw-r--r--"),
                       ("./usr/share/man/man1/rerankd.1.gz", "-rw-r--r--"),
                       ("./usr/share/rerankd/models/starter/model.safetensors", "-rw-r--r--"),
                       ("./usr/share/doc/rerankd/copyright", "-rw-r--r--")):
        assert modes.get(name) == mode, "%s: %s" % (name, modes.get(name))
    _, fields = run("dpkg-deb", "--field", package())
    version = re.search(r'RR_VERSION "(.*)"', support.read("include", "rerank.h")).group(1)
    assert "Version: %s\n" % version in fields, fields
    assert "libmicrohttpd12" in fields and "libjansson4" in fields, fields


def lintian_is_content():
    if not shutil.which("lintian"):
        raise support.Missing("lintian is not installed")
    run("lintian", "--fail-on", "error,warning", "--allow-root", package())


# ---- the plugin's package ------------------------------------------------------------------------


def cuda_package():
    """Of the plugin that "make cuda" has built; building it takes a quarter of an hour."""
    if "cuda" not in STATE:
        if not os.path.exists(os.path.join(ROOT, "build", "librerank_cuda.so")):
            raise support.Missing("build/librerank_cuda.so is not built (make cuda)")
        run("make", "-C", ROOT, "deb-cuda", timeout=600, env=BUILD_ENV)
        STATE["cuda"] = glob.glob(os.path.join(ROOT, "build", "deb", "rerankd-cuda_*.deb"))[0]
    return STATE["cuda"]


def cuda_package_is_as_promised():
    deb = cuda_package()
    _, listing = run("dpkg-deb", "--contents", deb)
    files = {x.split()[-1]: x for x in listing.splitlines() if x.startswith("-")}
    assert set(files) == {"./usr/lib/rerankd/librerank_cuda.so",
                          "./usr/share/doc/rerankd-cuda/changelog.gz",
                          "./usr/share/doc/rerankd-cuda/copyright",
                          "./usr/share/doc/rerankd-cuda/examples/gpu.conf"}, files
    assert all("root/root" in x for x in files.values()), files
    _, fields = run("dpkg-deb", "--field", deb)
    version = re.search(r'RR_VERSION "(.*)"', support.read("include", "rerank.h")).group(1)
    assert "rerankd (= %s)" % version in fields and "libc6" in fields, fields
    assert "libcuda" not in fields, "the driver's library must not be a dependency: " + fields
    if shutil.which("lintian"):
        run("lintian", "--fail-on", "error,warning", "--allow-root", deb)


def no_nvcc_is_no_failure():
    with tempfile.TemporaryDirectory() as folder:
        code, out = run("make", "-C", ROOT, "deb-cuda", "NVCC=", check=False,
                        env=dict(BUILD_ENV, PLUGINS=folder, OUT=folder))
        assert "SKIP: nvcc is not installed" in out and "SKIP: no rerankd-cuda package" in out, out
        assert code and "Error 77" in out and not glob.glob(folder + "/*.deb"), (code, out)


def twice_the_same_bits():
    """From a copy of the sources in another folder, later."""
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "another-place")
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns("build", ".git"), symlinks=True)
        run("make", "-C", copy, "deb", timeout=900, env=BUILD_ENV)
        other = glob.glob(os.path.join(copy, "build", "deb", "rerankd_*.deb"))[0]
        with open(package(), "rb") as a, open(other, "rb") as b:
            assert a.read() == b.read(), "two builds differ: diffoscope %s %s" % (package(), other)


class Chroot:
    def __init__(self, folder):
        self.root = os.path.join(folder, "debian")
        depends = run("dpkg-deb", "--field", package(), "Depends")[1].strip()
        self.names = [d.split(" ")[0] for d in depends.split(", ")]
        self.tar = os.path.join(ROOT, "build", "deb", "debian-%s.tar" %
                                hashlib.sha256(depends.encode()).hexdigest()[:12])
        if os.path.exists(self.tar):
            os.mkdir(self.root)
            run("tar", "-C", self.root, "-xf", self.tar)
        else:
            self.make()
        shutil.copy("/etc/resolv.conf", os.path.join(self.root, "etc", "resolv.conf"))
        self.write("usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755)

    def make(self):
        """A small Debian with what the package needs, kept for the next time."""
        _, out = run("apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages",
                     "Release: bookworm", check=False)
        mirror = next((x for x in out.split() if "debian" in x), "http://deb.debian.org/debian")
        code, out = run("debootstrap", "--variant=minbase", "--include=" + ",".join(self.names),
                        "bookworm", self.root, mirror, check=False, timeout=480)
        if code:
            raise support.Missing("debootstrap: %s" % out[-300:])
        run("sh", "-c", "rm -rf %s/var/cache/apt/archives/*.deb %s/var/lib/apt/lists/*" %
            (self.root, self.root))
        run("tar", "-C", self.root, "-cf", self.tar + ".new", ".")
        os.rename(self.tar + ".new", self.tar)

    def path(self, name):
        return os.path.join(self.root, name.lstrip("/"))

    def write(self, name, text, mode=0o644):
        with open(self.path(name), "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(self.path(name), mode)

    def read(self, name):
        with open(self.path(name), encoding="utf-8") as f:
            return f.read()

    def run(self, *command, **options):
        return run("chroot", self.root, *command,
                   env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive",
                        "LC_ALL": "C"}, **options)[1]

    def dpkg(self, *words):
        out = self.run("dpkg", *words)
        assert "warning" not in out.lower() and "error" not in out.lower(), out
        return out


def newer(deb, folder):
    """The same package as version 99, with another line in its configuration file."""
    tree = os.path.join(folder, "newer")
    run("dpkg-deb", "--raw-extract", deb, tree)
    control = os.path.join(tree, "DEBIAN", "control")
    with open(control, encoding="utf-8") as f:
        text = re.sub(r"(?m)^Version: .*", "Version: 99", f.read())
    with open(control, "w", encoding="utf-8") as f:
        f.write(text)
    made = os.path.join(folder, "newer.deb")
    run("dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, made)
    return made


def serves(chroot, port):
    """The installed program, as the package's user, by the package's configuration."""
    serve = ["chroot", "--userspec=rerankd:rerankd", chroot.root, "/usr/bin/rerankd", "serve",
             "--drain-delay", "0"]
    log = chroot.path("/tmp/log")
    env = {"PATH": "/usr/sbin:/usr/bin", "CACHE_DIRECTORY": "/var/cache/rerankd"}
    with support.program(*serve, log=log, env=env) as p:
        def answers():
            assert p.poll() is None, open(log, encoding="utf-8").read()
            return subprocess.run(["chroot", chroot.root, "/usr/bin/rerankd", "healthcheck"],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                  check=False).returncode == 0
        support.until(answers, "the installed server")
        out = open(log, encoding="utf-8").read()
        assert "127.0.0.1:%d" % port in out, out
        assert "warn" not in out, out
    assert p.returncode == 0, p.returncode


def doctor(chroot):
    """rerankd doctor, with /proc, which tells it where it is."""
    mount = "mount -t proc proc {0}/proc && exec chroot {0} rerankd doctor".format(chroot.root)
    return run("unshare", "--mount", "sh", "-ec", mount, check=False)[1]


def life_of_an_installation():
    for program in ("debootstrap", "chroot"):
        if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin"):
            raise support.Missing(program + " is not installed")
    if os.geteuid():
        raise support.Missing("only root can chroot")
    with tempfile.TemporaryDirectory() as folder:
        chroot = Chroot(folder)
        shutil.copy(package(), chroot.path("/tmp/one.deb"))
        shutil.copy(newer(package(), folder), chroot.path("/tmp/two.deb"))
        wants = "/etc/systemd/system/multi-user.target.wants/rerankd.service"

        chroot.dpkg("--install", "/tmp/one.deb")
        assert chroot.run("rerankd", "--version").startswith("rerankd ")
        assert "rerankd" in chroot.run("getent", "passwd", "rerankd")
        assert os.path.islink(chroot.path(wants)), "the service is not enabled"
        assert chroot.run("stat", "-c", "%U %a", "/var/lib/rerankd").strip() == "rerankd 750"
        chroot.run("sh", "-c", "cd / && md5sum --quiet -c /var/lib/dpkg/info/rerankd.md5sums")

        if os.path.exists(os.path.join(ROOT, "build", "librerank_cuda.so")):
            shutil.copy(cuda_package(), chroot.path("/tmp/cuda.deb"))
            assert "'cuda' is not installed" in doctor(chroot)
            chroot.dpkg("--install", "/tmp/cuda.deb")
            said = doctor(chroot)
            assert "'cuda' is not installed" not in said, said
            print("     with rerankd-cuda:" + re.search("GPU(.*)", said).group(1))
            chroot.dpkg("--purge", "rerankd-cuda")

        port = support.free_port()
        conf = chroot.read("/etc/rerankd/rerankd.conf").replace("8002", str(port))
        chroot.write("/etc/rerankd/rerankd.conf", conf)
        serves(chroot, port)

        chroot.dpkg("--install", "/tmp/one.deb")  # over itself
        os.unlink(chroot.path(wants))  # systemctl disable
        chroot.dpkg("--install", "/tmp/two.deb")
        assert chroot.read("/etc/rerankd/rerankd.conf") == conf, "the settings were overwritten"
        assert not os.path.lexists(chroot.path(wants)), "disabled, and the upgrade enabled it"
        assert "99" in chroot.run("dpkg-query", "-W", "rerankd")
        os.symlink("/lib/systemd/system/rerankd.service", chroot.path(wants))
        serves(chroot, port)

        os.makedirs(chroot.path("/var/lib/rerankd/models/mine"))
        chroot.dpkg("--remove", "rerankd")
        assert not os.path.exists(chroot.path("/usr/bin/rerankd"))
        assert chroot.read("/etc/rerankd/rerankd.conf") == conf, "remove must leave the settings"
        chroot.dpkg("--install", "/tmp/one.deb")  # removed, and wanted again
        assert chroot.read("/etc/rerankd/rerankd.conf") == conf
        assert os.path.islink(chroot.path(wants)), "installed again, and not enabled"

        chroot.dpkg("--purge", "rerankd")
        for gone in ("/etc/rerankd", "/var/cache/rerankd", "/usr/share/rerankd", wants,
                     "/etc/systemd/system/rerankd.service",
                     "/lib/systemd/system/rerankd.service"):
            assert not os.path.lexists(chroot.path(gone)), gone + " is left after purge"
        assert os.path.isdir(chroot.path("/var/lib/rerankd/models/mine")), "purge took a model"
        chroot.dpkg("--install", "/tmp/two.deb")
        chroot.dpkg("--purge", "rerankd")


support.main([contents_are_as_promised, lintian_is_content, cuda_package_is_as_promised,
              no_nvcc_is_no_failure, life_of_an_installation, twice_the_same_bits])

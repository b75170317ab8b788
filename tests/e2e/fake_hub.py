# SPDX-License-Identifier: Apache-2.0
"""fake_hub.py - a model hub for tests: the listing, files with ranges, and whatever can go wrong.

    with FakeHub() as hub:
        hub.add("org/name", {"config.json": b"{}", ...}, lfs={"model.safetensors"})
        hub.fault = lambda request: ...      # see Request
        ... HF_ENDPOINT=hub.url ...

Files in lfs are redirected to a second server on another port, as a hub does with its storage.
"""
import hashlib
import json
import re
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def git_sha1(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Request:
    """What a fault is asked about.  It answers None, or a dict with some of: status, headers, body
    (of an error), cut (send so many bytes, then reset), stall (seconds before the body), pace
    (seconds after each 16 KiB), data (other bytes), ranges (False: not understood), etag, hang."""

    def __init__(self, kind, path, headers, number):
        self.kind, self.path, self.headers, self.number = kind, path, headers, number
        self.name = path.split("?")[0].rsplit("/", 1)[-1]


class Repo:
    def __init__(self, files, lfs, commit, gated):
        self.files, self.lfs, self.commit, self.gated = files, lfs, commit, gated
        self.sizes, self.digests = {}, {}  # lies of the listing

    def blob(self, name):
        data = self.files[name]
        return (hashlib.sha256(data).hexdigest() if name in self.lfs else git_sha1(data))

    def listing(self, repo_id):
        siblings = []
        for name, data in self.files.items():
            size = self.sizes.get(name, len(data))
            digest = self.digests.get(name, self.blob(name))
            entry = {"rfilename": name, "size": size, "blobId": git_sha1(data)}
            if name in self.lfs:
                entry["lfs"] = {"sha256": digest, "size": size, "pointerSize": 134}
            else:
                entry["blobId"] = digest
            siblings.append(entry)
        return {"id": repo_id, "modelId": repo_id, "sha": self.commit, "siblings": siblings,
                "private": False, "gated": self.gated, "disabled": False, "downloads": 0,
                "likes": 0, "tags": [], "createdAt": "2024-01-01T00:00:00.000Z"}

    def tree(self):
        result = []
        for name, data in self.files.items():
            entry = {"type": "file", "path": name, "oid": git_sha1(data), "size": len(data)}
            if name in self.lfs:
                entry["lfs"] = {"oid": self.blob(name), "size": len(data), "pointerSize": 134}
            result.append(entry)
        return result


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 0

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.answer(head=True)

    def do_GET(self):
        self.answer(head=False)

    def answer(self, head):
        hub, storage = self.server.hub, self.server.storage
        path = urllib.parse.unquote(self.path)
        kind = ("storage" if storage else "api" if path.startswith("/api/") else "file")
        with hub.lock:
            number = sum(r.kind == kind and r.path == path for r in hub.requests)
            request = Request(kind, path, dict(self.headers), number)
            hub.requests.append(request)
            hub.active += 1
            hub.most_active = max(hub.most_active, hub.active)
        try:
            fault = (hub.fault(request) if hub.fault else None) or {}
            self.respond(hub, kind, path, fault, head)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with hub.lock:
                hub.active -= 1

    def respond(self, hub, kind, path, fault, head):
        if fault.get("hang"):
            hub.closing.wait(fault["hang"])
            self.close_connection = True
        elif "status" in fault:
            self.send(fault["status"], fault.get("headers", {}), fault.get("body", b"{}"), head)
        elif kind == "api":
            self.api(hub, path, head)
        else:
            self.file(hub, kind, path, fault, head)

    def send(self, status, headers, body, head):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if not head:
            self.wfile.write(body)

    def refuse(self, status, code):
        self.send(status, {"X-Error-Code": code, "X-Error-Message": "no"}, b"{}", False)

    def api(self, hub, path, head):
        m = re.match(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^?]+))?", path)
        repo = m and hub.repos.get(m.group(1))
        if not repo:
            return self.refuse(401, "RepoNotFound")
        if repo.gated and self.headers.get("Authorization") != "Bearer " + hub.token:
            return self.refuse(403, "GatedRepo")
        if m.group(3) and m.group(3) not in hub.revisions and m.group(3) != repo.commit:
            return self.refuse(404, "RevisionNotFound")
        body = repo.tree() if m.group(2) == "tree" else repo.listing(m.group(1))
        return self.send(200, {"Content-Type": "application/json"}, json.dumps(body).encode(), head)

    def file(self, hub, kind, path, fault, head):
        m = re.match(r"/([^/]+/[^/]+)/(?:resolve|storage)/([^/]+)/([^?]+)", path)
        repo = m and hub.repos.get(m.group(1))
        if not repo or m.group(3) not in repo.files:
            return self.refuse(404, "EntryNotFound")
        name = m.group(3)
        blob = repo.digests.get(name, repo.blob(name))
        headers = {"X-Repo-Commit": repo.commit, "ETag": fault.get("etag", '"%s"' % blob)}
        if kind == "file" and name in repo.lfs:
            headers.update({"X-Linked-ETag": '"%s"' % blob,
                            "X-Linked-Size": str(len(repo.files[name])),
                            "Location": "%s/%s/storage/%s/%s" % (hub.storage_url, m.group(1),
                                                                  repo.commit, name)})
            return self.send(302, headers, b"", head)
        return self.body(fault, fault.get("data", repo.files[name]), headers, head)

    def body(self, fault, data, headers, head):
        total, status, first = len(data), 200, 0
        m = re.match(r"bytes=(\d+)-(\d*)$", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        if m and fault.get("ranges", True) and condition in (None, headers["ETag"]):
            first, last = int(m.group(1)), int(m.group(2) or total - 1)
            status, data = 206, data[first:last + 1]
            headers["Content-Range"] = "bytes %d-%d/%d" % (first, first + len(data) - 1, total)
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if head:
            return
        time.sleep(fault.get("stall", 0))
        cut = fault.get("cut", len(data))
        piece = 16384 if "pace" in fault else 1 << 20
        for at in range(0, min(cut, len(data)), piece):
            self.wfile.write(data[at:min(at + piece, cut)])
            if "pace" in fault:
                time.sleep(fault["pace"])
        if cut < len(data):
            self.close_connection = True


class FakeHub:
    def __init__(self):
        self.repos, self.requests, self.fault = {}, [], None
        self.revisions = {"main"}
        self.token = "hf_good"
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self.active = self.most_active = 0
        self.servers = [self.server(False), self.server(True)]
        self.url, self.storage_url = ("http://127.0.0.1:%d" % s.server_address[1]
                                      for s in self.servers)

    def server(self, storage):
        s = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        s.daemon_threads = True
        s.hub, s.storage = self, storage
        threading.Thread(target=s.serve_forever, args=(0.05,), daemon=True).start()
        return s

    def use_tls(self, context):
        """From now on the hub, not its storage, is reached by https."""
        s = self.servers[0]
        s.socket = context.wrap_socket(s.socket, server_side=True)
        self.url = self.url.replace("http:", "https:")

    def add(self, repo_id, files, lfs=(), commit="c" * 40, gated=False):
        self.repos[repo_id] = Repo(dict(files), set(lfs), commit, gated)
        return self.repos[repo_id]

    def asked(self, kind=None, name=None):
        with self.lock:
            return [r for r in self.requests if kind in (None, r.kind) and name in (None, r.name)]

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.closing.set()
        for s in self.servers:
            s.shutdown()
            s.server_close()

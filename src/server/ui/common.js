// SPDX-License-Identifier: Apache-2.0
// common.js - what both pages share: elements, language, colours, the key, questions to the server.
// Text that comes from outside gets into the page as text nodes only; the page's policy
// (require-trusted-types-for) makes anything else an error.

const $ = (id) => document.getElementById(id);

// The server's address without /ui: it may be served below a path by a proxy.
const ROOT = location.pathname.replace(/\/ui(\/status)?\/*$/, "") + "/";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, f] of Object.entries(value)) node.addEventListener(event, f);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((c) => c !== null && c !== undefined));
  return node;
}

// el("p", { class: "note" }, "text", node...)
function el(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

// ---- what is remembered: language and colours for long, keys as long as the tab ---------------

const unstored = new Map(); // for a browser whose storage is switched off: as long as the page

// The value, null if there is none; with a value, sets it; with null, drops it.
function remember(storage, name, value) {
  try {
    const store = window[storage];
    if (value === undefined) return store.getItem("rerankd." + name);
    if (value === null) store.removeItem("rerankd." + name);
    else store.setItem("rerankd." + name, value);
  } catch {
    if (value !== undefined) unstored.set(name, value);
  }
  return unstored.get(name) ?? null;
}

// ---- language ---------------------------------------------------------------------------------

let language = remember("localStorage", "language")
  ?? ((navigator.languages ?? [navigator.language]).find((l) => /^(fr|en)\b/i.test(l)) ?? "en")
    .slice(0, 2).toLowerCase();
if (language !== "fr") language = "en";
const onLanguage = []; // what else to write anew

function t(key, values) {
  let text = TEXTS[key][language === "fr" ? 1 : 0];
  const bar = text.indexOf("|");
  // One, and in French also nothing, is singular.
  if (bar >= 0) {
    const one = values.count === 1 || (language === "fr" && values.count === 0);
    text = one ? text.slice(bar + 1) : text.slice(0, bar);
  }
  if (language === "fr") text = text.replace(/ (?=[?!:;])/g, "\u00a0"); // never at the start of a line
  return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}

function number(value, digits) {
  return new Intl.NumberFormat(language, { maximumFractionDigits: digits ?? 0 }).format(value);
}

function percent(share) {
  return new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 0 }).format(share);
}

function bytes(n) {
  const units = language === "fr" ? ["o", "ko", "Mo", "Go"] : ["B", "KB", "MB", "GB"];
  let i = 0;
  for (; n >= 1000 && i < 3; i++) n /= 1000;
  return number(n, n < 10 && i > 0 ? 1 : 0) + " " + units[i];
}

function milliseconds(ms) {
  if (ms >= 1000) return number(ms / 1000, 2) + " s";
  return number(ms, ms < 10 ? 2 : ms < 100 ? 1 : 0) + " ms";
}

// data-i18n: "key" for the text, "attribute:key" for an attribute, several with semicolons.
function translate(root) {
  for (const node of root.querySelectorAll("[data-i18n]")) {
    for (const part of node.dataset.i18n.split(";")) {
      const [attribute, key] = part.includes(":") ? part.split(":") : [null, part];
      if (attribute) node.setAttribute(attribute, t(key));
      else node.textContent = t(key);
    }
  }
}

function setLanguage(wanted) {
  language = wanted;
  document.documentElement.lang = language;
  for (const button of document.querySelectorAll("[data-lang]"))
    button.setAttribute("aria-pressed", String(button.dataset.lang === language));
  translate(document);
  for (const f of onLanguage) f();
}

// ---- colours ----------------------------------------------------------------------------------

function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  for (const button of document.querySelectorAll("[data-set-theme]"))
    button.setAttribute("aria-pressed", String(button.dataset.setTheme === theme));
}

// ---- the server -------------------------------------------------------------------------------

class Refusal extends Error {
  constructor(status, message, retryAfter) {
    super(message);
    this.status = status; // 0: no answer at all
    this.retryAfter = retryAfter;
  }

  say() {
    if (this.status === 0) return t("error.network");
    if (this.status === 401) return t("key.unknown");
    if (this.status === 403) return t("key.not-enough");
    if (this.status === 429 || (this.status === 503 && this.retryAfter > 1))
      return t("error.busy", { n: this.retryAfter || 1 });
    if (this.status === 503) return t("error.loading") + " " + this.message;
    return t("error.other", { status: this.status, message: this.message });
  }
}

// The key goes with the page's own questions only.  It is no cookie, and the browser never adds it by
// itself, so another site's page cannot make use of it.
const keys = {
  slot: "key",
  get() { return remember("sessionStorage", this.slot) ?? remember("sessionStorage", "key"); },
  set(key) { remember("sessionStorage", this.slot, key); },
  forget() {
    for (const slot of ["key", "admin-key"]) remember("sessionStorage", slot, null);
  },
};

async function refusal(reply) {
  let message = reply.statusText;
  try {
    const body = await reply.json();
    if (typeof body.message === "string") message = body.message;
  } catch {
    // the status line has to do
  }
  return new Refusal(reply.status, message, Number(reply.headers.get("Retry-After") ?? 0));
}

// The reply of the server; any that is not a success is thrown as a Refusal.
async function ask(path, options) {
  const headers = { ...(options?.body ? { "Content-Type": "application/json" } : {}) };
  const key = options?.key ?? keys.get();
  if (key && !options?.anonymous) headers.Authorization = "Bearer " + key;
  let reply;
  try {
    reply = await fetch(ROOT + path, { cache: "no-store", redirect: "error", ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, String(error.message));
  }
  if (!reply.ok && !options?.any) throw await refusal(reply);
  return reply;
}

// Shows the form for the key; resolves once the server takes one.  probe: a path that needs it.
function needKey(probe, title) {
  const panel = $("key-panel");
  $("key-title").dataset.i18n = title;
  $("key-title").textContent = t(title);
  panel.hidden = false;
  $("nav-docs").hidden = true; // a link cannot carry the key
  $("main").classList.add("locked");
  $("key").focus();
  return new Promise((resolve) => {
    $("key-form").onsubmit = async (event) => {
      event.preventDefault();
      const key = $("key").value.trim();
      $("key-problem").hidden = true;
      try {
        await ask(probe, { key });
      } catch (error) {
        $("key-problem").textContent = error instanceof Refusal ? error.say() : String(error);
        $("key-problem").hidden = false;
        $("key").select();
        return;
      }
      keys.set(key);
      $("key").value = "";
      panel.hidden = true;
      $("main").classList.remove("locked");
      withKey();
      resolve();
    };
  });
}

function withKey() {
  $("forget").hidden = false;
  $("nav-docs").hidden = true;
}

function startCommon() {
  setTheme(remember("localStorage", "theme") ?? "auto");
  for (const button of document.querySelectorAll("[data-set-theme]")) {
    button.addEventListener("click", () => {
      setTheme(button.dataset.setTheme);
      remember("localStorage", "theme", button.dataset.setTheme);
    });
  }
  for (const button of document.querySelectorAll("[data-lang]")) {
    button.addEventListener("click", () => {
      setLanguage(button.dataset.lang);
      remember("localStorage", "language", language);
    });
  }
  for (const link of document.querySelectorAll("[data-path]")) {
    link.href = ROOT + link.dataset.path;
    if (new URL(link.href).pathname === location.pathname.replace(/\/+$/, ""))
      link.setAttribute("aria-current", "page");
  }
  $("forget").addEventListener("click", () => {
    keys.forget();
    location.reload();
  });
  if (keys.get()) withKey();
  setLanguage(language);
}

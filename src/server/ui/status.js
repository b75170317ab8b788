// SPDX-License-Identifier: Apache-2.0
// status.js - asks /ready and /metrics every few seconds and draws what they say.

const PERIOD = 2;  // seconds between two questions
const ROOM = 150;  // samples in a chart at most: five minutes
const START = 30;  // and while there are fewer: one minute
const WINDOW = 5;  // rates are over so many periods: single requests make no spikes

const readings = []; // {time, families}, the last WINDOW + 1
const samples = [];  // what the charts show, the last ROOM
let state = { kind: "unknown", word: "" };
let paused = false;
let closed = false; // /metrics is not answered here
let locked = false; // a key is being asked for; /ready needs none and goes on

const rate = (n) => t("unit.per-second", { n: number(n, n < 10 ? 1 : 0) });
const seconds = (s) => milliseconds(s * 1000);
const count = (n) => number(n, n < 10 ? 1 : 0);
const either = (value, say) => (value === null ? "–" : say(value));

const SPECS = [
  { title: "chart.rate", least: 1, now: (s) => rate(s.ok + s.failed), series: [
    { key: "ok", name: () => t("chart.rate.ok"), say: rate },
    { key: "failed", name: () => t("chart.rate.error"), say: rate, colour: 4 }] },
  { title: "chart.latency", least: 0.001, now: (s) => either(s.p50, seconds), series: [
    { key: "p50", name: () => "p50", say: seconds },
    { key: "p95", name: () => "p95", say: seconds },
    { key: "p99", name: () => "p99", say: seconds }] },
  { title: "chart.queue", least: 1, now: (s) => count(s.queueTokens), series: [
    { key: "queueTokens", name: () => t("chart.queue.tokens"), say: count }], extra: [
    { key: "queueLimit", name: () => t("chart.queue.limit"), say: count },
    { key: "queueRequests", name: () => t("chart.queue.requests"), say: count }] },
  { title: "chart.batch", least: 1, now: (s) => either(s.batchTokens, count), series: [
    { key: "batchTokens", name: () => t("chart.batch.tokens"), say: count }], extra: [
    { key: "batchPairs", name: () => t("chart.batch.pairs"), say: count }] },
  { title: "chart.busy", top: () => 1, now: (s) => percent(s.busy), series: [
    { key: "busy", name: () => t("chart.busy.device"), say: percent }] },
  { title: "chart.tokens", least: 10, now: (s) => rate(s.tokens), series: [
    { key: "tokens", name: () => t("chart.tokens.rate"), say: rate }] },
  { title: "chart.cache", top: () => 1, now: (s) => either(s.hits, percent), series: [
    { key: "hits", name: () => t("chart.cache.hits"), say: percent }], extra: [
    { key: "entries", name: () => t("chart.cache.entries"), say: count }] },
  { title: "chart.memory", least: 1e6, now: (s) => bytes(s.memory), series: [
    { key: "memory", name: () => t("chart.memory.resident"), say: bytes }] },
];
const charts = SPECS.map((spec) => new Chart(spec));

// ---- from readings to a sample ----------------------------------------------------------------

function sampleOf(old, now) {
  const a = old.families, b = now.families, took = (now.time - old.time) / 1000;
  const up = (name, labels) => increase(a, b, name, labels);
  const ratio = (x, y) => (y > 0 ? x / y : null);
  const done = "rerank_request_duration_seconds";
  const [p50, p95, p99] = quantiles(a, b, done, { status: "ok" }, [0.5, 0.95, 0.99]);
  const ok = up(done + "_count", { status: "ok" }), batches = up("rerank_batches_total");
  const hit = up("rerank_cache_requests_total", { result: "hit" });
  return {
    ok: ok / took,
    failed: Math.max(up(done + "_count", { status: "error" }), up("rerank_requests_rejected_total")) / took,
    p50, p95, p99,
    queueTokens: total(b, "rerank_queue_tokens"),
    queueRequests: total(b, "rerank_queue_requests"),
    queueLimit: total(b, "rerank_queue_tokens_limit"),
    batchTokens: ratio(up("rerank_tokens_total", { kind: "real" }), batches),
    batchPairs: ratio(up("rerank_documents_total", { source: "model" }), batches),
    busy: Math.min(1, up("rerank_worker_busy_seconds_total") / took),
    tokens: up("rerank_tokens_total", { kind: "real" }) / took,
    hits: ratio(hit, hit + up("rerank_cache_requests_total", { result: "miss" })),
    entries: total(b, "rerank_cache_entries"),
    memory: total(b, "process_resident_memory_bytes"),
  };
}

// ---- showing ----------------------------------------------------------------------------------

function duration(s) {
  const d = Math.floor(s / 86400), h = Math.floor(s / 3600) % 24, m = Math.floor(s / 60) % 60;
  const unit = (n, name) => new Intl.NumberFormat(language, { style: "unit", unit: name, unitDisplay: "narrow" }).format(n);
  if (d) return unit(d, "day") + " " + unit(h, "hour");
  if (h) return unit(h, "hour") + " " + unit(m, "minute");
  return m ? unit(m, "minute") : unit(Math.floor(s), "second");
}

function stateText() {
  if (state.kind === "ready") return t("status.ready");
  if (state.kind === "degraded")
    return t("status.degraded", { what: state.what.map((w) => (TEXTS["status." + w] ? t("status." + w) : w)).join(", ") });
  if (state.kind === "bad") return t("status.not-ready", { word: state.word });
  return t(state.kind === "gone" ? "status.gone" : "status.asking");
}

function showState() {
  $("state").dataset.state = state.kind === "gone" ? "bad" : state.kind;
  // A live region: written only when it changes, so that it is not read out every two seconds.
  if ($("state-text").textContent !== stateText()) $("state-text").textContent = stateText();
  $("age").textContent = paused ? t("status.paused") : t("status.age", { n: PERIOD });
}

// What is served, from the labels of the info metrics; of several models each one.
function facts(reading) {
  const { families, time } = reading;
  const labels = (name) => (families[name] ?? []).map((s) => s.labels);
  const unique = (list) => [...new Set(list)].join(", ");
  const device = (d) => [d.device, d.name, d.isa].filter(Boolean).join(" · ");
  const model = (m) => [m.model, m.dtype && `(${m.dtype})`].filter(Boolean).join(" ");
  const started = total(families, "process_start_time_seconds");
  return [
    ["fact.model", unique(labels("rerank_model_info").map(model))],
    ["fact.device", unique(labels("rerank_device_info").map(device))],
    ["fact.version", unique(labels("rerank_build_info").map((b) => b.version))],
    ["fact.uptime", started ? duration(Math.max(0, time / 1000 - started)) : ""],
    ["fact.connections", number(total(families, "rerank_http_connections"))],
  ].filter(([, value]) => value);
}

function show() {
  showState();
  const reading = readings.at(-1), latest = samples.at(-1);
  for (const chart of charts) chart.show(samples, Math.max(START, samples.length));
  $("charts").hidden = closed;
  if (!reading) return;
  $("facts").replaceChildren(...facts(reading).map(([key, value]) =>
    el("div", {}, el("dt", {}, t(key)), el("dd", {}, value))));
  if (!latest) return;
  $("values").replaceChildren(...charts.flatMap((chart) => chart.words(latest).map(([name, value]) =>
    el("tr", {}, el("th", { scope: "row" }, `${t(chart.spec.title)}: ${name}`), el("td", {}, value)))));
}

// ---- asking -----------------------------------------------------------------------------------

async function askReady() {
  const reply = await ask("ready", { anonymous: true, any: true });
  const body = await reply.json().catch(() => ({}));
  if (!reply.ok) return { kind: "bad", word: body.why ?? body.status ?? String(reply.status) };
  return body.degraded?.length ? { kind: "degraded", what: body.degraded } : { kind: "ready" };
}

async function askMetrics() {
  const reply = await ask("metrics");
  readings.push({ time: Date.now(), families: parseMetrics(await reply.text()) });
  if (readings.length > WINDOW + 1) readings.shift();
  if (readings.length < 2) return;
  samples.push(sampleOf(readings[0], readings.at(-1)));
  if (samples.length > ROOM) samples.shift();
}

// A refused key is asked for again; that /metrics is elsewhere is said once.
function trouble(error) {
  if (!(error instanceof Refusal)) throw error;
  if (error.status === 401 || error.status === 403) {
    const title = error.status === 401 && !keys.get() ? "key.title" : "key.title.admin";
    remember("sessionStorage", keys.slot, null);
    locked = true;
    needKey("metrics", title).then(() => { locked = false; });
  } else if (error.status === 404) {
    closed = true;
    $("problem").textContent = t("status.closed");
    $("problem").hidden = false;
  } else if (error.status === 0) state = { kind: "gone" };
}

async function round() {
  try {
    state = await askReady();
    showState();
    if (!closed && !locked) await askMetrics();
  } catch (error) {
    trouble(error);
  }
  show();
}

async function loop() {
  for (;;) {
    if (!paused && !document.hidden) await round();
    await new Promise((resolve) => { setTimeout(resolve, PERIOD * 1000); });
  }
}

keys.slot = "admin-key"; // the admin's key opens everything; without one, the API key does
$("charts").append(...charts.map((chart) => chart.node));
onLanguage.push(() => {
  document.title = t("status.page");
  if (closed) $("problem").textContent = t("status.closed");
  show();
});
startCommon();
$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  showState();
});
loop();

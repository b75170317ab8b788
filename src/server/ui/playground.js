// SPDX-License-Identifier: Apache-2.0
// playground.js - asks the server for an order and shows it.

const server = { models: [], info: null }; // what /v1/models and /info say
let last = null;                           // the last answer: {passages, sides, body}
let opened = null;                         // the file whose column can be chosen
let running = null;                        // AbortController of the request in flight
let codeForm = "curl";

// ---- what is asked ----------------------------------------------------------------------------

function problem(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

// The passages of the field; null when it is not what the chosen separation expects.
function passagesNow() {
  try {
    return splitPassages($("passages").value, $("split").value);
  } catch (error) {
    if (!(error instanceof BadLine)) throw error;
    problem(t("ask.bad.line", { n: error.line }));
    return null;
  }
}

function showCount() {
  problem("");
  const n = passagesNow()?.length ?? 0, limit = server.info?.limits?.documents;
  const over = limit && n > limit;
  $("count").textContent = n ? t(over ? "ask.count.limit" : "ask.count",
    { n: number(n), count: n, limit: number(limit ?? 0) }) : "";
}

function setPassages(passages) {
  const { text, mode } = joinPassages(passages);
  $("split").value = mode;
  $("passages").value = text;
  showCount();
}

function tryExample() {
  const example = EXAMPLES[language];
  $("query").value = example.query;
  setPassages(example.passages);
  closeFile();
  $("rank").focus();
}

// ---- files ------------------------------------------------------------------------------------

function fileNote(key, values) {
  $("file-note").textContent = t(key, values);
  $("file-note").hidden = false;
}

function closeFile() {
  opened = null;
  $("column-row").hidden = true;
  $("file-note").hidden = true;
}

function showFile(name, parsed) {
  const passages = parsed.records ? pick(parsed, $("column").value) : parsed.passages;
  if (!passages.length) return fileNote("file.empty", { name });
  if (parsed.query) $("query").value = parsed.query;
  setPassages(passages);
  const several = parsed.lists > 1;
  fileNote(several ? "file.lists" : "file.read",
    { name, n: number(passages.length), count: passages.length, lists: parsed.lists });
}

async function readFile(file) {
  closeFile();
  if (file.size > FILE_LIMIT)
    return fileNote("file.large", { name: file.name, size: bytes(file.size), limit: bytes(FILE_LIMIT) });
  let parsed;
  try {
    parsed = parseFile(file.name, await file.text());
  } catch (error) {
    if (!(error instanceof BadLine)) throw error;
    return fileNote("file.bad", { name: file.name, line: error.line });
  }
  if (parsed.columns) {
    opened = { name: file.name, parsed };
    $("column").replaceChildren(...parsed.columns.map((c) => el("option", { value: c }, c)));
    $("column").value = parsed.column;
    $("column-row").hidden = parsed.columns.length < 2;
  }
  showFile(file.name, parsed);
}

function startFiles() {
  const drop = $("drop");
  $("open").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => {
    if ($("file").files[0]) readFile($("file").files[0]);
    $("file").value = ""; // so that the same file can be opened again
  });
  $("column").addEventListener("change", () => showFile(opened.name, opened.parsed));
  const hasFile = (event) => event.dataTransfer?.types.includes("Files");
  // Anywhere on the page: a file that misses the field must not replace the page.
  document.addEventListener("dragover", (event) => {
    if (!hasFile(event)) return;
    event.preventDefault();
    drop.dataset.hint = t("ask.drop.now");
    drop.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) drop.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    if (!hasFile(event)) return;
    event.preventDefault();
    drop.classList.remove("over");
    if (event.dataTransfer.files[0]) readFile(event.dataTransfer.files[0]);
  });
}

// ---- models -----------------------------------------------------------------------------------

function modelLabel(model) {
  const detail = model.dtype ?? model.precision;
  return detail ? `${model.id} (${detail})` : model.id;
}

// What the chosen model can be compared with: the others, and itself in the exact precision.  /info is
// about the default model, the first of the list.
function showModels() {
  const chosen = $("model").value || server.models[0]?.id, against = $("compare").value;
  const { dtype, rescore_dtype: exact } = server.info ?? {};
  const options = server.models.filter((m) => m.id !== chosen)
    .map((m) => el("option", { value: "model:" + m.id }, modelLabel(m)));
  if (exact && exact !== dtype && chosen === server.models[0]?.id)
    options.push(el("option", { value: "exact" }, t("ask.compare.exact", { dtype: exact })));
  $("model").replaceChildren(...server.models.map((m) => el("option", { value: m.id }, modelLabel(m))));
  $("model").value = chosen ?? "";
  $("compare").replaceChildren(el("option", { value: "" }, t("ask.compare.none")), ...options);
  if ([...$("compare").options].some((o) => o.value === against)) $("compare").value = against;
  else $("compare").value = "";
  $("compare-box").hidden = !options.length;
  if (server.info?.max_length) {
    $("max-length").max = server.info.max_length;
    $("max-length").placeholder = String(server.info.max_length);
  }
}

async function loadModels() {
  let complaint = "";
  try {
    server.models = (await (await ask("v1/models")).json()).data ?? [];
    server.info = await (await ask("info")).json();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    if (error.status === 401 || error.status === 403) {
      keys.forget();
      await needKey("v1/models", "key.title");
      return loadModels();
    }
    if (error.status !== 503) complaint = error.say(); // loading: the requests will say so
  }
  showModels();
  showCount();
  if (complaint) problem(complaint);
}

// ---- asking -----------------------------------------------------------------------------------

function question(model, exact) {
  const body = { query: $("query").value.trim(), documents: passagesNow() };
  if (server.models.length > 1) body.model = model;
  if ($("max-length").value) body.max_length = Number($("max-length").value);
  if (exact) body.exact_top_k = body.documents.length;
  return body;
}

// /v2/rerank has one form, whatever --dialect says.
async function rankBy(body) {
  const started = performance.now();
  const reply = await ask("v2/rerank", {
    method: "POST",
    body: JSON.stringify({ ...body, no_cache: $("no-cache").checked, explain: true, return_logits: true }),
    signal: running.signal,
  });
  const answer = await reply.json();
  return {
    model: answer.model,
    exact: "exact_top_k" in body,
    ms: performance.now() - started,
    explain: answer.explain,
    places: answer.results.map((r) => ({ index: r.index, score: r.relevance_score, logit: r.logit,
      tokens: r.explain?.tokens, full: r.explain?.full_tokens })),
  };
}

function missing() {
  if (!$("query").value.trim()) return ["query", t("ask.needs.query")];
  const passages = passagesNow();
  if (!passages) return ["passages", $("problem").textContent];
  return passages.length ? null : ["passages", t("ask.needs.passages")];
}

// One after the other, so that neither takes the other's time.
async function askAll() {
  const against = $("compare").value, model = $("model").value;
  const body = question(model, false), sides = [await rankBy(body)];
  if (against === "exact") sides.push(await rankBy(question(model, true)));
  else if (against) sides.push(await rankBy(question(against.slice("model:".length), false)));
  last = { passages: body.documents, sides, body };
}

function setRunning(controller) {
  running = controller;
  $("rank").dataset.i18n = running ? "ask.stop" : "ask.rank";
  $("rank").textContent = t($("rank").dataset.i18n);
  $("result").setAttribute("aria-busy", String(!!running));
}

async function rank() {
  problem("");
  const lacks = missing();
  if (lacks) {
    $(lacks[0]).focus();
    return problem(lacks[1]);
  }
  setRunning(new AbortController());
  try {
    await askAll();
    showAnswer();
    announce();
    // What a model is like can be told once it is loaded, and some are when they are first asked.
    if (!server.info || server.models.some((m) => m.state && !m.dtype)) loadModels();
  } catch (error) {
    if (error instanceof Refusal && error.status === 401) {
      keys.forget();
      await needKey("v1/models", "key.title");
    } else if (error instanceof Refusal) problem(error.say());
    else if (error.name !== "AbortError") throw error;
  } finally {
    setRunning(null);
  }
}

// ---- the answer -------------------------------------------------------------------------------

function announce() {
  const side = last.sides[0], n = last.passages.length;
  $("announce").textContent = side.places.length ? t("result.announce",
    { n, ms: milliseconds(side.ms), first: side.places[0].index + 1, count: n }) : "";
  const box = $("result").getBoundingClientRect();
  if (box.top > innerHeight * 0.7) $("result").scrollIntoView();
}

const STAGES = ["parse", "tokenize", "queue", "compute"];

function timeLine(side, titled) {
  const parts = STAGES.map((stage) => [stage, side.explain.ms[stage] ?? 0]);
  parts.push(["network", Math.max(0, side.ms - parts.reduce((sum, [, ms]) => sum + ms, 0))]);
  const stack = el("div", { class: "stack", "aria-hidden": "true" }, ...parts.map(([stage, ms]) => {
    const bar = el("i", { class: stage });
    bar.style.width = (100 * ms / side.ms).toFixed(2) + "%";
    return bar;
  }));
  const legend = el("div", { class: "legend num" }, ...parts.map(([stage, ms]) =>
    el("span", {}, el("i", { class: stage, "aria-hidden": "true" }), t("times." + stage) + " ",
      el("b", {}, milliseconds(ms)))));
  const e = side.explain, computed = e.ms.compute > 0 && e.cached < e.documents;
  const facts = [["tokens", e.tokens], ["cut", e.truncated], ["cached", e.cached], ["duplicates", e.duplicates]]
    .filter(([name, n]) => n > 0 || name === "tokens").map(([name, n]) => [name, number(n)]);
  if (computed && !e.cached) facts.push(["rate", number(e.tokens / e.ms.compute * 1000)]);
  return el("div", { class: "time" }, titled ? el("h3", { class: "small soft" }, side.label) : null,
    stack, legend, el("div", { class: "facts num" }, ...facts.map(([name, n]) =>
      el("span", {}, el("b", {}, n), " " + t("times." + name)))));
}

function showCode() {
  const url = location.origin + ROOT + "v2/rerank", key = !!keys.get();
  $("snippet").textContent = (codeForm === "curl" ? curlSnippet : pythonSnippet)(url, last.body, key);
  $("code-key").hidden = !key;
  for (const button of document.querySelectorAll("[data-code]"))
    button.setAttribute("aria-pressed", String(button.dataset.code === codeForm));
}

// Of two sides that are compared: model and, as far as it is known, precision.
function sideName({ model, exact }) {
  const known = server.models.find((m) => m.id === model);
  const dtype = exact ? server.info.rescore_dtype
    : known?.dtype ?? (server.models.length === 1 ? server.info?.dtype : null);
  return [model, dtype].filter(Boolean).join(" · ");
}

function showAnswer() {
  const { passages, sides } = last, n = passages.length;
  for (const side of sides) side.label = sides.length > 1 ? sideName(side) : t("result.after", { model: side.model });
  let sum = t("result.sum", { n: number(n), count: n, ms: sides.map((s) => milliseconds(s.ms)).join(" / ") });
  if (sides.length > 1) {
    const same = agreement(sides[0].places, sides[1].places);
    sum += " · " + t("result.agree", { same: same.same, k: same.k, percent: percent(same.share) });
  }
  $("result-sum").textContent = sum;
  $("empty").hidden = true;
  for (const id of ["result", "code"]) $(id).hidden = false;
  renderOrders($("orders"), passages, sides);
  const timed = sides.filter((s) => s.explain?.ms);
  $("times").hidden = !timed.length;
  $("times-body").replaceChildren(...timed.map((s) => timeLine(s, sides.length > 1)));
  showCode();
}

// The clipboard is closed to pages without TLS; there the old way still works.
async function copyCode() {
  const text = $("snippet").textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    getSelection().selectAllChildren($("snippet"));
    document.execCommand("copy");
  }
  $("copy").textContent = t("code.copied");
  $("announce").textContent = t("code.copied");
  setTimeout(() => { $("copy").textContent = t("code.copy"); }, 2000);
}

// ---- start ------------------------------------------------------------------------------------

onLanguage.push(() => {
  document.title = t("playground.page");
  showModels();
  showCount();
  if (last) showAnswer();
});
startCommon();
startFiles();
highlight($("orders"));
$("ask").noValidate = true; // the page's own words, in its own language
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) running.abort();
  else rank();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !running) rank();
  if (event.key === "Escape" && running) running.abort();
});
$("example").addEventListener("click", tryExample);
$("passages").addEventListener("input", () => { closeFile(); showCount(); });
$("split").addEventListener("change", showCount);
$("model").addEventListener("change", showModels);
for (const button of document.querySelectorAll("[data-code]")) {
  button.addEventListener("click", () => { codeForm = button.dataset.code; showCode(); });
}
$("copy").addEventListener("click", copyCode);
loadModels();

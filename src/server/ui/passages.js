// SPDX-License-Identifier: Apache-2.0
// passages.js - from a text or a file to a list of passages, and back.

const FILE_LIMIT = 32e6; // bytes; more than any server's default takes, and quick to read
const TEXT_KEYS = ["text", "content", "passage", "document", "body", "chunk", "texte", "contenu"];
const LIST_KEYS = ["documents", "passages", "texts", "candidates"];

class BadLine extends Error {
  constructor(line) {
    super("line " + line);
    this.line = line;
  }
}

function jsonLines(text) {
  const values = [];
  text.split(/\r?\n/).forEach((line, i) => {
    if (!line.trim()) return;
    try {
      values.push(JSON.parse(line));
    } catch {
      throw new BadLine(i + 1);
    }
  });
  return values;
}

// RFC 4180: fields between quotes may hold separators, line ends and doubled quotes.
function csvRows(text, separator) {
  const rows = [];
  let row = [], field = "", quoted = false;
  const endField = () => { row.push(field); field = ""; };
  const endRow = () => {
    endField();
    if (row.length > 1 || row[0] !== "") rows.push(row);
    row = [];
  };
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (quoted) {
      if (c !== '"') field += c;
      else if (text[i + 1] === '"') { field += '"'; i++; }
      else quoted = false;
    } else if (c === '"' && field === "") quoted = true;
    else if (c === separator) endField();
    else if (c === "\n") endRow();
    else if (c !== "\r" || text[i + 1] !== "\n") field += c;
  }
  if (field !== "" || row.length) endRow();
  return rows;
}

// The separator that the first line has most of.
function separatorOf(text) {
  const line = text.slice(0, text.search(/\n|$/)).replace(/"[^"]*"/g, "");
  const count = (s) => line.split(s).length - 1;
  return ["\t", ";", ","].reduce((best, s) => (count(s) > count(best) ? s : best), ",");
}

// A column whose name says text, else the one with the longest texts.
function textColumn(columns, records) {
  const named = TEXT_KEYS.map((k) => columns.find((c) => c.toLowerCase() === k)).find(Boolean);
  if (named) return named;
  const length = (c) => records.slice(0, 200).reduce((sum, r) => sum + String(r[c] ?? "").length, 0);
  return columns.reduce((best, c) => (length(c) > length(best) ? c : best), columns[0]);
}

// Records with named fields: which fields there are, and which of them is the text.
function fromRecords(records) {
  const columns = [...new Set(records.flatMap((r) => Object.keys(r)))]
    .filter((c) => records.some((r) => typeof r[c] === "string"));
  if (!columns.length) return { passages: [] };
  return { records, columns, column: textColumn(columns, records) };
}

function pick(parsed, column) {
  return parsed.records.map((r) => r[column]).filter((x) => typeof x === "string" && x.trim());
}

function textOf(value) {
  if (typeof value === "string") return value;
  if (value === null || typeof value !== "object") return null;
  return TEXT_KEYS.map((k) => value[k]).find((x) => typeof x === "string") ?? null;
}

const isRecord = (x) => x !== null && typeof x === "object" && !Array.isArray(x);

// Values of JSON: lists with a query (the forms of rerank requests), texts, or records.
function fromValues(values) {
  const key = isRecord(values[0]) && LIST_KEYS.find((k) => Array.isArray(values[0][k]));
  if (key) {
    const first = values[0];
    const query = typeof first.query === "string" ? first.query : textOf(first.query) ?? undefined;
    return { query, lists: values.length, passages: first[key].map(textOf).filter(Boolean) };
  }
  if (values.length && values.every(isRecord)) return fromRecords(values);
  return { passages: values.map(textOf).filter((x) => x !== null && x.trim()) };
}

function fromCsv(text, separator) {
  const rows = csvRows(text, separator);
  const names = rows[0] ?? [];
  const titled = names.length > 1 || TEXT_KEYS.includes((names[0] ?? "").trim().toLowerCase());
  if (!titled) return { passages: rows.map((r) => r[0]).filter((x) => x.trim()) };
  const columns = names.map((c, i) => c.trim() || String(i + 1));
  const records = rows.slice(1).map((r) => Object.fromEntries(columns.map((c, i) => [c, r[i] ?? ""])));
  return fromRecords(records);
}

// {passages, query?, lists?} or, where a column has to be chosen, {records, columns, column}.
function parseFile(name, text) {
  const kind = name.toLowerCase().replace(/^.*\./, "");
  text = text.replace(/^\uFEFF/, "");
  if (kind === "csv" || kind === "tsv") return fromCsv(text, kind === "tsv" ? "\t" : separatorOf(text));
  if (kind === "json") {
    try {
      const value = JSON.parse(text);
      return fromValues(Array.isArray(value) ? value : [value]);
    } catch {
      return fromValues(jsonLines(text)); // many files of this name hold lines
    }
  }
  if (kind === "jsonl" || kind === "ndjson") return fromValues(jsonLines(text));
  return { passages: splitPassages(text, /\n[ \t]*\r?\n/.test(text.trim()) ? "blank" : "lines") };
}

// mode: "lines", "blank" (a blank line between) or "json" (a string or an object a line).
function splitPassages(text, mode) {
  if (mode === "json")
    return jsonLines(text).map((value, i) => {
      const found = textOf(value);
      if (found === null) throw new BadLine(i + 1);
      return found;
    });
  const parts = mode === "lines" ? text.split(/\r?\n/) : text.split(/\r?\n(?:[ \t]*\r?\n)+/);
  return parts.map((p) => p.trim()).filter(Boolean);
}

// The passages as a text that splits into the same ones, in the plainest mode that can.
function joinPassages(passages) {
  for (const [mode, glue] of [["lines", "\n"], ["blank", "\n\n"]]) {
    const text = passages.join(glue), back = splitPassages(text, mode);
    if (back.length === passages.length && back.every((p, i) => p === passages[i])) return { text, mode };
  }
  return { text: passages.map((p) => JSON.stringify(p)).join("\n"), mode: "json" };
}

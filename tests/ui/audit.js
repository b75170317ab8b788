// SPDX-License-Identifier: Apache-2.0
// audit.js - what is wrong with a page for those who cannot see it well, or use no mouse.  A function's
// body for the browser; returns a list of sentences.

const found = [];
const shown = (node) => node.checkVisibility({ visibilityProperty: true, opacityProperty: true });
const name = (node) => `${node.tagName.toLowerCase()}${node.id ? "#" + node.id : ""}` +
  `${node.className && typeof node.className === "string" ? "." + node.className : ""}` +
  ` "${node.textContent.trim().slice(0, 30)}"`;

// ---- contrast: of text with what is behind it, and of the outlines of controls -------------------

const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });

// [red, green, blue, alpha], alpha from 0 to 1, of any colour that CSS can write.
function rgba(colour) {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
  return [r, g, b, a / 255];
}

const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);

function behind(node) {
  const layers = [];
  for (let n = node; n; n = n.parentElement) {
    const colour = rgba(getComputedStyle(n).backgroundColor);
    if (colour[3]) layers.push(colour);
    if (colour[3] === 1) break;
  }
  return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
}

function luminance([r, g, b]) {
  const [x, y, z] = [r, g, b].map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
}

function contrast(a, b) {
  const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (high + 0.05) / (low + 0.05);
}

function demand(node, colour, least, what, background) {
  const has = contrast(over(rgba(colour), background), background);
  if (has < least) found.push(`${what} of ${name(node)} has a contrast of ${has.toFixed(2)}, at least ${least}`);
}

for (const node of document.body.querySelectorAll("*")) {
  if (!shown(node) || node.closest("svg") || node.closest("[disabled]")) continue;
  const style = getComputedStyle(node);
  const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
  if ([...node.childNodes].some((c) => c.nodeType === Node.TEXT_NODE && c.data.trim()))
    demand(node, style.color, large ? 3 : 4.5, "text", behind(node));
  if (node.placeholder && !node.value)
    demand(node, getComputedStyle(node, "::placeholder").color, 4.5, "placeholder", behind(node));
  if (node.matches("textarea, select, input:not([type=checkbox]):not([type=file])"))
    demand(node, style.borderTopColor, 3, "border", behind(node.parentElement));
}
for (const node of document.querySelectorAll(".meter i, .stack i, .legend i, .pill .dot"))
  if (shown(node)) demand(node, getComputedStyle(node).backgroundColor, 3, "mark", behind(node.closest(".card")));
for (const node of document.querySelectorAll("svg .series, svg.links path"))
  if (shown(node) && Number(getComputedStyle(node).opacity) === 1)
    demand(node, getComputedStyle(node).stroke, 3, "line", behind(node.closest(".card")));

// ---- names, roles, order -----------------------------------------------------------------------

const label = (node) => (node.getAttribute("aria-label") ?? "").trim()
  || (node.getAttribute("aria-labelledby") ?? "").split(" ").map((id) => document.getElementById(id)?.textContent ?? "").join(" ").trim()
  || [...(node.labels ?? [])].map((l) => l.textContent).join(" ").trim()
  || (node.matches("button, a, summary") ? node.textContent.trim() : "");

for (const node of document.querySelectorAll("button, a, input, select, textarea, summary, [tabindex='0'], [role=img]")) {
  if (!shown(node)) continue;
  if (!label(node)) found.push(`${name(node)} has no name`);
  const box = node.getBoundingClientRect();
  if (node.matches("button, a, select") && (box.width < 24 || box.height < 24))
    found.push(`${name(node)} is ${box.width.toFixed()} by ${box.height.toFixed()} pixels, at least 24`);
}
for (const node of document.querySelectorAll("[aria-labelledby], [aria-describedby], label[for]")) {
  for (const attribute of ["aria-labelledby", "aria-describedby", "for"])
    for (const id of (node.getAttribute(attribute) ?? "").split(" ").filter(Boolean))
      if (!document.getElementById(id)) found.push(`${attribute} of ${name(node)}: there is no "${id}"`);
}
for (const node of document.querySelectorAll("svg"))
  if (shown(node) && !node.closest("[aria-hidden=true]") && node.getAttribute("role") !== "img")
    found.push(`${name(node)}: a drawing is hidden from screen readers or has a role`);
for (const node of document.querySelectorAll("[tabindex]"))
  if (node.tabIndex > 0) found.push(`${name(node)} has an order of its own`);

const ids = [...document.querySelectorAll("[id]")].map((n) => n.id);
for (const id of new Set(ids)) if (ids.filter((x) => x === id).length > 1) found.push(`id "${id}" twice`);
if (!/^(en|fr)$/.test(document.documentElement.lang)) found.push("the page has no language");
if (!document.title) found.push("the page has no title");
if (document.querySelectorAll("main").length !== 1) found.push("there is not one main part");
if (document.querySelectorAll("h1").length !== 1) found.push("there is not one h1");
let level = 1;
for (const heading of document.querySelectorAll("h1, h2, h3, h4")) {
  if (!shown(heading) && !heading.matches(".visually-hidden")) continue;
  const its = Number(heading.tagName[1]);
  if (its > level + 1) found.push(`${name(heading)} skips a level`);
  level = its;
}
if (document.documentElement.scrollWidth > innerWidth)
  found.push(`the page is ${document.documentElement.scrollWidth} pixels wide, the window ${innerWidth}`);
return found;

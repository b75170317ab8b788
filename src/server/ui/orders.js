// SPDX-License-Identifier: Apache-2.0
// orders.js - two orders of the same passages side by side, with a line from each place to the other.
//
// A side is {label, places: [{index, score?, logit?, tokens?, full?}]}, best first; index is the
// passage's place in the input.

const SHOWN = 100; // places of each side until all are asked for

function originalSide(n) {
  return { label: t("result.before"), plain: true, places: Array.from({ length: n }, (_, index) => ({ index })) };
}

// Shares of the meter: scores themselves where they are probabilities, else from worst to best.
function shares(places) {
  const scores = places.map((p) => p.score);
  const low = Math.min(...scores), high = Math.max(...scores);
  if (low >= 0 && high <= 1) return scores;
  return scores.map((s) => (high > low ? (s - low) / (high - low) : 1));
}

function scoreText(score) {
  if (score > 0 && score < 0.00005) return "< " + number(0.0001, 4);
  return new Intl.NumberFormat(language, { minimumFractionDigits: 4, maximumFractionDigits: 4 }).format(score);
}

function moveBadge(index, rank) {
  const by = index - rank;
  const [kind, mark] = by > 0 ? ["up", "▲"] : by < 0 ? ["down", "▼"] : ["same", "="];
  return el("span", { class: "badge " + kind },
    el("span", { "aria-hidden": "true" }, by ? mark + " " + Math.abs(by) : mark),
    el("span", { class: "visually-hidden" }, t("item." + kind, { n: Math.abs(by) })));
}

function metaLine(place, rank) {
  const cut = (place.full ?? 0) - (place.tokens ?? 0);
  return el("div", { class: "meta num" },
    moveBadge(place.index, rank),
    el("span", {}, t("item.was", { n: place.index + 1 })),
    place.tokens ? el("span", {}, t("item.tokens", { n: number(place.tokens) })) : null,
    cut > 0 ? el("span", { class: "badge cut" },
      t("item.cut", { cut: number(cut), full: number(place.full) })) : null,
    place.logit === undefined ? null : el("span", {}, t("item.logit", { logit: number(place.logit, 2) })));
}

function scoreLine(place, share) {
  const bar = el("i");
  bar.style.width = (100 * share).toFixed(2) + "%";
  return el("div", { class: "score" },
    el("span", { class: "meter", "aria-hidden": "true" }, bar),
    el("span", { class: "value", title: String(place.score) },
      el("span", { class: "visually-hidden" }, t("item.score", { score: "" })), scoreText(place.score)));
}

function moreButton(item, n) {
  const button = el("button", { type: "button", class: "more", "aria-expanded": "false", hidden: true,
    "aria-label": t("item.more.label", { n }) }, t("item.more"));
  button.addEventListener("click", () => {
    const open = item.classList.toggle("open");
    button.setAttribute("aria-expanded", String(open));
    button.textContent = t(open ? "item.less" : "item.more");
  });
  return button;
}

function orderItem(place, rank, text, share) {
  const item = el("li", { class: share === null ? "item" : "item scored", "data-index": place.index });
  const body = el("div", {});
  if (share !== null) body.append(scoreLine(place, share));
  body.append(el("p", { class: "text" }, text));
  if (share !== null) {
    const meta = metaLine(place, rank);
    meta.append(moreButton(item, rank + 1));
    body.append(meta);
  }
  item.append(el("span", { class: "rank" }, String(rank + 1)), body);
  return item;
}

function orderList(side, passages, limit) {
  const share = side.plain ? null : shares(side.places);
  const list = el("ol", { class: side.plain ? "list before" : "list", "aria-label": side.label });
  side.places.slice(0, limit).forEach((place, rank) => {
    list.append(orderItem(place, rank, passages[place.index], share && share[rank]));
  });
  return list;
}

// A curve from each item on the left to the one of the same passage on the right.
function drawLinks(links, left, right) {
  const top = links.getBoundingClientRect().top, width = links.clientWidth;
  if (!width) return; // not shown on a narrow screen
  const middle = (item) => {
    const box = item.getBoundingClientRect();
    return box.top + box.height / 2 - top;
  };
  const targets = new Map([...right.children].map((item, rank) => [item.dataset.index, { item, rank }]));
  links.replaceChildren(...[...left.children].flatMap((item, rank) => {
    const target = targets.get(item.dataset.index);
    if (!target) return [];
    const y1 = middle(item), y2 = middle(target.item), half = width / 2;
    return svg("path", { d: `M4 ${y1}C${half} ${y1} ${half} ${y2} ${width - 4} ${y2}`,
      class: rank > target.rank ? "up" : rank < target.rank ? "down" : null,
      "data-index": item.dataset.index });
  }));
}

// Both places of a passage and their line stand out while one of them is pointed at or has the focus.
function highlight(orders) {
  const set = (index) => {
    for (const node of orders.querySelectorAll("[data-index]")) {
      const on = node.dataset.index === index;
      node.classList.toggle("on", on);
      if (node instanceof SVGElement) node.classList.toggle("dim", index !== null && !on);
    }
  };
  const of = (event) => event.target.closest?.("[data-index]")?.dataset.index ?? null;
  for (const event of ["pointerover", "focusin"]) orders.addEventListener(event, (e) => set(of(e)));
  for (const event of ["pointerleave", "focusout"]) orders.addEventListener(event, () => set(null));
}

// Which texts do not fit; known once they are laid out.
function offerMore(list) {
  for (const item of list.children) {
    const button = item.querySelector(".more"), text = item.querySelector(".text");
    if (button) button.hidden = !item.classList.contains("open") && text.scrollHeight <= text.clientHeight + 1;
  }
}

let watching = null;

function renderOrders(orders, passages, sides, limit = SHOWN) {
  const [first, second] = sides.length > 1 ? sides : [originalSide(passages.length), sides[0]];
  const left = orderList(first, passages, limit), right = orderList(second, passages, limit);
  const links = svg("svg", { class: "links", "aria-hidden": "true" });
  const titles = [first, second].map((side) => el("h3", {}, side.label));
  orders.classList.toggle("compare", sides.length > 1);
  orders.replaceChildren(titles[0], left, links, titles[1], right);
  titles[0].style.gridColumn = left.style.gridColumn = "1";
  titles[1].style.gridColumn = right.style.gridColumn = "3";
  if (passages.length > limit) {
    orders.append(el("button", { type: "button", class: "button plain all",
      on: { click: () => renderOrders(orders, passages, sides, Infinity) } },
    t("result.all", { n: number(passages.length) })));
  }
  watching?.disconnect();
  watching = new ResizeObserver(() => {
    offerMore(left);
    offerMore(right);
    drawLinks(links, left, right);
  });
  watching.observe(left);
  watching.observe(right);
}

// How far two orders agree: of the first k, and over all pairs of passages (Kendall's share of
// concordant pairs).
function agreement(a, b) {
  const k = Math.min(5, a.length);
  const top = new Set(a.slice(0, k).map((p) => p.index));
  const rank = new Map(b.map((p, i) => [p.index, i]));
  const inB = a.map((p) => rank.get(p.index));
  let same = 0, pairs = 0;
  for (let i = 0; i < inB.length; i++)
    for (let j = i + 1; j < inB.length; j++, pairs++) same += inB[i] < inB[j];
  return { k, same: b.slice(0, k).filter((p) => top.has(p.index)).length, share: pairs ? same / pairs : 1 };
}

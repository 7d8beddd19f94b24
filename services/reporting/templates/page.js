"use strict";

const REACH_PIXELS = 24;
const tip = document.getElementById("tip");

let explained = null;

function showTip(element) {
  explained = element;
  tip.textContent = element.dataset.tip;
  tip.hidden = false;
  placeTip();
}

function placeTip() {
  if (!explained) return;
  const target = explained.getBoundingClientRect();
  const own = tip.getBoundingClientRect();
  const rightmost = document.documentElement.clientWidth - own.width - 8;
  const left = Math.max(8, Math.min(target.x + target.width / 2 - own.width / 2, rightmost));
  const above = target.y - own.height - 10;
  tip.style.left = `${left}px`;
  tip.style.top = `${above >= 8 ? above : target.bottom + 10}px`;
}

function hideTip() {
  explained = null;
  tip.hidden = true;
}

// Dots are small, and fingers are not: within a chart the nearest mark in reach is meant.
function markAt(event) {
  const direct = event.target.closest("[data-tip]");
  const plot = event.target.closest(".plot");
  if (direct || !plot) return direct;
  let nearest = null;
  let reach = REACH_PIXELS;
  for (const mark of plot.querySelectorAll(".mark")) {
    const box = mark.getBoundingClientRect();
    if (box.width === 0) continue;
    const distance = Math.hypot(box.x + box.width / 2 - event.clientX, box.y + box.height / 2 - event.clientY);
    if (distance < reach) [nearest, reach] = [mark, distance];
  }
  return nearest;
}

function sortBy(header) {
  const headers = [...header.parentElement.cells];
  const column = headers.indexOf(header);
  const descending = header.ariaSort === "ascending";
  headers.forEach((other) => other.removeAttribute("aria-sort"));
  header.ariaSort = descending ? "descending" : "ascending";
  const body = header.closest("table").tBodies[0];
  const value = (row) => row.cells[column].dataset.value;
  const order = (one, other) => {
    if (value(one) === "" || value(other) === "") return (value(one) === "") - (value(other) === "");
    return (value(one) - value(other)) * (descending ? -1 : 1);
  };
  body.append(...[...body.rows].sort(order));
}

document.addEventListener("pointermove", (event) => {
  const mark = markAt(event);
  if (mark) showTip(mark);
  else hideTip();
});
document.addEventListener("pointerleave", hideTip);
document.addEventListener("scroll", placeTip, true);
document.addEventListener("focusin", (event) => {
  if (event.target.dataset.tip && event.target.matches(":focus-visible")) showTip(event.target);
});
document.addEventListener("focusout", hideTip);
document.addEventListener("click", (event) => {
  const header = event.target.closest("thead th:has(button)");
  if (header) return sortBy(header);
  const mark = markAt(event);
  if (mark) showTip(mark);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") hideTip();
});

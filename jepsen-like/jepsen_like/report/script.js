// All drawings show one stretch of time: a button or a drag over any of them chooses it.
"use strict";
const page = document.getElementById("timeline");
const width = Number(page.dataset.width);
const seconds = Number(page.dataset.seconds);
const drawings = [...page.querySelectorAll("svg.time")];
const buttons = [...page.querySelectorAll("button[data-from]")];

function show(from, to) {
  if (to - from < width / 10000) { return; }
  for (const svg of drawings) {
    const height = svg.getAttribute("viewBox").split(" ")[3];
    svg.setAttribute("viewBox", `${from} 0 ${to - from} ${height}`);
  }
  const count = page.clientWidth < 600 ? 4 : 9;
  for (const ticks of page.querySelectorAll(".ticks")) {
    ticks.replaceChildren();
    for (let place = 0; place < count; place += 1) {
      const share = place / (count - 1);
      const at = ((from + (to - from) * share) / width) * seconds;
      const tick = document.createElement("span");
      tick.style.left = `${100 * share}%`;
      tick.textContent = `${at.toFixed((to - from) * seconds < 20 * width ? 2 : 0)} s`;
      ticks.append(tick);
    }
  }
  for (const button of buttons) {
    const is = Number(button.dataset.from) === from && Number(button.dataset.to) === to;
    button.setAttribute("aria-pressed", String(is));
  }
}

for (const button of buttons) {
  button.addEventListener("click", () => show(Number(button.dataset.from), Number(button.dataset.to)));
}

let begun = null;
function place(event, svg) {
  const box = svg.getBoundingClientRect();
  const [from, , shown] = svg.getAttribute("viewBox").split(" ").map(Number);
  const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  return Math.round(from + share * shown);
}
for (const svg of drawings) {
  svg.addEventListener("pointerdown", (event) => { begun = place(event, svg); });
  svg.addEventListener("pointerup", (event) => {
    if (begun === null) { return; }
    const ended = place(event, svg);
    show(Math.min(begun, ended), Math.max(begun, ended));
    begun = null;
  });
}
window.addEventListener("pointercancel", () => { begun = null; });
show(0, width);

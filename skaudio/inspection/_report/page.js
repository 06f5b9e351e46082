"use strict";

// Tables: a click, Enter or Space on a column name sorts by this column; a second one reverses the
// order. Numbers are sorted from the largest, text alphabetically; missing values come last.
for (const table of document.querySelectorAll("table.sortable")) {
  const names = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  names.forEach((name, column) => {
    const words = name.classList.contains("text");
    const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
    name.querySelector("button").addEventListener("click", () => {
      const before = name.getAttribute("aria-sort") ?? (words ? "descending" : "ascending");
      const sign = before === "descending" ? 1 : -1;
      const rows = [...body.rows].sort((one, other) => {
        const [a, b] = [key(one), key(other)];
        if (a === "" || b === "") return (a === "") - (b === "");
        return sign * (words ? a.localeCompare(b) : a - b);
      });
      body.append(...rows);
      names.forEach((other) => other.removeAttribute("aria-sort"));
      name.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
    });
  });
}

// Players: one at a time, with a line at the position in the spectrogram; a click there seeks.
const players = [...document.querySelectorAll(".card audio")];
for (const player of players) {
  const view = player.closest(".card").querySelector(".view[data-seconds]");
  player.addEventListener("play", () => {
    players.filter((other) => other !== player).forEach((other) => other.pause());
    if (!view) return;
    view.classList.add("playing");
    const follow = () => {
      view.style.setProperty("--at", Math.min(1, player.currentTime / view.dataset.seconds));
      if (!player.paused) requestAnimationFrame(follow);
    };
    follow();
  });
  player.addEventListener("ended", () => view && view.classList.remove("playing"));
  if (view) {
    view.style.cursor = "pointer";
    view.addEventListener("click", (event) => {
      const box = view.getBoundingClientRect();
      player.currentTime = ((event.clientX - box.left) / box.width) * view.dataset.seconds;
      player.play();
    });
  }
}

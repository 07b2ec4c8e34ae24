"use strict";
(() => {
  const root = document.documentElement;
  const figures = JSON.parse(document.getElementById("charts").textContent);
  const config = {
    displayModeBar: false, displaylogo: false, showLink: false, plotlyServerURL: "",
    responsive: true, doubleClick: "reset",
  };
  const touched = matchMedia("(pointer: coarse)").matches; // there a drag scrolls the page

  // Plotly does not know the page's colours (var(--name)): it is given what they are now.
  const probe = document.body.appendChild(document.createElement("span"));
  probe.hidden = true;
  function color(name) {
    probe.style.color = name;
    return getComputedStyle(probe).color;
  }
  function colored(value, key = "") {
    if (Array.isArray(value)) return value.map((item) => colored(item, key));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, colored(v, k)]));
    }
    const named = typeof value === "string" && /color$/i.test(key) && value.startsWith("var(--");
    return named ? color(value) : value;
  }
  function draw() {
    for (const [name, figure] of Object.entries(figures)) {
      const { data, layout } = colored(figure);
      layout.dragmode = touched ? false : "zoom";
      Plotly.react(`chart-${name}`, data, layout, config);
    }
  }

  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  function themed() {
    button.textContent = isDark() ? "Light theme" : "Dark theme"; // what a click brings
    draw();
  }
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    themed();
  });
  system.addEventListener("change", themed);
  themed();

  function order(a, b) {
    if (a === "" || b === "") return (a === "") - (b === ""); // what is not there comes last
    return typeof a === "number" ? a - b : a.localeCompare(b);
  }
  function sort(table, index, direction) {
    const sign = direction === "ascending" ? 1 : -1;
    const key = (row) => {
      const cell = row.cells[index];
      return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
    };
    const body = table.tBodies[0];
    const rows = Array.from(body.rows, (row) => [key(row), row]);
    rows.sort(([a], [b]) => (a === "" || b === "" ? order(a, b) : sign * order(a, b)));
    body.append(...rows.map(([, row]) => row));
  }
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach((head, index) => {
      head.querySelector("button").addEventListener("click", () => {
        const next = head.ariaSort === "ascending" ? "descending" : "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", next);
        sort(table, index, next);
        document.getElementById("sorted").textContent = `Sorted by ${head.textContent}, ${next}`;
      });
    });
  }
})();

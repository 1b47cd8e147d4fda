"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("scripted");
  const all = (selector, within = document) => Array.from(within.querySelectorAll(selector));

  const make = (name, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...children);
    return element;
  };

  // Theme: the system's until the button is pressed; remembered where the browser allows it.

  const systemDark = window.matchMedia("(prefers-color-scheme: dark)");
  const remember = (theme) => {
    try {
      localStorage.setItem("fingerpost-theme", theme);
    } catch {
      // A page opened from a file may have no storage; the choice then lasts as long as the page.
    }
  };
  const remembered = () => {
    try {
      return localStorage.getItem("fingerpost-theme");
    } catch {
      return null;
    }
  };
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches);

  const themeButton = document.getElementById("theme");
  const showTheme = () => {
    themeButton.setAttribute("aria-pressed", String(isDark()));
    drawCurves();
  };
  themeButton.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remember(root.dataset.theme);
    showTheme();
  });
  systemDark.addEventListener("change", showTheme);
  if (["light", "dark"].includes(remembered())) root.dataset.theme = remembered();

  // Sorting: every heading of a sortable table becomes a button; empty cells stay at the end.

  const cellKey = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.value ?? cell.textContent.trim();
    if (text === "" || text === "–") return null;
    const value = Number(text === "inf" ? "Infinity" : text === "-inf" ? "-Infinity" : text);
    return Number.isNaN(value) ? (/^[-+]?\d/.test(text) && !cell.dataset.value ? parseFloat(text) : text) : value;
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a === b ? 0 : a < b ? -1 : 1;
    return String(a).localeCompare(String(b), undefined, { numeric: true });
  };
  const sortBy = (table, header, column) => {
    const direction = header.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    all("th[aria-sort]", table).forEach((other) => other.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", direction);
    const body = table.tBodies[0];
    const sign = direction === "ascending" ? 1 : -1;
    const keyed = Array.from(body.rows, (row) => [cellKey(row, column), row]);
    keyed.sort(([a], [b]) => (a === null || b === null ? (a === null) - (b === null) : sign * compare(a, b)));
    body.append(...keyed.map(([, row]) => row));
  };
  all("table.sortable").forEach((table) => {
    Array.from(table.tHead.rows[0].cells).forEach((header, column) => {
      if (!header.textContent.trim()) return;
      const button = make("button", { type: "button", className: "sort" }, ...header.childNodes);
      button.addEventListener("click", () => sortBy(table, header, column));
      header.append(button);
    });
  });

  // Filtering the scoreboard: every word must occur.

  const form = document.getElementById("filter");
  if (form) {
    const rows = all("#claims tbody tr");
    const text = document.getElementById("filter-text");
    const status = document.getElementById("filter-status");
    const filter = () => {
      const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
      const wanted = form.elements.holds.value;
      let shown = 0;
      rows.forEach((row) => {
        const content = row.textContent.toLowerCase();
        const fits = (wanted === "all" || row.dataset.holds === wanted) && words.every((word) => content.includes(word));
        row.hidden = !fits;
        shown += Number(fits);
      });
      status.textContent = `${shown} of ${rows.length} claims shown`;
    };
    form.addEventListener("input", filter);
    form.addEventListener("submit", (event) => event.preventDefault());
    filter();
  }

  // Downloads, made on demand from what the page holds already.

  const button = (label, action) => {
    const element = make("button", { type: "button", className: "button needs-script" }, label);
    element.addEventListener("click", action);
    return element;
  };
  const download = (name, type, content) => {
    const url = URL.createObjectURL(new Blob([content], { type }));
    make("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  };
  const quote = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const cellText = (cell) => {
    const text = (cell.dataset.value ?? cell.textContent).trim();
    return text === "–" ? "" : text;
  };
  const csvOf = (table) =>
    Array.from(table.rows, (row) => Array.from(row.cells, (cell) => quote(cellText(cell))).join(",")).join("\n") + "\n";

  all(".table-block").forEach((block) => {
    const table = block.querySelector("table");
    block.append(button("Download CSV", () => download(`${block.dataset.name}.csv`, "text/csv", csvOf(table))));
  });
  all("figure[data-name]").forEach((figure) => {
    const image = figure.querySelector("img");
    const save = () => {
      const source = decodeURIComponent(image.src.slice(image.src.indexOf(",") + 1));
      download(`${figure.dataset.name}.svg`, "image/svg+xml", source);
    };
    figure.append(button("Download SVG", save));
  });
  all(".command").forEach((block) => {
    const copy = button("Copy", () => {
      const range = document.createRange();
      range.selectNodeContents(block.querySelector("code"));
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      copy.textContent = document.execCommand("copy") ? "Copied" : "Selected: copy it with the keyboard";
    });
    block.append(copy);
  });

  // Curves, drawn again when the theme or the width changes.

  const dashes = [[], [8, 4], [2, 3], [10, 3, 2, 3], [4, 4], [12, 4]];
  const borders = ["solid", "dashed", "dotted", "double", "ridge", "groove"];
  const colour = (name) => {
    document.body.style.setProperty("outline-color", `var(${name})`);
    const value = getComputedStyle(document.body).outlineColor;
    document.body.style.removeProperty("outline-color");
    return value;
  };
  const curves = all("figure.curve").map((figure) => ({
    place: figure.querySelector(".canvas"),
    data: JSON.parse(figure.querySelector(".curve-data").textContent),
    plot: null,
  }));

  const axis = (label) => ({
    label,
    stroke: colour("--soft"),
    font: "12px system-ui, sans-serif",
    labelFont: "13px system-ui, sans-serif",
    grid: { stroke: colour("--faint"), width: 1 },
    ticks: { stroke: colour("--rule"), width: 1 },
  });
  const describe = (series, index) => ({
    label: series.label,
    stroke: colour(`--curve-${(index % 6) + 1}`),
    dash: dashes[index % dashes.length],
    width: 1.6,
    spanGaps: false,
    points: { show: series.values.length < 40 },
  });
  const drawCurve = (curve) => {
    const { place, data } = curve;
    if (curve.plot) curve.plot.destroy();
    place.replaceChildren();
    const options = {
      width: Math.max(place.clientWidth, 240),
      height: 280,
      scales: { x: { time: false } },
      axes: [axis(data.x_label), { ...axis(data.y_label), size: 64 }],
      series: [{ label: data.x_label }, ...data.series.map(describe)],
      legend: { markers: { width: 2, dash: (_, index) => borders[(index - 1) % borders.length] } },
      cursor: { drag: { x: true, y: false } },
    };
    curve.plot = new uPlot(options, [data.x, ...data.series.map((series) => series.values)], place);
  };
  function drawCurves() {
    curves.forEach(drawCurve);
  }
  const widths = new ResizeObserver((entries) => {
    for (const { target, contentRect } of entries) {
      const plot = curves.find((curve) => curve.place === target)?.plot;
      if (plot && Math.abs(plot.width - contentRect.width) > 1) plot.setSize({ width: contentRect.width, height: 280 });
    }
  });
  curves.forEach((curve) => widths.observe(curve.place));

  // Printing: paper is light, and nothing on it can be unfolded.

  let before = null;
  window.addEventListener("beforeprint", () => {
    before = { theme: root.dataset.theme, closed: all("details:not([open])") };
    root.dataset.theme = "light";
    before.closed.forEach((details) => (details.open = true));
    drawCurves();
  });
  window.addEventListener("afterprint", () => {
    if (!before) return;
    if (before.theme) root.dataset.theme = before.theme;
    else delete root.dataset.theme;
    before.closed.forEach((details) => (details.open = false));
    before = null;
    drawCurves();
  });

  showTheme();
})();

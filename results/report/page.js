// The page's own program: the list of runs, what is behind each, and tables that can be sorted.
// Whatever comes from the store is put there as text, never as HTML.

const get = (id) => document.getElementById(id);
const PAGE = 50, BLOCK = 100;
const COLUMNS = [
  ["name", "run", "text"], ["as", "launched as", "text"], ["setting", "setting", "text"],
  ["split", "split", "text"], ["seed", "seed", "number"], ["status", "status", "text"],
  ["best", "best mIoU", "number"], ["last", "last", "number"], ["minutes", "minutes", "number"],
  ["finished", "finished (UTC)", "text"], ["unusual", "unlike most of its setting", "text"],
];
const state = { rows: null, shown: [], words: "", status: "", counting: false, cell: null,
  by: null, descending: false, page: 0, open: null };
const unpacked = new Map();

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

/** An element with attributes and children; strings become text. */
function make(name, attributes = {}, ...children) {
  const element = name.startsWith("svg:")
    ? document.createElementNS("http://www.w3.org/2000/svg", name.slice(4))
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.filter((child) => child !== null));
  return element;
}

const shown = (value, digits) => value === null ? "–" : digits === undefined ? String(value) : value.toFixed(digits);
const compare = (a, b) => a === b ? 0 : a === null ? 1 : b === null ? -1 : typeof a === "number" ? a - b
  : String(a).localeCompare(String(b), "en", { numeric: true });

// ---- Tables: a button in each heading sorts the rows; again, the other way round.

function sortable(heading, sort) {
  const button = make("button", { type: "button" }, heading.textContent.trim());
  heading.replaceChildren(button);
  button.addEventListener("click", () => {
    const descending = heading.getAttribute("aria-sort") === "ascending";
    for (const other of heading.parentNode.children) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
    sort(descending);
  });
}

function key(row, column) {
  const cell = row.children[column];
  if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
  const text = cell.textContent.trim();
  if (text === "–" || text === "" || cell.dataset.runs !== undefined) return null;
  return isNaN(text) ? text : Number(text);
}

for (const table of document.querySelectorAll("table.results")) {
  [...table.tHead.rows[0].children].forEach((heading, column) => sortable(heading, (descending) => {
    const body = table.tBodies[0];
    const keyed = [...body.rows].map((row) => [key(row, column), row]);
    // What is missing stays last, either way.
    keyed.sort(([a], [b]) => compare(a, b) * (descending && a !== null && b !== null ? -1 : 1));
    body.append(...keyed.map(([, row]) => row));
  }));
}

for (const cell of document.querySelectorAll("td[data-runs]")) {
  if (!cell.dataset.runs) continue;
  const places = cell.dataset.runs.split(",").map(Number);
  const row = cell.parentNode.cells[0].textContent.trim();
  const table = cell.closest("table");
  const column = table.tHead.rows[0].children[cell.cellIndex].textContent.trim();
  const number = cell.querySelector("b") || cell.firstChild;
  const button = make("button", { type: "button", class: "open", title: `${places.length} runs: ${row}, ${column}` },
    number.textContent.trim());
  number.nodeType === Node.TEXT_NODE ? number.replaceWith(button) : number.replaceChildren(button);
  button.addEventListener("click", () => {
    if (places.length === 1) { open(places[0], places); return; }
    Object.assign(state, { cell: new Set(places), words: "", status: "", counting: false, page: 0 });
    get("words").value = get("status").value = "";
    get("counting").checked = false;
    get("cell").textContent = `${table.caption.textContent.trim()}: ${row}, ${column} ×`;
    get("cell").hidden = false;
    list();
    get("runs").scrollIntoView();
    get("runs").focus({ preventScroll: true });
  });
}

// ---- The list of runs.

/** What is searched for, in any order: words, and "several words" as they stand. */
const words = (text) => [...text.toLowerCase().matchAll(/"([^"]*)"|\S+/g)].map(([word, quoted]) => quoted ?? word);

function list() {
  const { rows } = state, asked = words(state.words);
  state.shown = rows.order.filter((i) =>
    (!state.cell || state.cell.has(i)) && (!state.counting || rows.counts[i]) &&
    (!state.status || rows.status[i] === state.status) && asked.every((word) => rows.text[i].includes(word)));
  if (state.by) {
    const values = rows[state.by];
    state.shown.sort((i, j) => (compare(values[i], values[j]) || i - j) *
      (state.descending && values[i] !== null && values[j] !== null ? -1 : 1));
  }
  draw();
}

function draw() {
  const { rows, shown: found } = state, pages = Math.max(1, Math.ceil(found.length / PAGE));
  state.page = Math.min(Math.max(state.page, 0), pages - 1);
  const part = found.slice(state.page * PAGE, (state.page + 1) * PAGE);
  get("list").tBodies[0].replaceChildren(...part.map((i) => {
    const button = make("button", { type: "button", class: "open" }, rows.name[i]);
    button.addEventListener("click", () => open(i, state.shown));
    const line = COLUMNS.slice(1).map(([name]) => {
      const number = { best: 1, last: 1, minutes: 1 }[name];
      const text = shown(rows[name][i], rows[name][i] === null ? undefined : number);
      const cell = make("td", name === "unusual" ? { title: text } : {}, text);
      if (name === "status" && text !== "complete") cell.className = "problem";
      return cell;
    });
    return make("tr", rows.counts[i] ? {} : { class: "other" }, make("td", {}, button), ...line);
  }));
  get("count").textContent = `${found.length.toLocaleString("en")} of ${rows.order.length.toLocaleString("en")}`;
  get("pages").hidden = pages === 1;
  get("pages").querySelector("span").textContent = `${state.page + 1} of ${pages}`;
  get("before").disabled = state.page === 0;
  get("after").disabled = state.page === pages - 1;
}

async function start() {
  const rows = await unpack(JSON.parse(get("rows").textContent));
  rows.order = rows.name.map((_, i) => i);
  rows.text = rows.order.map((i) => [rows.id[i], rows.name[i], rows.as[i], rows.setting[i], rows.split[i],
    rows.status[i], rows.unusual[i]].join(" ").toLowerCase());
  state.rows = rows;
  const head = get("list").tHead.rows[0];
  for (const [name, label] of COLUMNS) {
    const heading = head.appendChild(make("th", { scope: "col" }, label));
    sortable(heading, (descending) => { Object.assign(state, { by: name, descending, page: 0 }); list(); });
  }
  for (const status of [...new Set(rows.status)].sort()) get("status").append(make("option", { value: status }, status));
  get("words").addEventListener("input", (event) => { state.words = event.target.value; state.page = 0; list(); });
  get("status").addEventListener("change", (event) => { state.status = event.target.value; state.page = 0; list(); });
  get("counting").addEventListener("change", (event) => { state.counting = event.target.checked; state.page = 0; list(); });
  get("cell").addEventListener("click", () => { state.cell = null; get("cell").hidden = true; state.page = 0; list(); });
  get("choose").addEventListener("submit", (event) => event.preventDefault());
  get("before").addEventListener("click", () => { state.page -= 1; draw(); });
  get("after").addEventListener("click", () => { state.page += 1; draw(); });
  get("choose").hidden = get("list").hidden = false;
  list();
  follow();
}

// ---- One run.

async function behind(i) {
  const block = Math.floor(i / BLOCK);
  if (!unpacked.has(block)) unpacked.set(block, unpack(JSON.parse(get("blocks").textContent)[block]));
  return (await unpacked.get(block))[i % BLOCK];
}

async function open(i, among) {
  const { rows } = state, { header, behind: more } = await behind(i);
  state.open = { i, among };
  get("run-title").textContent = `${header.launched_as} · ${header.setting}`;
  const own = new Set(rows.unusual[i].split(" ").filter(Boolean).map((pair) => pair.split("=")[0]));
  const score = (value) => value === null ? null : `${value[1].toFixed(2)} (epoch ${value[0]})`;
  const parts = [facts({
    run: header.identity, status: header.failure || header.status,
    counts: rows.counts[i] ? "yes" : "no: another attempt does", "best mIoU": score(header.best),
    "last mIoU": score(header.last), "unlike most of its setting": rows.unusual[i] || null,
    seed: header.seed, split: header.split, "training time": `${(header.training_seconds / 60).toFixed(1)} minutes`,
    resumed: header.resumed ? `${header.resumed} times` : null,
  })];
  if (more.failure) parts.push(make("h3", {}, "What failed"), make("pre", {}, more.failure));
  if (more.curve.epoch.length) {
    const { curve } = more;
    parts.push(make("h3", {}, "Curve"), make("div", { class: "charts" },
      chart("percent", curve.epoch, { mIoU: curve.mean_iou, "pseudo-label accuracy": curve.pseudo_label_accuracy,
        "sampling rate": curve.sampling_rate }),
      chart("loss", curve.epoch, { loss: curve.loss })));
  }
  if (more.iou.length) {
    parts.push(make("details", {}, make("summary", {}, "IoU of every class, best epoch, percent"),
      make("table", {}, make("tbody", {}, ...more.classes.map((name, k) => make("tr", {}, make("td", {}, name),
        make("td", {}, more.iou[k].toFixed(1)), make("td", {}, bar(more.iou[k]))))))));
  }
  parts.push(section("Configuration", flat(header.configuration), own));
  parts.push(section("Provenance", flat({ ...header.provenance, split_hash: header.split_hash,
    data: header.data_fingerprint, weights: header.weights_hash || "from scratch", attempt: header.attempt })));
  if (more.log) {
    const log = make("details", {}, make("summary", {}, "The end of its log"), make("pre", {}, more.log));
    log.open = header.status === "failed";
    parts.push(log);
  }
  get("inside").replaceChildren(...parts);
  const place = among.indexOf(i);
  get("previous").disabled = place <= 0;
  get("next").disabled = place < 0 || place === among.length - 1;
  if (!get("run").open) get("run").showModal();
  get("run").scrollTop = 0;
  history.replaceState(null, "", `#run-${rows.id[i]}`);
}

function step(by) {
  const { i, among } = state.open, next = among[among.indexOf(i) + by];
  if (next !== undefined) open(next, among);
}

function facts(pairs) {
  return make("dl", {}, ...Object.entries(pairs).filter(([, value]) => value !== null)
    .flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))]));
}

function flat(value, above = "") {
  if (value === null || typeof value !== "object" || Array.isArray(value)) {
    return { [above]: typeof value === "string" ? value : JSON.stringify(value) };
  }
  return Object.assign({}, ...Object.entries(value).map(([name, part]) => flat(part, above ? `${above}.${name}` : name)));
}

function section(title, pairs, own = new Set()) {
  return make("details", {}, make("summary", {}, title), make("table", {}, make("tbody", {},
    ...Object.entries(pairs).map(([name, value]) => make("tr", own.has(name) ? { class: "own" } : {},
      make("td", {}, name), make("td", {}, value))))));
}

function bar(percent) {
  const element = make("span", { class: "bar" });
  element.style.width = `${percent / 10}rem`;
  return element;
}

/** A line per series over the epochs; gaps where an epoch has no value. */
function chart(title, epochs, series) {
  const width = 520, height = 240, left = 46, bottom = 28, top = 24;
  const known = Object.entries(series).filter(([, values]) => values.some((value) => value !== null));
  if (!known.length) return null;
  const all = known.flatMap(([, values]) => values).filter((value) => value !== null);
  let low = Math.min(...all), high = Math.max(...all);
  if (high - low < 1e-9) { low -= 0.5; high += 0.5; }
  const first = epochs[0], spread = Math.max(epochs.at(-1) - first, 1);
  const x = (epoch) => left + (width - left - 12) * (epoch - first) / spread;
  const y = (value) => top + (height - top - bottom) * (high - value) / (high - low);
  const parts = [];
  for (let tick = 0; tick <= 4; tick += 1) {
    const value = low + (high - low) * tick / 4;
    parts.push(make("svg:line", { class: "grid", x1: left, x2: width - 12, y1: y(value), y2: y(value) }),
      make("svg:text", { x: left - 5, y: y(value) + 4, "text-anchor": "end" }, String(Number(value.toPrecision(3)))));
  }
  const last = epochs[epochs.length - 1], middle = Math.round((first + last) / 2);
  for (const [epoch, anchor] of new Map([[first, "start"], [middle, "middle"], [last, "end"]])) {
    parts.push(make("svg:text", { x: x(epoch), y: height - 10, "text-anchor": anchor }, `epoch ${epoch}`));
  }
  known.forEach(([name, values], index) => {
    const points = values.map((value, k) => value === null ? null : [x(epochs[k]), y(value)]);
    let path = "", draws = false;
    for (const point of points) {
      // Evaluations may be some epochs apart: the line goes on over epochs without one.
      if (point) { path += `${draws ? "L" : "M"}${point[0].toFixed(1)} ${point[1].toFixed(1)}`; draws = true; }
    }
    parts.push(make("svg:path", { class: `l${index}`, d: path }));
    const dots = points.filter(Boolean);
    if (dots.length < 30) parts.push(...dots.map(([cx, cy]) => make("svg:circle", { class: `l${index}`, cx, cy, r: 2.5 })));
    const at = left + index * 165;
    parts.push(make("svg:path", { class: `l${index}`, d: `M${at} 11h18` }), make("svg:text", { x: at + 23, y: 15 }, name));
  });
  return make("svg:svg", { viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `${title}: ${known.map(([name, values]) => `${name} ends at ${values.filter((v) => v !== null).at(-1)}`).join(", ")}` },
  ...parts);
}

function follow() {
  const id = /^#run-([0-9a-f]+)$/.exec(location.hash);
  const i = id && state.rows ? state.rows.id.indexOf(id[1]) : -1;
  if (i >= 0 && !(get("run").open && state.open.i === i)) open(i, state.shown);
}

get("previous").addEventListener("click", () => step(-1));
get("next").addEventListener("click", () => step(1));
get("run").addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === "ArrowRight") step(1);
});
get("run").addEventListener("close", () => history.replaceState(null, "", location.pathname + location.search));
window.addEventListener("hashchange", follow);

get("theme").hidden = false;
get("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});

start();

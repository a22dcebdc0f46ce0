const search = at("search"), count = at("count"), red = at("red");
const all = [...document.querySelectorAll(".scenario")], toggles = [...document.querySelectorAll("button[data-verdict]")];
const cells = [...document.querySelectorAll(".tile a")], tiles = [...document.querySelectorAll(".tile")];
const narrow = matchMedia("(max-width: 60rem)");
const GOOD = ["pass", "skipped", "not-run"];
const isOff = toggle => toggle.getAttribute("aria-pressed") === "false";
const isRed = one => !GOOD.includes(one.dataset.verdict);

function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(word => word && word !== "-");
  const off = toggles.filter(isOff).map(one => one.dataset.verdict), hidden = new Set();
  for (const one of all) {
    const text = one.dataset.text.toLowerCase();
    const matches = word => word[0] === "-" ? !text.includes(word.slice(1)) : text.includes(word);
    one.hidden = off.includes(one.dataset.verdict) || !words.every(matches);
    if (one.hidden) hidden.add(one.id);
  }
  for (const cell of cells) cell.hidden = hidden.has(cell.dataset.of);
  for (const tile of tiles) tile.hidden = !tile.querySelector("a:not([hidden])");
  count.textContent = hidden.size ? `${all.length - hidden.size} of ${all.length}` : "";
  if (red) red.setAttribute("aria-pressed", String(toggles.every(one => isOff(one) !== isRed(one))));
}

// A filter is a link too: #?q=rk3399&hide=pass
function remember() {
  filter();
  const query = new URLSearchParams();
  if (search.value) query.set("q", search.value);
  for (const one of toggles) if (isOff(one)) query.append("hide", one.dataset.verdict);
  const text = String(query);
  history.replaceState(null, "", text ? "#?" + text : location.pathname + location.search);
}

function show(off) {
  for (const one of toggles) one.setAttribute("aria-pressed", String(!off(one)));
}

// Lines get their numbers when they are looked at first: a page of all lines is slow.
function number(panel) {
  const code = panel.querySelector("code");
  if (code.dataset.done) return;
  code.dataset.done = "1";
  const lines = code.textContent.replace(/^\n/, "").split("\n"), rows = document.createDocumentFragment();
  lines.forEach((line, index) => {
    const row = document.createElement("span"), link = document.createElement("a");
    row.id = `${panel.id}/${index + 1}`;
    row.className = "row" + (/^(error|exception)\s*\|/.test(line) ? " error" : /^warning\s*\|/.test(line) ? " new" : "");
    link.href = "#" + row.id;
    link.tabIndex = -1;
    link.dataset.n = index + 1;
    link.setAttribute("aria-label", "line " + (index + 1));
    row.append(link, line);
    rows.append(row);
  });
  code.classList.add("rows");
  code.replaceChildren(rows);
  const mark = at(`${panel.id}/${panel.dataset.mark}`);
  if (mark) { mark.classList.add("mark"); centre(panel, mark); }
}

function centre(panel, row) {
  const pre = panel.querySelector("pre"), box = pre.getBoundingClientRect();
  pre.scrollTop += row.getBoundingClientRect().top - box.top - box.height / 2;
}

function opened(scenario) {
  const panels = [...scenario.querySelectorAll(".panel.text")];
  if (!scenario.dataset.seen && narrow.matches) for (const panel of panels) panel.open = false;
  scenario.dataset.seen = "1";
  for (const panel of panels) if (panel.open) number(panel);
}

function open(scenario) {
  scenario.hidden = false;
  scenario.open = true;
  opened(scenario);
}

let pointed = null;
function jump() {
  let hash = location.hash.slice(1);
  try { hash = decodeURIComponent(hash); } catch { /* It is taken as it stands. */ }
  if (hash.startsWith("?")) {
    const query = new URLSearchParams(location.hash.slice(2));
    search.value = query.get("q") || "";
    show(one => query.getAll("hide").includes(one.dataset.verdict));
    return filter();
  }
  const [name, panel, line] = hash.split("/");
  const scenario = at(name);
  if (!scenario || !scenario.classList.contains("scenario")) return;
  open(scenario);
  const part = panel && at(`${name}/${panel}`);
  if (!part) return scenario.scrollIntoView();
  part.open = true;
  if (part.classList.contains("text")) number(part);
  part.scrollIntoView();
  const row = line && at(`${name}/${panel}/${line}`);
  if (!row) return;
  if (pointed) pointed.classList.remove("mark");
  pointed = row;
  row.classList.add("mark");
  centre(part, row);
  // A panel without a scrolled text of its own, as on a narrow page.
  const box = row.getBoundingClientRect();
  if (box.top < 0 || box.bottom > innerHeight) row.scrollIntoView({ block: "center" });
}

// Long lines: scrolled, or wrapped. What is marked stays in sight.
function wrap() {
  const wrapped = document.body.classList.toggle("wrapped");
  at("wrap").setAttribute("aria-pressed", String(wrapped));
  for (const row of document.querySelectorAll(".scenario[open] .panel.text[open] .row.mark")) centre(row.closest(".panel"), row);
}

const visible = () => all.filter(one => !one.hidden);
// The scenario that somebody is in: with the focus, or else the last one that was gone to.
let last = null;
function current() {
  const focus = document.activeElement.closest(".scenario");
  return focus && !focus.hidden ? focus : last && !last.hidden ? last : null;
}
function goTo(scenario) {
  if (!scenario) return;
  last = scenario;
  scenario.querySelector("summary").focus({ preventScroll: true });
  scenario.scrollIntoView({ block: scenario.open ? "start" : "nearest" });
}
function step(by, wanted = () => true) {
  const list = visible(), here = list.indexOf(current());
  const order = by > 0 ? list.slice(here + 1) : list.slice(0, Math.max(here, 0)).reverse();
  return order.find(wanted);
}
function stepRed(by) {
  const next = step(by, isRed) || (by > 0 ? visible().find(isRed) : null);
  if (!next) return;
  open(next);
  goTo(next);
  history.replaceState(null, "", "#" + next.id);
}
function close(scenario) {
  scenario.open = false;
  goTo(scenario);
}

search.addEventListener("input", remember);
for (const one of toggles) one.addEventListener("click", () => { one.setAttribute("aria-pressed", String(isOff(one))); remember(); });
if (red) {
  red.addEventListener("click", () => {
    const only = red.getAttribute("aria-pressed") === "false";
    show(one => only && !isRed(one));
    remember();
  });
  at("next").addEventListener("click", () => stepRed(1));
}
at("wrap").addEventListener("click", wrap);
for (const one of all) one.addEventListener("toggle", () => one.open && opened(one));
for (const one of document.querySelectorAll(".panel.text")) one.addEventListener("toggle", () => one.open && one.closest(".scenario").open && number(one));
for (const one of document.querySelectorAll(".button.full")) one.addEventListener("click", event => {
  event.preventDefault();
  const panel = one.closest(".panel");
  panel.open = true;
  panel.classList.toggle("full");
  panel.scrollIntoView({ block: "nearest" });
});

addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const focus = document.activeElement, key = event.key;
  if (focus === search) {
    if (key === "Escape" && search.value) { search.value = ""; remember(); }
    else if (key === "Escape") search.blur();
    else if (key === "ArrowDown") goTo(visible()[0]);
    else if (key === "Enter" && visible()[0]) { open(visible()[0]); goTo(visible()[0]); }
    else return;
    return event.preventDefault();
  }
  const on = focus.parentElement && focus.parentElement.classList.contains("scenario") && focus.tagName === "SUMMARY";
  const tile = focus.closest(".tile");
  if (key === "/") { search.focus(); search.select(); }
  else if (key === "j" || (key === "ArrowDown" && on)) goTo(step(1));
  else if (key === "k" || (key === "ArrowUp" && on)) goTo(step(-1));
  else if ((key === "ArrowRight" || key === "ArrowLeft") && tile) {
    const list = cells.filter(one => !one.hidden && !one.closest(".tile").hidden);
    const next = list[list.indexOf(focus) + (key === "ArrowRight" ? 1 : -1)];
    if (next) next.focus();
  }
  else if (key === "n") stepRed(1);
  else if (key === "p") stepRed(-1);
  else if (key === "w") wrap();
  else if (key === "t") turn();
  else if (key === "Escape" && current() && current().open) close(current());
  else return;
  event.preventDefault();
});
addEventListener("hashchange", jump);
if (narrow.matches) at("matrix").open = false;
filter();
jump();

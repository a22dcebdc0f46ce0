const search = at("search"), count = at("count"), every = at("all");
const causes = [...document.querySelectorAll("#causes > .panel")], rows = [...document.querySelectorAll("tr[data-scenario]")];
const toggles = [...document.querySelectorAll("button[data-kind]")];
const isOff = toggle => toggle.getAttribute("aria-pressed") === "false";
const of = cause => cause.dataset.scenarios.split("\n").filter(id => id);
for (const one of causes) one.dataset.text = (one.querySelector("summary").textContent + " " + one.textContent + " " + one.dataset.scenarios).toLowerCase();
// One cause or one scenario that is looked at alone.
let only = "";

function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(word => word && word !== "-");
  const off = toggles.filter(isOff).map(one => one.dataset.kind);
  const cause = causes.find(one => one.id === only);
  const matches = text => words.every(word => word[0] === "-" ? !text.includes(word.slice(1)) : text.includes(word));
  const shown = new Set();
  for (const one of causes) {
    const chosen = !only || (cause ? one === cause : of(one).includes(only));
    one.hidden = !chosen || off.includes(one.dataset.kind) || !matches(one.dataset.text);
    if (!one.hidden) for (const id of of(one)) shown.add(id);
  }
  const filtered = only || words.length || off.length;
  const wanted = row => only && !cause ? row.dataset.scenario === only : shown.has(row.dataset.scenario);
  for (const row of rows) row.hidden = Boolean(filtered) && !wanted(row);
  const left = causes.filter(one => !one.hidden).length;
  count.textContent = filtered ? `${left} of ${causes.length} causes, ${rows.filter(row => !row.hidden).length} of ${rows.length} scenarios` : "";
  every.hidden = !only;
  if (only) every.textContent = `all, not only ${cause ? "this cause" : only}`;
}

// What is chosen is a link: #?q=prompt&hide=log&only=cause-3
function remember() {
  filter();
  const query = new URLSearchParams();
  if (search.value) query.set("q", search.value);
  for (const one of toggles) if (isOff(one)) query.append("hide", one.dataset.kind);
  if (only) query.set("only", only);
  const text = String(query);
  history.replaceState(null, "", text ? "#?" + text : location.pathname + location.search);
}

function jump() {
  let hash = location.hash.slice(1);
  if (hash.startsWith("?")) {
    const query = new URLSearchParams(hash.slice(1));
    search.value = query.get("q") || "";
    for (const one of toggles) one.setAttribute("aria-pressed", String(!query.getAll("hide").includes(one.dataset.kind)));
    only = query.get("only") || "";
    return filter();
  }
  try { hash = decodeURIComponent(hash); } catch { /* It is taken as it stands. */ }
  if (!hash || !at(hash)) return filter();
  only = hash;
  for (const one of toggles) one.setAttribute("aria-pressed", "true");
  search.value = "";
  filter();
  const cause = causes.find(one => one.id === only);
  if (cause) cause.open = true;
  at("bar").scrollIntoView();
}

function forget() { only = ""; remember(); }

search.addEventListener("input", remember);
every.addEventListener("click", forget);
for (const one of toggles) one.addEventListener("click", () => { one.setAttribute("aria-pressed", String(isOff(one))); remember(); });
addEventListener("hashchange", jump);
addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = document.activeElement === search, key = event.key;
  if (key === "Escape" && typing && !search.value) search.blur();
  else if (key === "Escape") { search.value = ""; forget(); }
  else if (typing) return;
  else if (key === "/") { search.focus(); search.select(); }
  else if (key === "t") turn();
  else return;
  event.preventDefault();
});
jump();

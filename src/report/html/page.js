"use strict";
const at = id => document.getElementById(id);
// Stands before the script of each page.
const THEMES = ["", "light", "dark"];
let theme = 0;
function paint() {
  document.documentElement.style.colorScheme = THEMES[theme] || "light dark";
  at("theme").textContent = "theme: " + (THEMES[theme] || "system");
  try { localStorage.setItem("meta-lava-theme", THEMES[theme]); } catch { /* Then it is not kept. */ }
}
function turn() { theme = (theme + 1) % THEMES.length; paint(); }
try { theme = Math.max(0, THEMES.indexOf(localStorage.getItem("meta-lava-theme") || "")); } catch { /* As above. */ }
at("theme").addEventListener("click", turn);
paint();


"""The page's style sheet and its one small script. Light and dark follow the reader's system; print is light."""

CSS = """
:root { color-scheme: light dark; --page: #fff; --card: #f6f7f9; --ink: #1b1f27; --soft: #5d6675; --line: #d9dde4; --good: #17803d;
  --c0: #2563eb; --c1: #d97706; --c2: #0d9488; --c3: #be185d; --c4: #7c3aed; --c5: #65a30d; --c6: #0891b2; --c7: #8a93a3; }
@media screen and (prefers-color-scheme: dark) {
  :root { --page: #13161c; --card: #1c2129; --ink: #e6e9ef; --soft: #9aa4b5; --line: #343b47; --good: #4ade80;
    --c0: #6ea8ff; --c1: #f5a94b; --c2: #41cbbb; --c3: #f472b6; --c4: #b197fc; --c5: #a3d64a; --c6: #4fd1e8; --c7: #8a93a3; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 28px 24px 60px; }
h1 { font-size: 26px; margin: 0 0 2px; } h2 { font-size: 19px; margin: 40px 0 6px; border-top: 1px solid var(--line); padding-top: 22px; }
h3 { font-size: 15px; margin: 16px 0 8px; }
p { margin: 6px 0; max-width: 80ch; } .soft, figcaption, .missing, .tick { color: var(--soft); }
.missing { background: var(--card); border-left: 3px solid var(--line); padding: 8px 12px; }
nav { margin-top: 14px; font-size: 14px; display: flex; flex-wrap: wrap; gap: 2px 14px; }
a { color: var(--c0); text-decoration: none; } a:hover { text-decoration: underline; }
.tiles { display: flex; flex-wrap: wrap; gap: 10px; margin: 18px 0 4px; }
.tiles div { background: var(--card); border-radius: 8px; padding: 10px 16px; min-width: 150px; }
.tiles b { display: block; font-size: 21px; } .tiles span { color: var(--soft); font-size: 13px; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(470px, 100%), 1fr)); gap: 14px 26px; }
figure { margin: 8px 0; break-inside: avoid; } figcaption { font-size: 14px; margin-bottom: 2px; }
svg { display: block; width: 100%; height: auto; overflow: visible; } svg text { fill: var(--ink); font-size: 12px; }
svg text.tick { fill: var(--soft); font-size: 11px; } svg .grid, svg .rule { stroke: var(--line); stroke-width: .7; }
svg .axis { stroke: var(--soft); stroke-width: 1; }
svg .line { fill: none; stroke-width: 1.7; } svg .mark line { stroke-width: 1.6; } svg .mark circle { stroke: none; }
.s0 { --c: var(--c0); } .s1 { --c: var(--c1); } .s2 { --c: var(--c2); } .s3 { --c: var(--c3); }
.s4 { --c: var(--c4); } .s5 { --c: var(--c5); } .s6 { --c: var(--c6); } .s7 { --c: var(--c7); }
svg .line, svg .mark line { stroke: var(--c); } svg .mark circle, svg circle { fill: var(--c); }
svg.cloud { background: var(--card); border-radius: 8px; } svg.cloud circle { opacity: .65; } svg.cloud circle.s7 { opacity: .35; }
svg.cloud circle.near { opacity: 1; stroke: var(--ink); stroke-width: 1.2; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; font-size: 13px; max-width: none; }
.legend span::before { content: ""; display: inline-block; width: 10px; height: 10px; border-radius: 50%; background: var(--c);
  margin-right: 6px; }
table { border-collapse: collapse; font-size: 13px; } .wide { overflow-x: auto; }
th, td { text-align: left; padding: 3px 14px 3px 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
details { margin: 10px 0; } summary { cursor: pointer; color: var(--c0); }
.users { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(340px, 100%), 1fr)); gap: 12px; }
.user { background: var(--card); border-radius: 8px; padding: 10px 14px; font-size: 13px; break-inside: avoid; overflow-wrap: anywhere; }
.user h4 { margin: 0 0 4px; font-size: 14px; display: flex; justify-content: space-between; gap: 10px; }
.user h4 span { color: var(--soft); font-weight: normal; white-space: nowrap; }
.user ol { margin: 2px 0 4px; padding-left: 22px; } .user .soft { margin: 4px 0 0; }
.user li span { float: right; margin-left: 8px; color: var(--soft); font-variant-numeric: tabular-nums; }
.user li.hit { color: var(--good); font-weight: 600; }
#tip { position: fixed; display: none; pointer-events: none; background: var(--ink); color: var(--page); padding: 3px 8px;
  border-radius: 5px; font-size: 13px; max-width: 340px; z-index: 9; }
@media print { main { max-width: none; padding: 0; } .charts { grid-template-columns: 1fr 1fr; }
  .users { grid-template-columns: 1fr 1fr 1fr; } nav, #tip { display: none; } body { font-size: 12px; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } h2 { break-after: avoid; } }
"""

SCRIPT = """
const tip = document.createElement("div"); tip.id = "tip"; document.body.append(tip);
for (const map of document.querySelectorAll("svg.cloud")) {
  const dots = [...map.querySelectorAll("circle")]; let near = null;
  const names = dots.map(d => d.textContent); dots.forEach(d => d.replaceChildren());
  const at = dots.map(d => [+d.getAttribute("cx"), +d.getAttribute("cy")]);
  const leave = () => { if (near) near.classList.remove("near"); near = null; tip.style.display = "none"; };
  map.addEventListener("mousemove", e => {
    const p = new DOMPoint(e.clientX, e.clientY).matrixTransform(map.getScreenCTM().inverse()); let best = 80, i = -1;
    at.forEach(([x, y], j) => { const d = (x - p.x) ** 2 + (y - p.y) ** 2; if (d < best) { best = d; i = j; } });
    leave(); if (i < 0) return;
    near = dots[i]; near.classList.add("near"); tip.textContent = names[i]; tip.style.display = "block";
    tip.style.left = Math.min(e.clientX + 14, innerWidth - tip.offsetWidth - 8) + "px"; tip.style.top = e.clientY + 14 + "px"; });
  map.addEventListener("mouseleave", leave); }
"""

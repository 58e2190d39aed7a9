"""The style sheet of the report: readable from 390 px up, light or dark as the reader's system is."""

STYLE = """
:root { color-scheme: light dark; --ground: #fff; --panel: #f5f6f8; --ink: #1c2430; --soft: #566072; --line: #d8dde5;
  --accent: #0b62a8; --good: #0a6b4b; --good-ground: #dcf3e9; --bad: #a3231b; --bad-ground: #fbe3e1;
  --warn: #7a4b00; --warn-ground: #fcedcf; --s0: #0072b2; --s1: #c2590a; --mark: #7b8494; }
@media (prefers-color-scheme: dark) { :root { --ground: #14181f; --panel: #1d232d; --ink: #e6e9ef; --soft: #a3adbd;
  --line: #343d4b; --accent: #7cc0f5; --good: #7fdcb5; --good-ground: #123d2e; --bad: #ff9d94; --bad-ground: #4a1b18;
  --warn: #f5c76f; --warn-ground: #443108; --s0: #58b4ee; --s1: #f0a04b; --mark: #9aa4b4; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1.25rem 1rem 3rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; margin: 0 0 .6rem; }
p { margin: .4rem 0; }
a { color: var(--accent); }
section { border-top: 1px solid var(--line); margin-top: 1.6rem; padding-top: 1.1rem; }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1rem; margin-top: 1rem; font-size: .92rem; }
nav a { padding: .15rem 0; }
.small, .cure, footer { color: var(--soft); font-size: .9rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .6rem; margin: 1rem 0 0; }
.tiles div { background: var(--panel); border-radius: .5rem; padding: .6rem .75rem; }
.tiles dt { color: var(--soft); font-size: .82rem; }
.tiles dd { margin: 0; font-size: 1.2rem; font-weight: 600; font-variant-numeric: tabular-nums; }
dl { margin: .5rem 0; }
section dl div { display: grid; grid-template-columns: minmax(8rem, 25%) 1fr; gap: .75rem; padding: .15rem 0; }
dt { color: var(--soft); }
dd { margin: 0; }
ul { padding-left: 1.2rem; }
.findings { list-style: none; padding: 0; }
.findings li { margin: .5rem 0; }
.findings code { margin-left: .5rem; }
.findings p { margin: .1rem 0 0; }
.chip { display: inline-block; border-radius: 1rem; padding: 0 .6rem; font-size: .82rem; font-weight: 600;
  background: var(--panel); color: var(--soft); white-space: nowrap; }
.chip.good { background: var(--good-ground); color: var(--good); }
.chip.bad { background: var(--bad-ground); color: var(--bad); }
.chip.warn { background: var(--warn-ground); color: var(--warn); }
.scroll { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: .3rem .9rem .3rem 0; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child { text-align: left; }
thead th { color: var(--soft); font-weight: 500; }
tbody th { font-weight: 500; }
pre, code { font: .86rem/1.45 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
pre { background: var(--panel); border-radius: .5rem; padding: .7rem .8rem; margin: .5rem 0; white-space: pre-wrap;
  unicode-bidi: isolate; }
details { margin: .6rem 0; }
summary { cursor: pointer; color: var(--accent); padding: .2rem 0; }
img { max-width: 100%; height: auto; background: #fff; border-radius: .5rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); gap: 1.2rem; }
figure { margin: 0; min-width: 0; max-width: 36rem; }
figcaption { font-weight: 600; font-size: .92rem; margin-bottom: .3rem; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 11px; }
.grid { stroke: var(--line); stroke-width: 1; }
.curve { fill: none; stroke-width: 2; stroke-linejoin: round; }
.curve.s0 { stroke: var(--s0); } .curve.s1 { stroke: var(--s1); }
.bar { stroke: var(--soft); stroke-width: 1.5; }
.point { fill: var(--s0); } .point.good { fill: var(--good); } .point.bad { fill: var(--bad); }
svg .name { fill: var(--ink); font-size: 12px; }
.dot.s0 { fill: var(--s0); } .dot.s1 { fill: var(--s1); }
line.mark { stroke: var(--mark); stroke-width: 1.5; stroke-dasharray: 2 4; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .1rem 1rem; padding: 0; margin: .3rem 0 0;
  font-size: .85rem; color: var(--soft); }
.key { display: inline-block; width: 1.2em; margin-right: .4em; vertical-align: middle;
  border-top: 3px solid var(--s0); }
.key.s1 { border-color: var(--s1); } .key.mark { border-top: 2px dotted var(--mark); }
footer { margin-top: 2rem; border-top: 1px solid var(--line); padding-top: .8rem; }
@media print { body { max-width: none; } nav { display: none; } }
"""

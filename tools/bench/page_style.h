// The style sheet of a report: colours of light, dark and printed pages, marks of the drawings. No
// '<' and no '&' inside, so that the page is XML as well.
//
// The eight series colours are Okabe and Ito's (2008), which people with colour-blindness can tell
// apart: yellow is left out, as lines of it vanish on white; on dark pages they are lightened.
#pragma once

#include <string_view>

namespace engram::tools::bench {

inline constexpr std::string_view kPageStyle = R"(
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1b1b1b; --faint: #666666;
  --rule: #d9d9d9; --panel: #f6f6f6; --alarm: #8a2a00; --alarm-paper: #fff0e6;
  --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #b0568f; --c4: #b07c00; --c5: #2b95c9;
  --c6: #5b4b9a; --c7: #555555; --wait: #c4c4c4; --h0: #9cc7e8; --h1: #4f97cf; --h2: #22699f;
  --h3: #e8b64c; --h4: #e07b1f; --h5: #b8321a; --h6: #5e0d1f; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171a; --ink: #e8e8e8;
  --faint: #a8a8a8; --rule: #3a3f44; --panel: #1d2125; --alarm: #ffb38a; --alarm-paper: #3a2114;
  --c0: #4fa8e0; --c1: #ff8a3d; --c2: #2fcf9f; --c3: #e59cc8; --c4: #f0bd45; --c5: #9fd8f7;
  --c6: #b3a4f0; --c7: #c0c0c0; --wait: #5a5f64; --h0: #24587f; --h1: #3f86bd; --h2: #8cc3ec;
  --h3: #f0c860; --h4: #f09038; --h5: #f0583a; --h6: #ffb0c0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 1500px; background: var(--paper);
  color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.25rem; margin: 2rem 0 0.5rem;
  border-bottom: 1px solid var(--rule); } h3 { font-size: 1rem; margin: 0 0 0.25rem; }
figure { margin: 0; padding: 0.8rem; border: 1px solid var(--rule); border-radius: 6px;
  min-width: 0; break-inside: avoid; }
.figures { display: grid; gap: 1rem; margin: 1rem 0; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 540px), 1fr)); }
.scroll { overflow-x: auto; }
.note, .missing { color: var(--faint); margin: 0 0 0.4rem; font-size: 0.9rem; }
.missing { margin: 0.6rem 0; grid-column: 1 / -1; }
.warning { color: var(--alarm); background: var(--alarm-paper); font-weight: 600;
  border-left: 4px solid var(--alarm); padding: 0.4rem 0.7rem; margin: 0.5rem 0; }
.legend { display: flex; flex-wrap: wrap; gap: 0.1rem 1rem; font-size: 0.87rem; }
.key { display: inline-flex; align-items: center; gap: 0.35rem; overflow-wrap: anywhere; }
.key svg { flex: none; }
table { border-collapse: collapse; font-size: 0.87rem; }
th, td { border: 1px solid var(--rule); padding: 0.15rem 0.5rem; text-align: left;
  vertical-align: top; }
th { background: var(--panel); } td.n { text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; } td.long { white-space: normal; min-width: 8.8rem; }
td:first-child { min-width: 13rem; }
td.bad { color: var(--alarm); background: var(--alarm-paper); font-weight: 600; }
details { margin: 0.5rem 0; } summary { cursor: pointer; color: var(--faint); }
svg.plot { display: block; width: 100%; min-width: 440px; max-width: 760px; height: auto; }
svg text { font: 13px system-ui, sans-serif; fill: var(--ink); }
svg .grid { stroke: var(--rule); stroke-width: 1; fill: none; }
svg .frame { stroke: var(--faint); stroke-width: 1; fill: none; }
svg .zero { stroke: var(--ink); stroke-width: 1.2; }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg .dash1 { stroke-dasharray: 6 4; } svg .dash2 { stroke-dasharray: 2 3; }
svg .open { fill: var(--paper); }
svg .bar { stroke: var(--paper); stroke-width: 0.5; }
svg .halo text { paint-order: stroke; stroke: var(--paper); stroke-width: 4px; }
svg .wash { fill-opacity: 0.18; stroke: none; }
.l0 { stroke: var(--c0); } .l1 { stroke: var(--c1); } .l2 { stroke: var(--c2); }
.l3 { stroke: var(--c3); } .l4 { stroke: var(--c4); } .l5 { stroke: var(--c5); }
.l6 { stroke: var(--c6); } .l7 { stroke: var(--c7); }
.f0 { fill: var(--c0); } .f1 { fill: var(--c1); } .f2 { fill: var(--c2); }
.f3 { fill: var(--c3); } .f4 { fill: var(--c4); } .f5 { fill: var(--c5); }
.f6 { fill: var(--c6); } .f7 { fill: var(--c7); }
.h0 { fill: var(--h0); } .h1 { fill: var(--h1); } .h2 { fill: var(--h2); } .h3 { fill: var(--h3); }
.h4 { fill: var(--h4); } .h5 { fill: var(--h5); } .h6 { fill: var(--h6); }
.wait { fill: var(--wait); }
@media print { :root { color-scheme: light; --paper: #ffffff; --ink: #000000; --faint: #444444;
  --rule: #bbbbbb; --panel: #f2f2f2; --alarm: #8a2a00; --alarm-paper: #ffffff;
  --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #b0568f; --c4: #b07c00; --c5: #2b95c9;
  --c6: #5b4b9a; --c7: #555555; --wait: #c4c4c4; --h0: #9cc7e8; --h1: #4f97cf; --h2: #22699f;
  --h3: #e8b64c; --h4: #e07b1f; --h5: #b8321a; --h6: #5e0d1f; }
  body { max-width: none; padding: 0; font-size: 11px; } .scroll { overflow: visible; }
  svg.plot { min-width: 0; } table { font-size: 9px; } td:first-child, td.long { min-width: 0; }
  * { print-color-adjust: exact; } }
)";

}  // namespace engram::tools::bench

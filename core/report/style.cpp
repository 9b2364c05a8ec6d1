#include "core/report/style.h"

namespace faultline::report {

// Colours: this run blue, the paired run grey, own GPUs red, collateral ones amber; distinguishable without red-green
// vision.
const std::string_view kStyle = R"css(
:root{color-scheme:light dark;--ground:#fff;--panel:#f6f7f9;--ink:#1b2430;--soft:#5c6773;--faint:#d9dee5;
--run:#2563c9;--paired:#8d97a5;--own:#c2341d;--collateral:#eda63b;--missing:#e8694a;--bad:#b3261e;--good:#1f7a4d}
@media (prefers-color-scheme:dark){:root{--ground:#12161c;--panel:#1a2028;--ink:#e4e8ee;--soft:#9aa5b3;--faint:#303945;
--run:#6ea3f7;--paired:#7c8796;--own:#f0705a;--collateral:#e0a040;--missing:#f08465;--bad:#ff8a80;--good:#6fce9f}}
*{box-sizing:border-box}
body{margin:0 auto;padding:28px 20px 60px;max-width:920px;background:var(--ground);color:var(--ink);
font:15px/1.5 system-ui,"Segoe UI",Roboto,"Helvetica Neue",Arial,"DejaVu Sans",sans-serif}
h1{font-size:25px;line-height:1.25;margin:0;overflow-wrap:anywhere}
h2{font-size:18px;margin:36px 0 8px;padding-top:14px;border-top:1px solid var(--faint);overflow-wrap:anywhere}
body>section:first-child h2{border:0;margin-top:0;font-size:22px}
p{margin:6px 0 12px}
.soft{color:var(--soft)}
.bad{color:var(--bad)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(160px,1fr));gap:10px;margin:18px 0}
.tile{background:var(--panel);border-radius:8px;padding:10px 14px}
.tile b{display:block;font-size:20px;line-height:1.3;font-weight:600;white-space:nowrap}
.tile span{color:var(--soft);font-size:13px}
table{border-collapse:collapse;width:100%;margin:8px 0 16px;font-size:14px;font-variant-numeric:tabular-nums}
th,td{padding:5px 10px 5px 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--faint);overflow-wrap:break-word}
th{font-weight:500;color:var(--soft);vertical-align:bottom}
td:first-child,th:first-child{min-width:8em}
td.n,th.n{text-align:right;padding-right:16px;white-space:nowrap}
td.n:last-child,th.n:last-child{padding-right:0}
th.n{white-space:normal}
.scroll{overflow-x:auto}
figure{margin:20px 0}
figcaption{display:flex;flex-wrap:wrap;gap:2px 14px;align-items:baseline;margin-bottom:4px}
.unit{color:var(--soft);font-size:13px}
.legend{margin-left:auto;display:flex;flex-wrap:wrap;gap:2px 14px;color:var(--soft);font-size:13px}
.legend i{display:inline-block;width:11px;height:11px;border-radius:2px;margin-right:5px;vertical-align:-1px}
i.run{background:var(--run)}i.paired{background:var(--paired)}i.own{background:var(--own)}
i.collateral{background:var(--collateral)}i.missing{background:var(--missing);opacity:.35}
svg{display:block;width:100%;height:auto}
svg text{font-size:12px;fill:var(--soft)}
svg text.value,svg text.row{fill:var(--ink)}
.grid{stroke:var(--faint);stroke-width:1}
.line{fill:none;stroke-width:1.8;stroke-linejoin:round}
.line.run{stroke:var(--run)}.line.paired{stroke:var(--paired)}
.area.own,rect.own{fill:var(--own)}.area.collateral,rect.collateral{fill:var(--collateral)}
.area.missing{fill:var(--missing);opacity:.28}
rect.run,circle.run{fill:var(--run)}rect.paired{fill:var(--paired)}
.fault{stroke:var(--own);stroke-width:1.2;stroke-dasharray:4 3}
svg text.fault-label{fill:var(--own)}
ul{margin:6px 0 12px;padding-left:20px}
pre{background:var(--panel);border-radius:8px;padding:12px 14px;overflow-x:auto;font:12.5px/1.45 ui-monospace,"DejaVu Sans Mono",Menlo,monospace}
summary{cursor:pointer;color:var(--soft)}
@media print{:root{--ground:#fff;--panel:#f3f4f6;--ink:#000;--soft:#444;--faint:#ccc;--run:#1d4fa3;--paired:#888;--own:#b02a17;
--collateral:#e09a2d;--missing:#e8694a;--bad:#b3261e;--good:#1f7a4d}
body{max-width:none;padding:0;font-size:11pt;print-color-adjust:exact;-webkit-print-color-adjust:exact}
figure{margin:9px 0}.tiles{margin:9px 0}.tile{padding:5px 10px}.tile b{font-size:13pt}figure,.tile,tr{break-inside:avoid}h2{break-after:avoid}pre{white-space:pre-wrap}}
)css";

}  // namespace faultline::report

-- How a report looks, and the little that moves in it.

local M = {}

M.STYLE = [[
:root{--ink:#16202b;--quiet:#5b6875;--line:#dfe5ea;--page:#f5f7f9;--card:#fff;--accent:#0b6bcb;--warm:#d9480f;--bad:#f1b8a5;--none:#eef1f4;
--h0:#eaf2fb;--h1:#d0e3f7;--h2:#a9ccf0;--h3:#79afe6;--h4:#4a8fd9;--h5:#1f6fc4;--h6:#0a4f9e}
@media(prefers-color-scheme:dark){:root{--ink:#e6ebf0;--quiet:#97a4b1;--line:#2d3843;--page:#10161c;--card:#182129;--accent:#6db3ff;--warm:#ff9b6a;--bad:#7a3a28;--none:#202a33;
--h0:#1b2a3a;--h1:#1f3853;--h2:#234a72;--h3:#2a6198;--h4:#3a7fc0;--h5:#62a5e3;--h6:#a5d0fa}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1500px;margin:0 auto;padding:28px 24px 60px}h1{font-size:28px;margin:0 0 4px}h2{font-size:20px;margin:40px 0 12px}h2 small{font-weight:400;color:var(--quiet);font-size:14px;margin-left:8px}
h3{font-size:17px;margin:0}.lead,.quiet{color:var(--quiet)}.quiet{font-size:13px}p{margin:6px 0}a{color:var(--accent)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(430px,100%),1fr));gap:18px;align-items:start}
article,.panel{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:18px 20px}article header{display:flex;gap:10px;align-items:center;justify-content:space-between}
.facts{font-size:12.5px;color:var(--quiet);display:flex;flex-wrap:wrap;gap:2px 14px}.facts b{color:var(--ink);font-weight:600}
.badge{font-size:11.5px;padding:2px 9px;border-radius:20px;border:1px solid currentColor;white-space:nowrap}.badge.measured{color:var(--accent)}.badge.predicted{color:var(--warm)}
.pick{display:flex;align-items:baseline;gap:0 16px;margin-top:10px;flex-wrap:wrap}.big{font-size:34px;font-weight:650;font-variant-numeric:tabular-nums}.tile{font:13px ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace}
.pick .tile{flex-basis:100%}.meter{height:8px;border-radius:4px;background:var(--none);overflow:hidden;margin-top:8px}.meter span{display:block;height:100%;background:var(--accent)}
.why{border-left:3px solid var(--accent);padding-left:10px;font-size:14px;margin:10px 0}
figure{margin:22px 0 0}figcaption{font-size:13px;font-weight:600;margin-bottom:6px}svg{width:100%;height:auto;display:block}
.tick{font-size:11px;fill:var(--quiet)}.name{font-size:11.5px;fill:var(--quiet)}.grid{stroke:var(--line)}.axis{stroke:var(--quiet)}
.dot{fill:var(--h4);fill-opacity:.55}.dot.top{fill:var(--warm);fill-opacity:1;stroke:var(--card);stroke-width:1}.ideal{stroke:var(--quiet);stroke-dasharray:4 4}.best{fill:none;stroke:var(--warm);stroke-width:2}.cross{stroke:var(--warm);stroke-width:1.4;fill:none}
.heat rect.top{stroke:var(--warm);stroke-width:2.5}.bad{fill:var(--bad);background:var(--bad)}.none{fill:var(--none);background:var(--none)}.cell{font-size:11px;font-variant-numeric:tabular-nums;fill:var(--ink);pointer-events:none}
.h0{fill:var(--h0);background:var(--h0)}.h1{fill:var(--h1);background:var(--h1)}.h2{fill:var(--h2);background:var(--h2)}.h3{fill:var(--h3);background:var(--h3)}.h4{fill:var(--h4);background:var(--h4)}.h5{fill:var(--h5);background:var(--h5)}.h6{fill:var(--h6);background:var(--h6)}
.t0,.t1,.t2,.t3{fill:#16202b;color:#16202b}.t4,.t5,.t6{fill:#fff;color:#fff}
@media(prefers-color-scheme:dark){.t0,.t1,.t2,.t3{fill:#e6ebf0;color:#e6ebf0}.t4{fill:#fff;color:#fff}.t5,.t6{fill:#10161c;color:#10161c}}
table{border-collapse:collapse;font-size:13.5px}th{text-align:left;font-weight:600}.num{text-align:right;font-variant-numeric:tabular-nums}
.effects th{padding:3px 12px 3px 0;font:13px ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace}.effects td{padding:2px 0}.chip{display:inline-block;min-width:46px;text-align:center;padding:2px 6px;margin:1px 3px 1px 0;border-radius:5px;font-variant-numeric:tabular-nums;line-height:1.25}
.chip small{display:block;font-size:10.5px;opacity:.85}.chip.gone{background:var(--none);color:var(--quiet)}
.bars{width:100%}.bars th{font-weight:400;white-space:nowrap;padding:2px 10px 2px 0}.bars td:nth-child(2){width:100%}.bar{display:block;height:12px;border-radius:3px;min-width:2px}.bar.cut{background:var(--h2)}.bar.fail{background:var(--warm)}.bars .num{padding-left:10px}
.message{font-size:12.5px;color:var(--quiet);overflow-wrap:anywhere}.message b{color:var(--warm)}
.scroll{overflow-x:auto}.overview{width:100%;background:var(--card);border:1px solid var(--line);border-radius:12px;border-collapse:separate;border-spacing:0}.overview th,.overview td{padding:8px 12px;border-top:1px solid var(--line);vertical-align:top}.overview tr:first-child th{border-top:0;color:var(--quiet);font-weight:600;font-size:12.5px}.overview small{color:var(--quiet)}
details{margin-top:12px}summary{cursor:pointer;font-size:13.5px;color:var(--accent)}.trials{font-size:12.5px;margin-top:8px}.trials th,.trials td{padding:2px 10px;border-bottom:1px solid var(--line);white-space:nowrap}.trials th{cursor:pointer;position:sticky;top:0;background:var(--page)}
.legend{display:flex;gap:6px;align-items:center;flex-wrap:wrap;font-size:12.5px;color:var(--quiet)}.legend i{display:inline-block;width:22px;height:12px;border-radius:3px}
]]

-- Tables of trials are sorted by a click on a column's head.
M.SCRIPT = [[
document.querySelectorAll('table.trials th').forEach(function(th){th.addEventListener('click',function(){
var body=th.closest('table').tBodies[0],i=th.cellIndex,up=th.dataset.up!=='1';th.dataset.up=up?'1':'0';
Array.from(body.rows).sort(function(a,b){var x=a.cells[i].textContent,y=b.cells[i].textContent,p=parseFloat(x),q=parseFloat(y);
if(x===''||y==='')return x===y?0:x===''?1:-1;var d=isNaN(p)||isNaN(q)?x.localeCompare(y):p-q;return up?d:-d}).forEach(function(r){body.appendChild(r)})})});
]]

return M

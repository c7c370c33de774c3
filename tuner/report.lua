-- One page about tuning: what was tried for each problem on each GPU, how long it took, what failed and why, and what the prediction was
-- worth. The page stands alone: style and drawings are in it, nothing is fetched. tuner/report.c brings the data:
--
--   { made = "2026-11-24", model = "...", studies = { {
--       gpu, title, facts = { {name, value}, ... }, kernel, shape, sizes, measured = bool, limit_ms, total, valid,
--       cuts = { {name, configs}, ... }, tile = { names },
--       trials = { { c = { values }, v = "correct", ms, spread, predicted, regs, spills, blocks, percent, message }, ... },
--       pick = { c = { values }, ms, limit, why } }, ... } }
--
-- Trials are in the order in which they were made. Of a GPU that was not there (measured = false) they are all valid configs, and ms is
-- the predicted time.

local M = {}

---------------------------------------------------------------------------------------------------- words and numbers

local function esc(s)
  return (tostring(s):gsub("[&<>\"]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }))
end

local function ms_text(ms)
  if ms >= 100 then return ("%.0f"):format(ms) end
  if ms >= 10 then return ("%.1f"):format(ms) end
  if ms >= 1 then return ("%.2f"):format(ms) end
  return ("%.3f"):format(ms)
end

local function good(t) return t.v == "correct" and t.ms and t.ms > 0 end

local function config_text(study, c)
  local out = {}
  for i, name in ipairs(study.tile) do out[i] = name .. " " .. tostring(c[i]) end
  return table.concat(out, ", ")
end

-- Text of a page under construction.
local function buffer()
  local lines = {}
  return {
    add = function(...) lines[#lines + 1] = string.format(...) end,
    raw = function(text) lines[#lines + 1] = text end,
    text = function() return table.concat(lines, "\n") end,
  }
end

---------------------------------------------------------------------------------------------------- drawing

-- Shades of a heat map, from the palest: the least share of the best that has it. Finer near the best, where the choice is.
local SHADES = { 0, 0.5, 0.65, 0.78, 0.87, 0.93, 0.97 }

local function shade(best, ms)
  local s = 0
  for i, share in ipairs(SHADES) do
    if best / ms >= share then s = i - 1 end
  end
  return s
end

-- A scale from values to pixels, linear or logarithmic, with its ticks.
local function scale(low, high, from, to, logarithmic)
  local map = logarithmic and math.log or function(v) return v end
  if high <= low then low, high = low * 0.9, high * 1.1 + 1e-9 end
  local a, b = map(low), map(high)
  local s = { low = low, high = high }
  function s.at(v) return from + (map(math.max(low, math.min(high, v))) - a) / (b - a) * (to - from) end
  s.ticks = {}
  if logarithmic then
    local decade = 10 ^ math.floor(math.log(low, 10))
    while decade <= high do
      for _, m in ipairs { 1, 2, 5 } do
        local v = decade * m
        if v >= low * 0.999 and v <= high * 1.001 then s.ticks[#s.ticks + 1] = v end
      end
      decade = decade * 10
    end
  end
  if #s.ticks < 2 then
    s.ticks = {}
    local raw = (high - low) / 4
    local unit = 10 ^ math.floor(math.log(raw, 10))
    for _, m in ipairs { 1, 2, 5, 10 } do
      if unit * m >= raw then unit = unit * m break end
    end
    local v = math.ceil(low / unit) * unit
    while v <= high * 1.0001 do
      s.ticks[#s.ticks + 1], v = v, v + unit
    end
  end
  return s
end

local function tick_text(v)
  local t = ("%.4g"):format(v)
  return t
end

local WIDE, HIGH = 380, 230 -- of a chart
local LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 38

-- A chart with axes; draw(out, x, y) fills it.
local function chart(out, title, x, y, x_title, y_title, draw)
  out.add('<figure><figcaption>%s</figcaption><svg viewBox="0 0 %d %d" role="img" aria-label="%s">', esc(title), WIDE, HIGH, esc(title))
  for _, v in ipairs(y.ticks) do
    local at = y.at(v)
    out.add('<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/><text class="tick" x="%d" y="%.1f" text-anchor="end">%s</text>',
      LEFT, WIDE - RIGHT, at, at, LEFT - 6, at + 3.5, tick_text(v))
  end
  for _, v in ipairs(x.ticks) do
    out.add('<text class="tick" x="%.1f" y="%d" text-anchor="middle">%s</text>', x.at(v), HIGH - BOTTOM + 15, tick_text(v))
  end
  out.add('<line class="axis" x1="%d" x2="%d" y1="%d" y2="%d"/>', LEFT, WIDE - RIGHT, HIGH - BOTTOM, HIGH - BOTTOM)
  out.add('<text class="name" x="%.1f" y="%d" text-anchor="middle">%s</text>', (LEFT + WIDE - RIGHT) / 2, HIGH - 5, esc(x_title))
  out.add('<text class="name" transform="translate(11 %.1f) rotate(-90)" text-anchor="middle">%s</text>', (TOP + HIGH - BOTTOM) / 2, esc(y_title))
  draw(out, x, y)
  out.raw("</svg></figure>")
end

local function x_scale(low, high, logarithmic) return scale(low, high, LEFT + 6, WIDE - RIGHT - 6, logarithmic) end
local function y_scale(low, high, logarithmic) return scale(low, high, HIGH - BOTTOM - 4, TOP + 4, logarithmic) end

local function dot(out, class, x, y, tip)
  out.add('<circle class="%s" cx="%.1f" cy="%.1f" r="3"><title>%s</title></circle>', class, x, y, esc(tip))
end

---------------------------------------------------------------------------------------------------- what a study says

-- Best time by the value of parameter i: value -> ms.
local function best_by(study, i)
  local best = {}
  for _, t in ipairs(study.trials) do
    if good(t) then
      local v = t.c[i]
      if not best[v] or t.ms < best[v] then best[v] = t.ms end
    end
  end
  return best
end

local function values_of(study, i)
  local seen, out = {}, {}
  for _, t in ipairs(study.trials) do
    if not seen[t.c[i]] then
      seen[t.c[i]] = true
      out[#out + 1] = t.c[i]
    end
  end
  table.sort(out)
  return out
end

-- How much a parameter matters: the worst of its values over the best one, at their best.
local function effect(study, i)
  local low, high, n = math.huge, 0, 0
  for _, ms in pairs(best_by(study, i)) do low, high, n = math.min(low, ms), math.max(high, ms), n + 1 end
  return n > 1 and high / low or 1
end

-- The two parameters that matter most over all GPUs of a problem, in the order of the name.
local function map_axes(studies)
  local sum = {}
  for i = 1, #studies[1].tile do
    sum[i] = { i = i, e = 0 }
    for _, s in ipairs(studies) do sum[i].e = sum[i].e + effect(s, i) end
  end
  table.sort(sum, function(a, b) return a.e ~= b.e and a.e > b.e or a.e == b.e and a.i < b.i end)
  if #sum < 2 then return 1, nil end
  local a, b = sum[1].i, sum[2].i
  return math.min(a, b), math.max(a, b)
end

local function summarise(study)
  local n = { correct = 0, failed = 0, causes = {} }
  for _, t in ipairs(study.trials) do
    if good(t) then
      n.correct = n.correct + 1
      if not n.best or t.ms < n.best.ms then n.best = t end
    elseif t.v ~= "constraints" then
      n.failed = n.failed + 1
      n.causes[t.v] = (n.causes[t.v] or 0) + 1
    end
  end
  return n
end

---------------------------------------------------------------------------------------------------- parts of a card

local CELL_W, CELL_H = 46, 30

local function union_values(studies, i)
  local seen, out = {}, {}
  for _, s in ipairs(studies) do
    for _, v in ipairs(values_of(s, i)) do
      if not seen[v] then
        seen[v] = true
        out[#out + 1] = v
      end
    end
  end
  table.sort(out)
  return out
end

-- Best time for each pair of values of the two axes; the same rows and columns on every GPU of the problem.
local function heat_map(out, study, n, a, b, rows, columns)
  local best, tip, tried = {}, {}, {}
  for _, t in ipairs(study.trials) do
    local key = t.c[a] .. "/" .. (b and t.c[b] or "")
    tried[key] = tried[key] or t.v
    if good(t) and (not best[key] or t.ms < best[key]) then best[key], tip[key] = t.ms, t end
  end
  local x0, y0 = 54, 20
  out.add('<figure><figcaption>Best time in ms by %s and %s</figcaption>', esc(study.tile[a]), esc(b and study.tile[b] or "nothing else"))
  out.add('<svg viewBox="0 0 %d %d" class="heat" role="img" aria-label="heat map" style="max-width:%dpx">', x0 + #columns * CELL_W + 4, y0 + #rows * CELL_H + 24,
    x0 + #columns * CELL_W + 4)
  for j, v in ipairs(columns) do
    out.add('<text class="tick" x="%.1f" y="%d" text-anchor="middle">%s</text>', x0 + (j - 0.5) * CELL_W, y0 - 6, esc(v))
  end
  for i, r in ipairs(rows) do
    local y = y0 + (i - 1) * CELL_H
    out.add('<text class="tick" x="%d" y="%.1f" text-anchor="end">%s %s</text>', x0 - 6, y + CELL_H / 2 + 4, esc(study.tile[a]), esc(r))
    for j, v in ipairs(columns) do
      local key, x = r .. "/" .. (b and v or ""), x0 + (j - 1) * CELL_W
      local ms = best[key]
      if ms then
        local s = shade(n.best.ms, ms)
        out.add('<g><title>%s: %s ms, %.0f %% of the best</title><rect class="h%d%s" x="%d" y="%d" width="%d" height="%d" rx="3"/>' ..
          '<text class="cell t%d" x="%.1f" y="%.1f" text-anchor="middle">%s</text></g>', esc(config_text(study, tip[key].c)), ms_text(ms),
          100 * n.best.ms / ms, s, tip[key] == n.best and " top" or "", x + 1, y + 1, CELL_W - 2, CELL_H - 2, s, x + CELL_W / 2,
          y + CELL_H / 2 + 4, ms_text(ms))
      else
        local why = tried[key] and ("failed: " .. tried[key]) or "no valid config"
        out.add('<g><title>%s</title><rect class="%s" x="%d" y="%d" width="%d" height="%d" rx="3"/></g>', esc(why),
          tried[key] and "bad" or "none", x + 1, y + 1, CELL_W - 2, CELL_H - 2)
      end
    end
  end
  out.add('<text class="name" x="%.1f" y="%d" text-anchor="middle">%s</text>', x0 + #columns * CELL_W / 2, y0 + #rows * CELL_H + 17,
    esc(b and study.tile[b] or ""))
  out.raw("</svg></figure>")
end

-- A row of bars for each parameter: the best time that each of its values allows.
local function effects(out, study, n)
  out.raw('<figure><figcaption>What each value costs against the best</figcaption><table class="effects">')
  for i, name in ipairs(study.tile) do
    local best, values = best_by(study, i), values_of(study, i)
    if #values > 1 then
      out.add("<tr><th>%s</th><td>", esc(name))
      for _, v in ipairs(values) do
        if best[v] then
          local over = best[v] / n.best.ms - 1
          out.add('<span class="chip h%d t%d" title="%s = %s: %s ms">%s<small>%s</small></span>', shade(n.best.ms, best[v]), shade(n.best.ms, best[v]),
            esc(name), esc(v), ms_text(best[v]), esc(v), over < 0.0005 and "best" or ("+%.0f&#8201;%%"):format(100 * over))
        else
          out.add('<span class="chip gone" title="no config with it is correct">%s<small>none</small></span>', esc(v))
        end
      end
      out.raw("</td></tr>")
    end
  end
  out.raw("</table></figure>")
end

local function limit_chart(out, study, n)
  local most = 0
  for _, t in ipairs(study.trials) do
    if good(t) then most = math.max(most, study.limit_ms / t.ms) end
  end
  chart(out, "Fraction of the GPU's limit by occupancy", x_scale(0, 100), y_scale(0, math.max(0.1, math.min(1, most * 1.1))), "% of a multiprocessor's warps", "of the limit",
    function(o, x, y)
      for _, t in ipairs(study.trials) do
        if good(t) and t.percent then
          dot(o, t == n.best and "dot top" or "dot", x.at(t.percent), y.at(study.limit_ms / t.ms),
            ("%s: %s ms, %d blocks an SM, %.0f %% of the limit"):format(config_text(study, t.c), ms_text(t.ms), t.blocks or 0, 100 * study.limit_ms / t.ms))
        end
      end
    end)
end

local CAUSES = {
  compile = "does not compile", runtime = "crashes", correctness = "wrong result", timeout = "hangs", constraints = "restriction",
}

local function failures(out, study, n)
  local rows = {}
  for _, cut in ipairs(study.cuts) do rows[#rows + 1] = { "restriction " .. cut[1], cut[2], "cut" } end
  for _, cause in ipairs { "compile", "runtime", "correctness", "timeout" } do
    if n.causes[cause] then rows[#rows + 1] = { CAUSES[cause], n.causes[cause], "fail" } end
  end
  out.add('<figure><figcaption>Of %d combinations %d are valid; what refuses or fails the others</figcaption><table class="bars">', study.total, study.valid)
  local most = 1
  for _, r in ipairs(rows) do most = math.max(most, r[2]) end
  for _, r in ipairs(rows) do
    out.add('<tr><th>%s</th><td><span class="bar %s" style="width:%.1f%%"></span></td><td class="num">%d</td></tr>', esc(r[1]), r[3], 100 * r[2] / most, r[2])
  end
  if n.failed == 0 then out.raw('<tr><th colspan="3" class="quiet">no config that was tried failed</th></tr>') end
  out.raw("</table>")
  local shown = 0
  for _, t in ipairs(study.trials) do
    if not good(t) and t.v ~= "constraints" and shown < 5 then
      shown = shown + 1
      out.add('<p class="message"><b>%s</b> %s: %s</p>', esc(CAUSES[t.v] or t.v), esc(config_text(study, t.c)), esc(t.message or ""))
    end
  end
  out.raw("</figure>")
end

local function scatter(out, study, n)
  local low, high = math.huge, 0
  for _, t in ipairs(study.trials) do
    if good(t) and t.predicted and t.predicted > 0 then
      low, high = math.min(low, t.ms, t.predicted), math.max(high, t.ms, t.predicted)
    end
  end
  if high == 0 then return end
  local title = "Predicted against measured"
  if study.worth then title = ("%s: rank correlation %.2f near the best, regret %.1f %%"):format(title, study.worth.spearman, 100 * study.worth.regret) end
  chart(out, title, x_scale(low * 0.95, high * 1.05, true), y_scale(low * 0.95, high * 1.05, true), "measured ms", "predicted ms", function(o, x, y)
    o.add('<line class="ideal" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>', x.at(low), y.at(low), x.at(high), y.at(high))
    for _, t in ipairs(study.trials) do
      if good(t) and t.predicted and t.predicted > 0 then
        dot(o, t == n.best and "dot top" or "dot", x.at(t.ms), y.at(t.predicted),
          ("%s: measured %s, predicted %s ms"):format(config_text(study, t.c), ms_text(t.ms), ms_text(t.predicted)))
      end
    end
  end)
end

local function path(out, study, n)
  local high = 0
  for _, t in ipairs(study.trials) do
    if good(t) then high = math.max(high, t.ms) end
  end
  high = math.min(high, 4 * n.best.ms)
  chart(out, "The search: every trial, and the best so far", x_scale(0, #study.trials), y_scale(n.best.ms * 0.95, high, true), "trial", "ms", function(o, x, y)
    local best, line = math.huge, {}
    for i, t in ipairs(study.trials) do
      if good(t) then
        dot(o, t == n.best and "dot top" or "dot", x.at(i), y.at(t.ms), ("trial %d, %s: %s ms"):format(i, config_text(study, t.c), ms_text(t.ms)))
        if t.ms < best then
          if best < math.huge then line[#line + 1] = ("%.1f,%.1f"):format(x.at(i), y.at(best)) end
          best = t.ms
          line[#line + 1] = ("%.1f,%.1f"):format(x.at(i), y.at(best))
        end
      elseif t.v ~= "constraints" then
        o.add('<path class="cross" d="M%.1f %.1fl5 5m0 -5l-5 5"><title>trial %d, %s: %s</title></path>', x.at(i) - 2.5, TOP, i, esc(config_text(study, t.c)),
          esc(CAUSES[t.v] or t.v))
      end
    end
    line[#line + 1] = ("%.1f,%.1f"):format(x.at(#study.trials), y.at(best))
    o.add('<polyline class="best" points="%s"/>', table.concat(line, " "))
  end)
end

---------------------------------------------------------------------------------------------------- the page

local function facts_line(study)
  local out = {}
  for i, f in ipairs(study.facts) do out[i] = ("<span>%s <b>%s</b></span>"):format(esc(f[1]), esc(f[2])) end
  return table.concat(out, "")
end

local function card(out, study, studies, a, b, rows, columns)
  local n = summarise(study)
  out.add('<article><header><h3>%s</h3><span class="badge %s">%s</span></header><p class="facts">%s</p>', esc(study.title), study.measured and "measured" or "predicted",
    study.measured and "measured" or "predicted", facts_line(study))
  if not n.best then
    out.raw('<p class="quiet">No config has a time.</p>')
    failures(out, study, n)
    out.raw("</article>")
    return
  end
  local pick = study.pick or n.best
  local share = study.limit_ms / pick.ms
  out.add('<div class="pick"><div><span class="big">%s</span> ms</div><div class="tile">%s</div></div>', ms_text(pick.ms), esc(config_text(study, pick.c)))
  out.add('<div class="meter" title="%.0f %% of what the GPU could do at the most"><span style="width:%.1f%%"></span></div><p class="quiet">%.0f&#8201;%% of the limit of %s ms%s</p>',
    100 * share, math.min(100, 100 * share), 100 * share, ms_text(study.limit_ms),
    study.measured and ("; %d trials, %d failed"):format(#study.trials, n.failed) or ("; %d configs predicted"):format(n.correct))
  if study.pick and study.pick.why then out.add('<p class="why">%s</p>', esc(study.pick.why)) end
  heat_map(out, study, n, a, b, rows, columns)
  effects(out, study, n)
  limit_chart(out, study, n)
  if study.measured then
    scatter(out, study, n)
    path(out, study, n)
  end
  failures(out, study, n)
  out.raw("</article>")
end

local function problem_title(s)
  return ("%s <small>%s &middot; %s</small>"):format(esc(s.kernel), esc(s.shape), esc(s.sizes))
end

local function group(studies)
  local order, by = {}, {}
  for _, s in ipairs(studies) do
    local key = s.kernel .. "|" .. s.shape .. "|" .. s.sizes
    if not by[key] then
      by[key] = {}
      order[#order + 1] = by[key]
    end
    table.insert(by[key], s)
  end
  return order
end

local function overview(out, groups)
  out.raw('<section><h2>Overview</h2><div class="scroll"><table class="overview"><tr><th>problem</th><th>GPU</th><th>best tile</th><th class="num">ms</th><th class="num">of the limit</th><th class="num">tried</th><th class="num">failed</th><th></th></tr>')
  for g, studies in ipairs(groups) do
    for i, s in ipairs(studies) do
      local n = summarise(s)
      local pick = s.pick or n.best
      out.add('<tr><td>%s</td><td>%s</td>', i == 1 and ('<a href="#p%d">%s</a><br><small>%s &middot; %s</small>'):format(g, esc(s.kernel), esc(s.shape), esc(s.sizes)) or "", esc(s.gpu))
      if pick then
        out.add('<td class="tile">%s</td><td class="num">%s</td><td class="num">%.0f&#8201;%%</td>', esc(config_text(s, pick.c)), ms_text(pick.ms), 100 * s.limit_ms / pick.ms)
      else
        out.raw('<td class="quiet">none</td><td></td><td></td>')
      end
      out.add('<td class="num">%d</td><td class="num">%d</td><td><span class="badge %s">%s</span></td></tr>', #s.trials, n.failed, s.measured and "measured" or "predicted",
        s.measured and "measured" or "predicted")
    end
  end
  out.raw("</table></div></section>")
end

-- Every trial as a table that opens when it is wanted.
local function all_trials(out, studies)
  for _, s in ipairs(studies) do
    out.add('<details><summary>All %d %s of %s</summary><div class="scroll"><table class="trials"><thead><tr>', #s.trials, s.measured and "trials" or "predictions", esc(s.gpu))
    for _, name in ipairs(s.tile) do out.add('<th class="num">%s</th>', esc(name)) end
    out.raw('<th class="num">ms</th><th class="num">&plusmn;</th><th class="num">predicted</th><th class="num">registers</th><th class="num">spills</th><th class="num">blocks</th><th>result</th></tr></thead><tbody>')
    for _, t in ipairs(s.trials) do
      local cells = {}
      for i = 1, #s.tile do cells[i] = '<td class="num">' .. esc(t.c[i]) .. "</td>" end
      local function number(v, format)
        cells[#cells + 1] = '<td class="num">' .. (v and format:format(v) or "") .. "</td>"
      end
      number(good(t) and t.ms or nil, "%.4f")
      number(t.spread, "%.4f")
      number(t.predicted, "%.4f")
      number(t.regs, "%d")
      number(t.spills, "%d")
      number(t.blocks, "%d")
      out.add("<tr>%s<td>%s</td></tr>", table.concat(cells), esc(t.v == "correct" and (s.measured and "correct" or "predicted") or (CAUSES[t.v] or t.v) .. (t.message and ": " .. t.message or "")))
    end
    out.raw("</tbody></table></div></details>")
  end
end

local STYLE = [[
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
.pick{display:flex;align-items:baseline;gap:16px;margin-top:10px;flex-wrap:wrap}.big{font-size:34px;font-weight:650;font-variant-numeric:tabular-nums}.tile{font:13px ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace}
.meter{height:8px;border-radius:4px;background:var(--none);overflow:hidden;margin-top:8px}.meter span{display:block;height:100%;background:var(--accent)}
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
local SCRIPT = [[
document.querySelectorAll('table.trials th').forEach(function(th){th.addEventListener('click',function(){
var body=th.closest('table').tBodies[0],i=th.cellIndex,up=th.dataset.up!=='1';th.dataset.up=up?'1':'0';
Array.from(body.rows).sort(function(a,b){var x=a.cells[i].textContent,y=b.cells[i].textContent,p=parseFloat(x),q=parseFloat(y);
if(x===''||y==='')return x===y?0:x===''?1:-1;var d=isNaN(p)||isNaN(q)?x.localeCompare(y):p-q;return up?d:-d}).forEach(function(r){body.appendChild(r)})})});
]]

-- The page as text.
function M.page(data)
  local out, groups = buffer(), group(data.studies)
  out.raw('<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>weir: what tiles do</title><style>')
  out.raw(STYLE)
  out.raw("</style></head><body><main><h1>What tiles do</h1>")
  out.add('<p class="lead">Tuning of weir\'s kernels, %s. Times are milliseconds a launch. The limit is what bytes and operations need at the rates that the GPU\'s maker gives. Predictions: %s.</p>',
    esc(data.made), esc(data.model))
  out.raw('<p class="legend">half as fast')
  for i = 0, #SHADES - 1 do out.add('<i class="h%d"></i>', i) end
  out.raw('best &nbsp; <i class="bad"></i> failed &nbsp; <i class="none"></i> no valid config</p>')
  overview(out, groups)
  for g, studies in ipairs(groups) do
    local a, b = map_axes(studies)
    local rows, columns = union_values(studies, a), b and union_values(studies, b) or { "" }
    out.add('<section id="p%d"><h2>%s</h2><div class="cards">', g, problem_title(studies[1]))
    for _, s in ipairs(studies) do card(out, s, studies, a, b, rows, columns) end
    out.raw("</div>")
    all_trials(out, studies)
    out.raw("</section>")
  end
  out.raw("</main><script>")
  out.raw(SCRIPT)
  out.raw("</script></body></html>")
  return out.text()
end

return M

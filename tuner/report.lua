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
local draw, what, style = use("tuner/report_draw.lua"), use("tuner/report_study.lua"), use("tuner/report_style.lua")

---------------------------------------------------------------------------------------------------- parts of a card

local CELL_W, CELL_H = 46, 30

-- Best time for each pair of values of the two axes; the same rows and columns on every GPU of the problem.
local function heat_map(out, study, n, a, b, rows, columns)
  local best, tip, tried = {}, {}, {}
  for _, t in ipairs(study.trials) do
    local key = t.c[a] .. "/" .. (b and t.c[b] or "")
    tried[key] = tried[key] or t.v
    if what.good(t) and (not best[key] or t.ms < best[key]) then best[key], tip[key] = t.ms, t end
  end
  local x0, y0 = 54, 20
  out.add('<figure><figcaption>Best time in ms by %s and %s</figcaption>', draw.esc(study.tile[a]), draw.esc(b and study.tile[b] or "nothing else"))
  out.add('<svg viewBox="0 0 %d %d" class="heat" role="img" aria-label="heat map" style="max-width:%dpx">', x0 + #columns * CELL_W + 4, y0 + #rows * CELL_H + 24,
    x0 + #columns * CELL_W + 4)
  for j, v in ipairs(columns) do
    out.add('<text class="tick" x="%.1f" y="%d" text-anchor="middle">%s</text>', x0 + (j - 0.5) * CELL_W, y0 - 6, draw.esc(v))
  end
  for i, r in ipairs(rows) do
    local y = y0 + (i - 1) * CELL_H
    out.add('<text class="tick" x="%d" y="%.1f" text-anchor="end">%s %s</text>', x0 - 6, y + CELL_H / 2 + 4, draw.esc(study.tile[a]), draw.esc(r))
    for j, v in ipairs(columns) do
      local key, x = r .. "/" .. (b and v or ""), x0 + (j - 1) * CELL_W
      local ms = best[key]
      if ms then
        local s = draw.shade(n.best.ms, ms)
        out.add('<g><title>%s: %s ms, %.0f %% of the best</title><rect class="h%d%s" x="%d" y="%d" width="%d" height="%d" rx="3"/>' ..
          '<text class="cell t%d" x="%.1f" y="%.1f" text-anchor="middle">%s</text></g>', draw.esc(what.config_text(study, tip[key].c)), draw.ms_text(ms),
          100 * n.best.ms / ms, s, tip[key] == n.best and " top" or "", x + 1, y + 1, CELL_W - 2, CELL_H - 2, s, x + CELL_W / 2,
          y + CELL_H / 2 + 4, draw.ms_text(ms))
      else
        local why = tried[key] and ("failed: " .. tried[key]) or "no valid config"
        out.add('<g><title>%s</title><rect class="%s" x="%d" y="%d" width="%d" height="%d" rx="3"/></g>', draw.esc(why),
          tried[key] and "bad" or "none", x + 1, y + 1, CELL_W - 2, CELL_H - 2)
      end
    end
  end
  out.add('<text class="name" x="%.1f" y="%d" text-anchor="middle">%s</text>', x0 + #columns * CELL_W / 2, y0 + #rows * CELL_H + 17,
    draw.esc(b and study.tile[b] or ""))
  out.raw("</svg></figure>")
end

-- A row of bars for each parameter: the best time that each of its values allows.
local function effects(out, study, n)
  out.raw('<figure><figcaption>What each value costs against the best</figcaption><table class="effects">')
  for i, name in ipairs(study.tile) do
    local best, values = what.best_by(study, i), what.values_of(study, i)
    if #values > 1 then
      out.add("<tr><th>%s</th><td>", draw.esc(name))
      for _, v in ipairs(values) do
        if best[v] then
          local over = best[v] / n.best.ms - 1
          out.add('<span class="chip h%d t%d" title="%s = %s: %s ms">%s<small>%s</small></span>', draw.shade(n.best.ms, best[v]), draw.shade(n.best.ms, best[v]),
            draw.esc(name), draw.esc(v), draw.ms_text(best[v]), draw.esc(v), over < 0.0005 and "best" or ("+%.0f&#8201;%%"):format(100 * over))
        else
          out.add('<span class="chip gone" title="no config with it is correct">%s<small>none</small></span>', draw.esc(v))
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
    if what.good(t) then most = math.max(most, study.limit_ms / t.ms) end
  end
  draw.chart(out, "Fraction of the GPU's limit by occupancy", draw.x_scale(0, 100), draw.y_scale(0, math.max(0.1, math.min(1, most * 1.1))), "% of a multiprocessor's warps", "of the limit",
    function(o, x, y)
      for _, t in ipairs(study.trials) do
        if what.good(t) and t.percent then
          draw.dot(o, t == n.best and "dot top" or "dot", x.at(t.percent), y.at(study.limit_ms / t.ms),
            ("%s: %s ms, %d blocks an SM, %.0f %% of the limit"):format(what.config_text(study, t.c), draw.ms_text(t.ms), t.blocks or 0, 100 * study.limit_ms / t.ms))
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
    out.add('<tr><th>%s</th><td><span class="bar %s" style="width:%.1f%%"></span></td><td class="num">%d</td></tr>', draw.esc(r[1]), r[3], 100 * r[2] / most, r[2])
  end
  if n.failed == 0 then out.raw('<tr><th colspan="3" class="quiet">no config that was tried failed</th></tr>') end
  out.raw("</table>")
  local shown = 0
  for _, t in ipairs(study.trials) do
    if not what.good(t) and t.v ~= "constraints" and shown < 5 then
      shown = shown + 1
      out.add('<p class="message"><b>%s</b> %s: %s</p>', draw.esc(CAUSES[t.v] or t.v), draw.esc(what.config_text(study, t.c)), draw.esc(t.message or ""))
    end
  end
  out.raw("</figure>")
end

local function scatter(out, study, n)
  local low, high = math.huge, 0
  for _, t in ipairs(study.trials) do
    if what.good(t) and t.predicted and t.predicted > 0 then
      low, high = math.min(low, t.ms, t.predicted), math.max(high, t.ms, t.predicted)
    end
  end
  if high == 0 then return end
  local title = "Predicted against measured"
  if study.worth then title = ("%s: rank correlation %.2f near the best, regret %.1f %%"):format(title, study.worth.spearman, 100 * study.worth.regret) end
  draw.chart(out, title, draw.x_scale(low * 0.95, high * 1.05, true), draw.y_scale(low * 0.95, high * 1.05, true), "measured ms", "predicted ms", function(o, x, y)
    o.add('<line class="ideal" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>', x.at(low), y.at(low), x.at(high), y.at(high))
    for _, t in ipairs(study.trials) do
      if what.good(t) and t.predicted and t.predicted > 0 then
        draw.dot(o, t == n.best and "dot top" or "dot", x.at(t.ms), y.at(t.predicted),
          ("%s: measured %s, predicted %s ms"):format(what.config_text(study, t.c), draw.ms_text(t.ms), draw.ms_text(t.predicted)))
      end
    end
  end)
end

local function path(out, study, n)
  local high = 0
  for _, t in ipairs(study.trials) do
    if what.good(t) then high = math.max(high, t.ms) end
  end
  high = math.min(high, 4 * n.best.ms)
  draw.chart(out, "The search: every trial, and the best so far", draw.x_scale(0, #study.trials), draw.y_scale(n.best.ms * 0.95, high, true), "trial", "ms", function(o, x, y)
    local best, line = math.huge, {}
    for i, t in ipairs(study.trials) do
      if what.good(t) then
        draw.dot(o, t == n.best and "dot top" or "dot", x.at(i), y.at(t.ms), ("trial %d, %s: %s ms"):format(i, what.config_text(study, t.c), draw.ms_text(t.ms)))
        if t.ms < best then
          if best < math.huge then line[#line + 1] = ("%.1f,%.1f"):format(x.at(i), y.at(best)) end
          best = t.ms
          line[#line + 1] = ("%.1f,%.1f"):format(x.at(i), y.at(best))
        end
      elseif t.v ~= "constraints" then
        o.add('<path class="cross" d="M%.1f %.1fl5 5m0 -5l-5 5"><title>trial %d, %s: %s</title></path>', x.at(i) - 2.5, draw.TOP, i, draw.esc(what.config_text(study, t.c)),
          draw.esc(CAUSES[t.v] or t.v))
      end
    end
    line[#line + 1] = ("%.1f,%.1f"):format(x.at(#study.trials), y.at(best))
    o.add('<polyline class="best" points="%s"/>', table.concat(line, " "))
  end)
end

---------------------------------------------------------------------------------------------------- the page

local function facts_line(study)
  local out = {}
  for i, f in ipairs(study.facts) do out[i] = ("<span>%s <b>%s</b></span>"):format(draw.esc(f[1]), draw.esc(f[2])) end
  return table.concat(out, "")
end

local function card(out, study, studies, a, b, rows, columns)
  local n = what.summarise(study)
  out.add('<article><header><h3>%s</h3><span class="badge %s">%s</span></header><p class="facts">%s</p>', draw.esc(study.title), study.measured and "measured" or "predicted",
    study.measured and "measured" or "predicted", facts_line(study))
  if not n.best then
    out.raw('<p class="quiet">No config has a time.</p>')
    failures(out, study, n)
    out.raw("</article>")
    return
  end
  local pick = study.pick or n.best
  local share = study.limit_ms / pick.ms
  out.add('<div class="pick"><div><span class="big">%s</span> ms</div><div class="tile">%s</div></div>', draw.ms_text(pick.ms), draw.esc(what.config_text(study, pick.c)))
  out.add('<div class="meter" title="%.0f %% of what the GPU could do at the most"><span style="width:%.1f%%"></span></div><p class="quiet">%.0f&#8201;%% of the limit of %s ms%s</p>',
    100 * share, math.min(100, 100 * share), 100 * share, draw.ms_text(study.limit_ms),
    study.measured and ("; %d trials, %d failed"):format(#study.trials, n.failed) or ("; %d configs predicted"):format(n.correct))
  if study.pick and study.pick.why then out.add('<p class="why">%s</p>', draw.esc(study.pick.why)) end
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
  return ("%s <small>%s &middot; %s</small>"):format(draw.esc(s.kernel), draw.esc(s.shape), draw.esc(s.sizes))
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
      local n = what.summarise(s)
      local pick = s.pick or n.best
      out.add('<tr><td>%s</td><td>%s</td>', i == 1 and ('<a href="#p%d">%s</a><br><small>%s &middot; %s</small>'):format(g, draw.esc(s.kernel), draw.esc(s.shape), draw.esc(s.sizes)) or "", draw.esc(s.gpu))
      if pick then
        out.add('<td class="tile">%s</td><td class="num">%s</td><td class="num">%.0f&#8201;%%</td>', draw.esc(what.config_text(s, pick.c)), draw.ms_text(pick.ms), 100 * s.limit_ms / pick.ms)
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
    out.add('<details><summary>All %d %s of %s</summary><div class="scroll"><table class="trials"><thead><tr>', #s.trials, s.measured and "trials" or "predictions", draw.esc(s.gpu))
    for _, name in ipairs(s.tile) do out.add('<th class="num">%s</th>', draw.esc(name)) end
    out.raw('<th class="num">ms</th><th class="num">&plusmn;</th><th class="num">predicted</th><th class="num">registers</th><th class="num">spills</th><th class="num">blocks</th><th>result</th></tr></thead><tbody>')
    for _, t in ipairs(s.trials) do
      local cells = {}
      for i = 1, #s.tile do cells[i] = '<td class="num">' .. draw.esc(t.c[i]) .. "</td>" end
      local function number(v, format)
        cells[#cells + 1] = '<td class="num">' .. (v and format:format(v) or "") .. "</td>"
      end
      number(what.good(t) and t.ms or nil, "%.4f")
      number(t.spread, "%.4f")
      number(t.predicted, "%.4f")
      number(t.regs, "%d")
      number(t.spills, "%d")
      number(t.blocks, "%d")
      out.add("<tr>%s<td>%s</td></tr>", table.concat(cells), draw.esc(t.v == "correct" and (s.measured and "correct" or "predicted") or (CAUSES[t.v] or t.v) .. (t.message and ": " .. t.message or "")))
    end
    out.raw("</tbody></table></div></details>")
  end
end

-- The page as text.
function M.page(data)
  local out, groups = draw.buffer(), group(data.studies)
  out.raw('<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>weir: what tiles do</title><style>')
  out.raw(style.STYLE)
  out.raw("</style></head><body><main><h1>What tiles do</h1>")
  out.add('<p class="lead">Tuning of weir\'s kernels, %s. Times are milliseconds a launch. The limit is what bytes and operations need at the rates that the GPU\'s maker gives. Predictions: %s.</p>',
    draw.esc(data.made), draw.esc(data.model))
  out.raw('<p class="legend">half as fast')
  for i = 0, #draw.SHADES - 1 do out.add('<i class="h%d"></i>', i) end
  out.raw('best &nbsp; <i class="bad"></i> failed &nbsp; <i class="none"></i> no valid config</p>')
  overview(out, groups)
  for g, studies in ipairs(groups) do
    local a, b = what.map_axes(studies)
    local rows, columns = what.union_values(studies, a), b and what.union_values(studies, b) or { "" }
    out.add('<section id="p%d"><h2>%s</h2><div class="cards">', g, problem_title(studies[1]))
    for _, s in ipairs(studies) do card(out, s, studies, a, b, rows, columns) end
    out.raw("</div>")
    all_trials(out, studies)
    out.raw("</section>")
  end
  out.raw("</main><script>")
  out.raw(style.SCRIPT)
  out.raw("</script></body></html>")
  return out.text()
end

return M

-- What a report is drawn with: text for HTML, shades, scales, charts as SVG.

local M = {}

function M.esc(s)
  return (tostring(s):gsub("[&<>\"]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }))
end

function M.ms_text(ms)
  if ms >= 100 then return ("%.0f"):format(ms) end
  if ms >= 10 then return ("%.1f"):format(ms) end
  if ms >= 1 then return ("%.2f"):format(ms) end
  return ("%.3f"):format(ms)
end

-- Text of a page under construction.
function M.buffer()
  local lines = {}
  return {
    add = function(...) lines[#lines + 1] = string.format(...) end,
    raw = function(text) lines[#lines + 1] = text end,
    text = function() return table.concat(lines, "\n") end,
  }
end

-- Shades of a heat map, from the palest: the least share of the best that has it. Finer near the best, where the choice is.
M.SHADES = { 0, 0.5, 0.65, 0.78, 0.87, 0.93, 0.97 }

function M.shade(best, ms)
  local s = 0
  for i, share in ipairs(M.SHADES) do
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
    local steps = high / low > 8 and { 1, 2, 5 } or { 1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8 }
    local decade = 10 ^ math.floor(math.log(low, 10))
    while decade <= high do
      for _, m in ipairs(steps) do
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
function M.chart(out, title, x, y, x_title, y_title, draw)
  out.add('<figure><figcaption>%s</figcaption><svg viewBox="0 0 %d %d" role="img" aria-label="%s">', M.esc(title), WIDE, HIGH, M.esc(title))
  for _, v in ipairs(y.ticks) do
    local at = y.at(v)
    out.add('<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/><text class="tick" x="%d" y="%.1f" text-anchor="end">%s</text>',
      LEFT, WIDE - RIGHT, at, at, LEFT - 6, at + 3.5, tick_text(v))
  end
  for _, v in ipairs(x.ticks) do
    out.add('<text class="tick" x="%.1f" y="%d" text-anchor="middle">%s</text>', x.at(v), HIGH - BOTTOM + 15, tick_text(v))
  end
  out.add('<line class="axis" x1="%d" x2="%d" y1="%d" y2="%d"/>', LEFT, WIDE - RIGHT, HIGH - BOTTOM, HIGH - BOTTOM)
  out.add('<text class="name" x="%.1f" y="%d" text-anchor="middle">%s</text>', (LEFT + WIDE - RIGHT) / 2, HIGH - 5, M.esc(x_title))
  out.add('<text class="name" transform="translate(11 %.1f) rotate(-90)" text-anchor="middle">%s</text>', (TOP + HIGH - BOTTOM) / 2, M.esc(y_title))
  draw(out, x, y)
  out.raw("</svg></figure>")
end

function M.x_scale(low, high, logarithmic) return scale(low, high, LEFT + 6, WIDE - RIGHT - 6, logarithmic) end
function M.y_scale(low, high, logarithmic) return scale(low, high, HIGH - BOTTOM - 4, TOP + 4, logarithmic) end

function M.dot(out, class, x, y, tip)
  out.add('<circle class="%s" cx="%.1f" cy="%.1f" r="3"><title>%s</title></circle>', class, x, y, M.esc(tip))
end

M.TOP = TOP

return M

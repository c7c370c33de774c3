-- What the trials of a study (tuner/report.lua says what that is) tell: the best, what each value of a parameter costs, what failed.

local M = {}

function M.good(t) return t.v == "correct" and t.ms and t.ms > 0 end

function M.config_text(study, c)
  local out = {}
  for i, name in ipairs(study.tile) do out[i] = name .. " " .. tostring(c[i]) end
  return table.concat(out, ", ")
end

-- Best time by the value of parameter i: value -> ms.
function M.best_by(study, i)
  local best = {}
  for _, t in ipairs(study.trials) do
    if M.good(t) then
      local v = t.c[i]
      if not best[v] or t.ms < best[v] then best[v] = t.ms end
    end
  end
  return best
end

function M.values_of(study, i)
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
  for _, ms in pairs(M.best_by(study, i)) do low, high, n = math.min(low, ms), math.max(high, ms), n + 1 end
  return n > 1 and high / low or 1
end

-- The two parameters that matter most over all GPUs of a problem, in the order of the name.
function M.map_axes(studies)
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

function M.summarise(study)
  local n = { correct = 0, failed = 0, causes = {} }
  for _, t in ipairs(study.trials) do
    if M.good(t) then
      n.correct = n.correct + 1
      if not n.best or t.ms < n.best.ms then n.best = t end
    elseif t.v ~= "constraints" then
      n.failed = n.failed + 1
      n.causes[t.v] = (n.causes[t.v] or 0) + 1
    end
  end
  return n
end

function M.union_values(studies, i)
  local seen, out = {}, {}
  for _, s in ipairs(studies) do
    for _, v in ipairs(M.values_of(s, i)) do
      if not seen[v] then
        seen[v] = true
        out[#out + 1] = v
      end
    end
  end
  table.sort(out)
  return out
end

return M

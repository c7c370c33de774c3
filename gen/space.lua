-- Tuning spaces: every combination of a kernel's tile values, and the restriction that refuses it, if one does.

local spec = use("gen/spec.lua")

local M = {}

local CONFIGS_MAX = 20000

-- Configurations of a kernel for a GPU in a fixed order, the last parameter fastest. `given` holds the shape, and tile parameters
-- to be held fixed. Returns the tile names and an array of { values = {...}, broken = name or nil }.
function M.configs(kernel, gpu, given)
  local tile = spec.declaration(kernel).tile
  local names, tried, total = {}, {}, 1
  for i, p in ipairs(tile) do
    names[i] = p.name
    tried[i] = given[p.name] and { given[p.name] } or spec.is_searched(kernel, p, given) and p.values or {}
    total = total * math.max(1, #tried[i])
  end
  if total > CONFIGS_MAX then
    error(("%s: its space has %d configurations, more than %d"):format(kernel, total, CONFIGS_MAX), 0)
  end
  local out, chosen = {}, {}
  for k, v in pairs(given) do chosen[k] = v end
  local function choose(i)
    local p = tile[i]
    if p then
      for _, v in ipairs(tried[i]) do
        chosen[p.name] = v
        choose(i + 1)
      end
      if #tried[i] == 0 then choose(i + 1) end -- its default
      return
    end
    local s = spec.resolve(kernel, gpu, chosen, true)
    local values = {}
    for j, q in ipairs(tile) do values[j] = spec.value_for_c(q, s.values[q.name]) end
    out[#out + 1] = { values = values, broken = s.broken }
  end
  choose(1)
  return names, out
end

return M

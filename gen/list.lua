-- What there is, for people and for programs: kernels with their parameters and restrictions, and GPUs.

local spec = use("gen/spec.lua")
local gpus = use("gen/gpus.lua")

local M = {}

local function allowed(p)
  return p.values and table.concat(p.values, ", ") or ("%d..%d"):format(p.min or 1, p.max or spec.int_max)
end

local function list_text()
  local out = {}
  local function add(...) out[#out + 1] = string.format(...) end
  for _, name in ipairs(spec.names()) do
    local k = spec.declaration(name)
    add("%s: %s", name, k.about)
    for _, group in ipairs { { "shape", k.shape }, { "tile", k.tile } } do
      for _, p in ipairs(group[2]) do
        local default = p.default ~= nil and "; default " .. tostring(p.default) or ""
        add("  %-6s %-6s %s: %s%s", group[1], p.name, p.about, allowed(p), default)
      end
    end
    for _, limits in ipairs { spec.common_limits, k.limits } do
      for _, limit in ipairs(limits) do
        add("  limit  %-6s %s%s", limit[1], limit[2], limit[3] and " (" .. limit[3] .. ")" or "")
      end
    end
    add("")
  end
  add("GPUs:")
  for _, name in ipairs(gpus.names()) do
    local gpu = gpus.gpu[name]
    local alias = gpu.alias and ", also " .. table.concat(gpu.alias, ", ") or ""
    add("  %-10s %s, sm_%d%s", name, gpu.title, gpu.sm, alias)
  end
  add("  sm_NN      any GPU of that compute capability; FILE.json or FILE.lua: a GPU described by its facts")
  return table.concat(out, "\n") .. "\n"
end

-- A value as JSON. Tables are arrays, or objects when they are marked so with keys in `order`.
local function json(v)
  if type(v) == "string" then
    return '"' .. v:gsub('[%c"\\]', function(c) return ("\\u%04x"):format(c:byte()) end) .. '"'
  elseif type(v) ~= "table" then
    return tostring(v)
  end
  local out = {}
  if v.order then
    for i, key in ipairs(v.order) do out[i] = json(key) .. ":" .. json(v[key]) end
    return "{" .. table.concat(out, ",") .. "}"
  end
  for i, item in ipairs(v) do out[i] = json(item) end
  return "[" .. table.concat(out, ",") .. "]"
end

local function params_json(group)
  local out = {}
  for i, p in ipairs(group) do
    local o = { order = { "name", "about" }, name = p.name, about = p.about }
    local function put(key, v)
      if v ~= nil then
        o.order[#o.order + 1], o[key] = key, v
      end
    end
    put("values", p.values)
    if not p.values then
      put("min", p.min or 1)
      put("max", p.max or spec.int_max)
    end
    put("default", p.default)
    out[i] = o
  end
  return out
end

local function list_json()
  local kernels, gpu_list = {}, {}
  for i, name in ipairs(spec.names()) do
    local k, limits = spec.declaration(name), {}
    for _, group in ipairs { spec.common_limits, k.limits } do
      for _, limit in ipairs(group) do
        limits[#limits + 1] = { order = { "name", "expression" }, name = limit[1], expression = limit[2] }
      end
    end
    kernels[i] = { order = { "name", "about", "shape", "tile", "limits" }, name = name, about = k.about,
      shape = params_json(k.shape), tile = params_json(k.tile), limits = limits }
  end
  for i, name in ipairs(gpus.names()) do
    local gpu = gpus.gpu[name]
    gpu_list[i] = { order = { "name", "title", "sm", "source" }, name = name, title = gpu.title, sm = gpu.sm,
      source = gpu.source }
  end
  return json { order = { "kernels", "gpus" }, kernels = kernels, gpus = gpu_list } .. "\n"
end

M.json = json

-- All kernels and GPUs for `weir gen --list`.
function M.list(as_json)
  return as_json and list_json() or list_text()
end

-- The names of all kernels, one a line.
function M.names()
  return table.concat(spec.names(), "\n")
end

return M

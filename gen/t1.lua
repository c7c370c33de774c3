-- A tuning space in Kernel Tuner's T1 form: tile parameters with their values, and every restriction as a Python expression over them.
-- Derived values are written out, shape and GPU facts become numbers, and so does what follows from them alone. Lua and Python agree on +, -, *, //, %, comparisons, and, or and
-- not between the numbers that restrictions use; `~=` is `!=`, math.max and math.min are max and min, and a word is a string in both.

local spec = use("gen/spec.lua")
local gpus = use("gen/gpus.lua")
local list = use("gen/list.lua")

local M = {}

local KEYWORDS = { ["and"] = true, ["or"] = true, ["not"] = true, ["true"] = "True", ["false"] = "False" }

-- An expression with every name that `replace` knows exchanged; `used` collects the tile parameters in it.
local function python(expression, replace, tile, used)
  local text = tostring(expression):gsub("~=", "!="):gsub("math%.([a-z]+)", "%1")
  local quoted = {}
  text = text:gsub("(['\"])(.-)%1", function(_, word)
    quoted[#quoted + 1] = "'" .. word .. "'"
    return "\1" .. #quoted .. "\2"
  end)
  text = text:gsub("[%a_][%w_]*", function(name)
    local keyword = KEYWORDS[name]
    if keyword then return keyword == true and name or keyword end
    if name == "max" or name == "min" then return name end
    if tile[name] then
      used[name] = true
      return name
    end
    local r = replace[name]
    if not r then error(("no Python for '%s' in '%s'"):format(name, expression), 0) end
    for p in pairs(r.used) do used[p] = true end
    return r.text
  end)
  return (text:gsub("\1(%d+)\2", function(i) return quoted[tonumber(i)] end))
end

local function literal(v)
  return type(v) == "string" and "'" .. v .. "'" or tostring(v)
end

-- { name = "...", parameters = {...}, expression = "..." } of each restriction that says something about the tile.
local function conditions(k, gpu, gpu_name, shape, tile)
  local replace = {}
  for name, v in pairs(gpus.sm[gpu.sm]) do replace[name] = { text = tostring(v), used = {} } end
  for _, p in ipairs(k.shape) do
    replace[p.name] = { text = literal(shape[p.name]), used = {} }
  end
  local function derive(name, expression)
    local used = {}
    replace[name] = { text = "(" .. python(expression, replace, tile, used) .. ")", used = used }
  end
  -- Whether nothing in an expression depends on the tile.
  local function of_shape(expression)
    for name in tostring(expression):gmatch("[%a_][%w_]*") do
      if tile[name] or replace[name] and next(replace[name].used) then return false end
    end
    return true
  end
  local known = spec.resolve(k.name, gpu_name, shape).values
  for _, p in ipairs(k.derive) do
    -- What only the text of the kernel needs (a scale with a square root) has no place in a restriction.
    if not pcall(derive, p[1], p[2]) then
      local v = known[p[1]]
      replace[p[1]] = of_shape(p[2]) and { text = literal(v), used = {} } or nil
    end
  end
  for _, name in ipairs { "threads", "smem", "min_blocks" } do
    derive(name, k.launch[name] or (name == "smem" and 0 or 1))
  end
  local out = {}
  for _, group in ipairs { spec.common_limits, k.limits } do
    for _, limit in ipairs(group) do
      local used, names = {}, {}
      local text = python(limit[2], replace, tile, used)
      for _, p in ipairs(k.tile) do
        if used[p.name] then names[#names + 1] = p.name end
      end
      if #names > 0 then out[#out + 1] = { order = { "Parameters", "Expression" }, Parameters = names, Expression = text } end
    end
  end
  return out
end

local function numbers(t)
  local out = {}
  for name, v in pairs(t) do out[name] = tonumber(v) or v end
  return out
end

-- data: kernel, gpu, title, shape and sizes (name -> text), values (tile parameter -> list). Returns the file's text.
function M.t1(data)
  local k, gpu = spec.declaration(data.kernel), spec.gpu(data.gpu)
  local shape, tile, parameters = numbers(data.shape), {}, {}
  for i, p in ipairs(k.tile) do
    tile[p.name] = true
    local values = {}
    for j, v in ipairs(data.values[p.name]) do values[j] = tostring(v) end
    parameters[i] = { order = { "Name", "Type", "Values" }, Name = p.name, Type = "int", Values = "[" .. table.concat(values, ", ") .. "]" }
  end
  return list.json {
    order = { "ConfigurationSpace", "KernelSpecification", "General" },
    ConfigurationSpace = { order = { "TuningParameters", "Conditions" }, TuningParameters = parameters, Conditions = conditions(k, gpu, data.gpu, shape, tile) },
    KernelSpecification = {
      order = { "Language", "KernelName", "KernelFile", "ProblemSize", "Device", "GlobalSize", "LocalSize", "Arguments" },
      Language = "CUDA", KernelName = data.kernel, KernelFile = data.kernel .. ".cu", ProblemSize = { 1 },
      Device = { order = { "Name" }, Name = data.title }, GlobalSize = { order = { "X" }, X = "1" },
      LocalSize = { order = { "X" }, X = tostring(k.launch.threads) }, Arguments = {},
    },
    General = { order = { "FormatVersion", "TimeUnit" }, FormatVersion = 1, TimeUnit = "Milliseconds" },
  }
end

return M

-- What a kernel is: its declaration, its parameters and restrictions, its name, its emitted text.
--
-- gen/kernels/<name>.lua declares one kernel; nothing else needs to know of it. The file calls kernel{...} once:
--
--   kernel {
--     name  = "attn_decode",
--     about = "one query token against a part of the held keys",       one line, for --list and the emitted header
--     template = "attn_decode.cu.t",                                   in templates/; this is the default
--     wgmma = { shared = "bn", registers = "d" },                      it has products of warpgroups (templates/wgmma_cuda.cu.t) of
--                                                                      so many columns, with a in shared memory and in registers
--     shape = {                                                        what is computed, in the order of the name
--       { "d", "head dimension", values = head_dims },                 the list below
--       { "g", "query heads per key head", min = 1, max = 16 },
--       { "t", "data type", values = { "fp16", "bf16" }, default = "bf16" },
--     },
--     tile = {                                                         how: the tuning space, in the order of the name
--       { "bn", "keys per tile", values = { 32, 64, 128 }, default = "d <= 96 and 128 or 64" },
--       { "pd", "...", values = { 1, 2 }, default = 1, only = "d > 64" },   a search leaves it at its default for other shapes
--     },
--     derive = { { "row_bytes", "d * 2" } },                           values worked out from those, in order
--     launch = { threads = "32 * wp", smem = "st * bn * row_bytes", min_blocks = "1" },
--     limits = {                                                       restrictions: name, expression, what it means
--       { "tile_rows", "bn % (8 * wp) == 0", "each warp takes whole groups of 8 keys" },
--     },
--     args  = { "keys", "heads" },                                     sizes known at run time, for bytes and flops
--     bytes = "2 * keys * heads * row_bytes",                          what must be moved and computed at the least
--     flops = "4 * keys * heads * g * d",
--     check = "oracle_decode",                                         the oracle that the tests hold it to
--   }
--
-- Parameters. A numeric one is named by its letters and value (d128), one of words stands alone (bf16); in C a word is its
-- index in `values` from 0 (fp16 0, bf16 1). A shape parameter with no default must be given; every tile parameter has
-- `values`, and a default. Given values outside values/min/max are refused by the restriction that has the parameter's name.
--
-- Expressions are Lua, in a string (or a plain number). They see shape, then tile parameters in order. A default also sees all
-- facts of the GPU (gpus.lua). derive, launch, limits and the template see those facts only that follow from its sm, so that
-- one canonical name is one text; limits and template also see derived values, threads, smem and min_blocks. bytes and flops see
-- all parameters, derived values and args. An undefined name is an error.
--
-- Two restrictions hold for every kernel: `threads` (whole warps, 1024 at most) and `smem` (smem <= smem_per_block).
--
-- The template defines one KERNEL(${name}, ${threads}, ${min_blocks}). Its environment: all of the above, `kernel`, `name`, and
-- math, string, table, ipairs, tostring, tonumber, select, assert, error. There is no pairs: its order is not fixed.
-- A kernel with products of warpgroups is compiled for the GPU's own architecture (sm_90a): its cubin runs on no other.

local template = use("gen/template.lua")
local gpus = use("gen/gpus.lua")

local M = {}

local PRELUDE_BEGIN, PRELUDE_END = "/* ---- prelude ---- */", "/* ---- end of prelude ---- */"
local NAME_MAX, PARAMS_MAX, PARAM_NAME_MAX, INT_MAX = 159, 48, 23, 0x7fffffff
local HEAD_DIMS = { 64, 80, 96, 128, 256 } -- `head_dims` in a declaration; backend_cuda.c refuses others
M.int_max = INT_MAX -- the most that a parameter without values or max can be

local LIBRARY = {
  math = math, string = string, table = table, ipairs = ipairs, tostring = tostring, tonumber = tonumber,
  select = select, assert = assert, error = error, type = type,
}

local function fail(format, ...)
  error(format:format(...), 0)
end

-- Whole floats become integers, so that bn / 2 reads and compares as one.
local function whole(v)
  return math.type(v) == "float" and math.tointeger(v) or v
end

local compiled = {} -- expressions: a space evaluates each of its few thousands of times

-- The value of an expression (a string of Lua, or a plain value) among `values`. `where` begins its error.
local function evaluate(where, expression, values)
  if type(expression) ~= "string" then return expression end
  local chunk, message = compiled[expression], nil
  if not chunk then
    chunk, message = load("local _ENV = ... return " .. expression, "=expression", "t", {})
    compiled[expression] = chunk
  end
  local ok, v
  if chunk then ok, v = pcall(chunk, template.strict(values)) end
  if not ok then
    message = tostring(chunk and v or message):gsub("^expression:%d+: ", "")
    fail("%s: %s, in '%s'", where, message, expression)
  end
  return whole(v)
end

---------------------------------------------------------------------------------------------------- declarations

local FIELDS = {
  name = "string", about = "string", template = "string", shape = "table", tile = "table", derive = "table",
  launch = "table", limits = "table", args = "table", bytes = "string", flops = "string", check = "string",
  wgmma = "table",
}
local PARAM_FIELDS = { values = "table", min = "number", max = "number", default = true, only = "string" }

local function check_param(file, group, p, seen)
  local name = p[1]
  if type(name) ~= "string" or not name:match("^[a-z][a-z0-9_]*$") or #name > PARAM_NAME_MAX then
    fail("%s: %s: '%s' is no name for a parameter", file, group, tostring(name))
  end
  if seen[name] or gpus.sm[80][name] ~= nil or LIBRARY[name] ~= nil then
    fail("%s: %s: the name '%s' is taken", file, group, name)
  end
  seen[name] = true
  if group == "derive" then
    if p[2] == nil then fail("%s: derive: '%s' has no expression", file, name) end
    return
  end
  if type(p[2]) ~= "string" then fail("%s: %s: '%s' says nothing about itself", file, group, name) end
  for k, v in pairs(p) do
    local want = PARAM_FIELDS[k]
    if k ~= 1 and k ~= 2 and not want then fail("%s: %s: '%s': unknown field '%s'", file, group, name, tostring(k)) end
    if want and want ~= true and type(v) ~= want then fail("%s: %s: '%s': '%s' wants a %s", file, group, name, k, want) end
  end
  if group == "tile" and (not p.values or p.default == nil) then
    fail("%s: tile: '%s' wants values and a default", file, name)
  end
  if p.only and group ~= "tile" then fail("%s: %s: '%s': 'only' is for tile parameters", file, group, name) end
  if p.values and #p.values == 0 then fail("%s: %s: '%s' has no values", file, group, name) end
  p.name, p.about, p.words = name, p[2], p.values and type(p.values[1]) == "string"
end

local function check_declaration(file, wanted, k)
  if type(k) ~= "table" then fail("%s: declares no kernel", file) end
  for field, v in pairs(k) do
    if not FIELDS[field] then fail("%s: unknown field '%s'", file, tostring(field)) end
    if type(v) ~= FIELDS[field] then fail("%s: '%s' wants a %s", file, field, FIELDS[field]) end
  end
  if k.name ~= wanted then fail("%s: declares '%s'; a file is named after its kernel", file, tostring(k.name)) end
  k.about, k.template = k.about or "", k.template or k.name .. ".cu.t"
  k.shape, k.tile, k.derive, k.limits = k.shape or {}, k.tile or {}, k.derive or {}, k.limits or {}
  k.args = k.args or {}
  if not (k.launch and k.launch.threads) then fail("%s: launch says no threads", file) end
  local seen = { threads = true, smem = true, min_blocks = true, name = true, kernel = true, include = true, wgmma = true }
  for _, group in ipairs { "shape", "tile", "derive" } do
    for _, p in ipairs(k[group]) do check_param(file, group, p, seen) end
  end
  if #k.shape + #k.tile + #k.derive + 3 > PARAMS_MAX then
    fail("%s: more than %d parameters and derived values", file, PARAMS_MAX - 3)
  end
  for _, limit in ipairs(k.limits) do
    if type(limit) ~= "table" or type(limit[1]) ~= "string" or type(limit[2]) ~= "string" then
      fail("%s: a restriction wants a name and an expression", file)
    end
  end
  return k
end

-- The names of all kernels, in order.
function M.names()
  local out, seen = {}, {}
  for _, path in ipairs(list_files("gen/kernels/")) do
    local name = path:match("^gen/kernels/([a-z0-9_]+)%.lua$")
    if name and not seen[name] then
      seen[name] = true
      out[#out + 1] = name
    end
  end
  table.sort(out)
  return out
end

-- Facts of a GPU by any name that --gpu takes.
function M.gpu(name)
  return gpus.find(name, read_table)
end

local declared = {}

-- The declaration of a kernel.
function M.declaration(name)
  if declared[name] then return declared[name] end
  local file = "gen/kernels/" .. name .. ".lua"
  local text = name:match("^[a-z0-9_]+$") and read_file(file)
  if not text then fail("unknown kernel '%s'; known: %s", name, table.concat(M.names(), ", ")) end
  local k
  local names = setmetatable({ kernel = function(t) k = t end, head_dims = HEAD_DIMS }, { __index = LIBRARY })
  local chunk, message = load(text, "=" .. file, "t", template.strict(names))
  if not chunk then error(message, 0) end
  chunk()
  declared[name] = check_declaration(file, name, k)
  return k
end

---------------------------------------------------------------------------------------------------- parameters

local function spell(values)
  local out = {}
  for i, v in ipairs(values) do out[i] = tostring(v) end
  return table.concat(out, ", ")
end

-- A given value as the parameter's type, or an error that is the restriction named after it.
local function accept(k, p, given)
  local v = p.words and given or math.tointeger(tonumber(given))
  local rule
  if p.values then
    for _, known in ipairs(p.values) do
      if known == v then return v end
    end
    rule = "not one of " .. spell(p.values)
  elseif not v then
    rule = "no whole number"
  elseif v < (p.min or 1) or v > (p.max or INT_MAX) then
    rule = ("not in %d..%d"):format(p.min or 1, p.max or INT_MAX)
  else
    return v
  end
  fail("%s: restriction '%s': %s = %s is %s (%s)", k.name, p.name, p.name, tostring(given), rule, p.about)
end

-- Whether a search tries the tile parameter's values for a shape (given: name -> value of what is not to be a default).
function M.is_searched(kernel, p, given)
  if not p.only then return true end
  local k, values = M.declaration(kernel), setmetatable({}, { __index = LIBRARY })
  for _, q in ipairs(k.shape) do
    local v = given[q.name]
    if v == nil then v = q.default end
    values[q.name] = accept(k, q, v)
  end
  return evaluate(("gen/kernels/%s.lua: only of %s"):format(kernel, p.name), p.only, values)
end

-- The names in an expression that have values, as "bn = 128, d = 256".
local function values_in(expression, values)
  local out, seen = {}, {}
  for name in expression:gmatch("[%a_][%w_]*") do
    local v = values[name]
    if not seen[name] and (type(v) == "number" or type(v) == "string") then
      seen[name] = true
      out[#out + 1] = ("%s = %s"):format(name, tostring(v))
    end
  end
  return table.concat(out, ", ")
end

-- The first restriction that fails, or nil: its name and the sentence.
local function broken_limit(k, values, brief)
  for _, limit in ipairs(k.limits) do
    local ok = evaluate(("gen/kernels/%s.lua: restriction '%s'"):format(k.name, limit[1]), limit[2], values)
    if type(ok) ~= "boolean" then
      fail("gen/kernels/%s.lua: restriction '%s' is neither true nor false: %s", k.name, limit[1], limit[2])
    end
    if not ok then
      return limit[1], not brief and ("%s: restriction '%s': %s does not hold (%s)%s"):format(k.name, limit[1], limit[2],
        values_in(limit[2], values), limit[3] and "; " .. limit[3] or "")
    end
  end
end

-- Restrictions of every kernel.
M.common_limits = {
  { "threads", "threads >= 32 and threads <= 1024 and threads % 32 == 0", "a block is 1 to 32 whole warps" },
  { "smem", "smem <= smem_per_block", "the tile does not fit the shared memory that a block of this GPU can have" },
}

-- Everything that follows from kernel, GPU and given parameters (name -> text or number). Returns a spec:
--   kernel (declaration), gpu (facts), values (all names that template and limits see), arch, name,
--   broken, why: the restriction that fails, or nil
-- brief: neither name nor why, for walks over a whole space.
function M.resolve(kernel, gpu_name, given, brief)
  local k = M.declaration(kernel)
  local gpu = M.gpu(gpu_name)
  local where = "gen/kernels/" .. k.name .. ".lua"
  local values = setmetatable({}, { __index = LIBRARY })
  local with_gpu = setmetatable({}, { __index = function(_, name)
    local v = values[name]
    if v == nil then v = gpu[name] end
    return v
  end })
  local known, all = {}, {}
  for _, group in ipairs { k.shape, k.tile } do
    for _, p in ipairs(group) do
      known[p.name], all[#all + 1] = true, p.name
    end
  end
  for name in pairs(given) do
    if not known[name] then fail("%s has no parameter '%s'; it has %s", k.name, name, table.concat(all, ", ")) end
  end
  for _, group in ipairs { k.shape, k.tile } do
    for _, p in ipairs(group) do
      local v = given[p.name]
      if v == nil then
        if p.default == nil then fail("%s needs %s (%s)", k.name, p.name, p.about) end
        v = p.words and p.default or evaluate(where .. ": default of " .. p.name, p.default, with_gpu)
      end
      values[p.name] = accept(k, p, v)
    end
  end
  for name, v in pairs(gpus.sm[gpu.sm]) do values[name] = v end
  for _, p in ipairs(k.derive) do
    values[p[1]] = evaluate(where .. ": " .. p[1], p[2], values)
  end
  for _, name in ipairs { "threads", "smem", "min_blocks" } do
    local v = evaluate(where .. ": launch." .. name, k.launch[name] or (name == "smem" and 0 or 1), values)
    if math.type(v) ~= "integer" or v < 0 then fail("%s: launch.%s is %s", where, name, tostring(v)) end
    values[name] = v
  end
  local arch = "sm_" .. gpu.sm .. (k.wgmma and "a" or "")
  values.wgmma = k.wgmma and 1 or 0
  for _, name in ipairs(k.wgmma and { "shared", "registers" } or {}) do
    values[name .. "_n"] = evaluate(where .. ": wgmma." .. name, k.wgmma[name], values)
  end
  local spec = { kernel = k, gpu = gpu, values = values, arch = arch, name = not brief and M.name_of(k, values, arch) or "" }
  values.kernel, values.name = k.name, spec.name
  spec.broken, spec.why = broken_limit({ name = k.name, limits = M.common_limits }, values, brief)
  if not spec.broken then spec.broken, spec.why = broken_limit(k, values, brief) end
  return spec
end

-- kernel__shape__tile__sm80: file name, symbol, wisdom key and test id.
function M.name_of(k, values, arch)
  local parts = { k.name }
  for _, group in ipairs { k.shape, k.tile } do
    local words = {}
    for i, p in ipairs(group) do words[i] = p.words and values[p.name] or p.name .. values[p.name] end
    if #words > 0 then parts[#parts + 1] = table.concat(words, "_") end
  end
  parts[#parts + 1] = (arch:gsub("_", ""))
  local name = table.concat(parts, "__")
  if #name > NAME_MAX then fail("%s: its name is longer than %d characters: %s", k.name, NAME_MAX, name) end
  return name
end

---------------------------------------------------------------------------------------------------- text

local function group_line(group, values)
  local out = {}
  for i, p in ipairs(group) do out[i] = ("%s = %s (%s)"):format(p.name, values[p.name], p.about) end
  return #out > 0 and table.concat(out, ", ") or "none"
end

local function header(spec)
  local k, v = spec.kernel, spec.values
  return {
    "/* " .. spec.name,
    " *",
    " * " .. (k.about ~= "" and k.about or k.name),
    " *",
    " *   shape   " .. group_line(k.shape, v),
    " *   tile    " .. group_line(k.tile, v),
    (" *   launch  %d threads a block, %d bytes of dynamic shared memory"):format(v.threads, v.smem),
    " *   target  " .. spec.arch,
    " *",
    " * Rendered from templates/" .. k.template .. "; a change belongs there. */",
  }
end

-- A parameter's value as C has it: words by index from 0.
function M.value_for_c(p, v)
  for i, word in ipairs(p.words and p.values or {}) do
    if word == v then return i - 1 end
  end
  return v
end

-- Numeric parameters for C, in order: shape, tile, derived, launch.
local function params_for_c(spec)
  local out = {}
  local function add(name, v)
    if type(v) == "boolean" then v = v and 1 or 0 end
    v = whole(v)
    if math.type(v) == "integer" then out[#out + 1] = { name, v } end
  end
  for _, group in ipairs { spec.kernel.shape, spec.kernel.tile } do
    for _, p in ipairs(group) do add(p.name, M.value_for_c(p, spec.values[p.name])) end
  end
  for _, p in ipairs(spec.kernel.derive) do add(p[1], spec.values[p[1]]) end
  for _, name in ipairs { "threads", "smem", "min_blocks" } do add(name, spec.values[name]) end
  return out
end

-- The spec again from parameters as C has them.
local function resolve_from_c(kernel, gpu_name, given)
  local k = M.declaration(kernel)
  for _, group in ipairs { k.shape, k.tile } do
    for _, p in ipairs(group) do
      if p.words then given[p.name] = p.values[given[p.name] + 1] end
    end
  end
  return M.resolve(kernel, gpu_name, given)
end

-- As resolve, and a broken restriction is an error.
function M.check(kernel, gpu_name, given)
  local spec = M.resolve(kernel, gpu_name, given)
  if spec.broken then error(("%s [%s]"):format(spec.why, spec.gpu.name), 0) end
  return spec
end

-- What C knows of a kernel besides its text.
local function outline_of(spec)
  return {
    name = spec.name, kernel = spec.kernel.name, sm = spec.gpu.sm, arch = spec.arch,
    threads = spec.values.threads, smem = spec.values.smem,
    nspec = #spec.kernel.shape + #spec.kernel.tile, params = params_for_c(spec),
  }
end

function M.outline(kernel, gpu_name, given)
  return outline_of(M.check(kernel, gpu_name, given))
end

-- The emitted kernel: the outline, text, and for every line its place: file_at[i] an index into files, or 0, and
-- line_at[i].
function M.render(kernel, gpu_name, given)
  local spec = M.check(kernel, gpu_name, given)
  local lines, files, index, file_at, line_at = {}, {}, {}, {}, {}
  local function append(text, place)
    for i, line in ipairs(text) do
      local at = place and place[i] or { nil, 0 }
      if at[1] and not index[at[1]] then
        files[#files + 1] = at[1]
        index[at[1]] = #files
      end
      lines[#lines + 1] = line
      file_at[#lines], line_at[#lines] = index[at[1]] or 0, at[2]
    end
  end
  append(header(spec))
  append { PRELUDE_BEGIN }
  append(template.render("templates/prelude_cuda.cu.t", spec.values, read_file))
  append { PRELUDE_END }
  append(template.render("templates/" .. spec.kernel.template, spec.values, read_file))
  lines[#lines + 1] = ""
  local out = outline_of(spec)
  out.text, out.files, out.file_at, out.line_at = table.concat(lines, "\n"), files, file_at, line_at
  return out
end

-- The prelude's functions by name, and what stands beside them (types, macros).
local function definitions(prelude)
  local of, beside, name = {}, {}, nil
  for line in prelude:gmatch("[^\n]+") do
    local begins = not name and (line:match("^DEVICE [^(]-([%w_]+)%(") or line:match("^static [^(]-([%w_]+)%("))
    if begins then
      name, of[begins] = begins, {}
    end
    local to = name and of[name] or beside
    to[#to + 1] = line
    if line:match("^}") or begins and line:match("}$") then name = nil end
  end
  for k, lines in pairs(of) do of[k] = table.concat(lines, "\n") end
  return of, table.concat(beside, "\n")
end

-- What of a rendered kernel decides what it does: no comments, no name, and of the prelude's functions those that it comes to. Results of
-- a kernel hold as long as this text stays the same.
function M.essence(kernel, gpu_name, given)
  local out = M.render(kernel, gpu_name, given)
  local text = out.text:gsub(out.name, "kernel")
  local from, first = text:find(PRELUDE_BEGIN, 1, true)
  local last, to = text:find(PRELUDE_END, 1, true)
  local function bare(part) return (part:gsub("/%*.-%*/", ""):gsub("[ \t]+\n", "\n")) end
  local body = bare(text:sub(to + 1))
  local of, beside = definitions(bare(text:sub(first + 1, last - 1)))
  local parts, seen = { out.arch, beside }, {}
  local function add(part)
    for word in part:gmatch("[%a_][%w_]*") do
      if of[word] and not seen[word] then
        seen[word] = true
        add(of[word])
      end
    end
    parts[#parts + 1] = part
  end
  add(beside)
  add(body)
  return table.concat(parts, "\n")
end

-- The host's prelude for the same spec, with the marker lines.
function M.host_prelude(kernel, gpu_name, given)
  local spec = resolve_from_c(kernel, gpu_name, given)
  local lines = template.render("templates/prelude_host.cu.t", spec.values, read_file)
  return PRELUDE_BEGIN .. "\n" .. table.concat(lines, "\n") .. "\n" .. PRELUDE_END
end

-- Bytes and operations of a launch with the given run-time sizes (name -> text or number).
function M.work(kernel, gpu_name, given, sizes)
  local spec = resolve_from_c(kernel, gpu_name, given)
  local k, known = spec.kernel, {}
  local values = setmetatable({}, { __index = spec.values })
  for _, name in ipairs(k.args) do
    known[name] = true
    values[name] = tonumber(sizes[name]) or fail("%s: bytes and flops need the size '%s'", k.name, name)
  end
  for name in pairs(sizes) do
    if not known[name] then fail("%s has no size '%s'; it has %s", k.name, name, table.concat(k.args, ", ")) end
  end
  local where = "gen/kernels/" .. k.name .. ".lua"
  return evaluate(where .. ": bytes", k.bytes or 0, values), evaluate(where .. ": flops", k.flops or 0, values)
end

-- What the name is to the kernel: 2 a shape parameter, 1 a tile parameter, 0 neither (gen.h: gen_has_param).
function M.has_param(kernel, name)
  local k = M.declaration(kernel)
  for kind, group in ipairs { k.tile, k.shape } do
    for _, p in ipairs(group) do
      if p.name == name then return kind end
    end
  end
  return 0
end

return M

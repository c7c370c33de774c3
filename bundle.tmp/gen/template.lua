-- The template engine: text in, lines of text out, nothing else.
--
--   % for i = 0, n - 1 do          a line whose first non-blank is % is Lua
--       acc[${i}] = 0.0f;          ${...} is the value of a Lua expression, on one line
--   % end
--   %% x                           %% at the start of a line: the text "% x"
--
-- Everything else passes through. A name that the environment does not hold is an error, so is a value that is neither a
-- number nor a string; every error begins with "template:line:". Variables of a template are local; it cannot set globals.
-- include "file.cu.t" renders another file of templates/ at that place, in the same environment.
--
-- Each line of a template becomes exactly one line of a Lua chunk of the same name, so Lua's messages carry the right place.

local M = {}

local MAX_INCLUDE_DEPTH = 16

-- A number as C reads it back: whole numbers without a point, others in the shortest form that gives the same double.
local function number_text(v)
  if math.type(v) == "integer" then return tostring(v) end
  if v ~= v or v == math.huge or v == -math.huge then return nil end
  if v == math.floor(v) and math.abs(v) < 2 ^ 53 then return ("%d"):format(v) end
  for digits = 6, 17 do
    local s = ("%." .. digits .. "g"):format(v)
    if tonumber(s) == v then return s end
  end
end

local function value_text(v, source)
  if type(v) == "string" then return v end
  local text = type(v) == "number" and number_text(v)
  if text then return text end
  local what = type(v) == "number" and tostring(v) or v == nil and "nil" or "a " .. type(v)
  error(("${%s} is %s, where a number or a string is needed"):format(source, what), 2)
end

-- The expression that begins at `from`, just behind "${", and the place of its brace. It ends at the first brace that leaves
-- correct Lua, so that tables and strings may hold braces.
local function expression_at(file, n, line, from)
  local close, problem = from - 1, nil
  while true do
    close = line:find("}", close + 1, true)
    if not close then
      error(("%s:%d: %s"):format(file, n, problem or "${ without its } on the same line"), 0)
    end
    local source = line:sub(from, close - 1)
    local ok, message = load("return (" .. source .. ")", "=expression", "t")
    if ok then return source, close end
    problem = problem or ("bad expression ${%s}: %s"):format(source, (message:gsub("^expression:%d+: ", "")))
  end
end

-- The Lua call that emits one line of text.
local function text_call(file, n, line)
  local parts, at = {}, 1
  while true do
    local open = line:find("${", at, true)
    if not open then break end
    local source, close = expression_at(file, n, line, open + 2)
    parts[#parts + 1] = ("%q, _value((%s), %q)"):format(line:sub(at, open - 1), source, source)
    at = close + 1
  end
  parts[#parts + 1] = ("%q"):format(line:sub(at))
  return ("_line(%d, %s)"):format(n, table.concat(parts, ", "))
end

-- The Lua chunk of a template, line for line.
local function chunk_of(file, text)
  if text:find("\0", 1, true) then error(file .. ": holds a NUL byte; it is not a template", 0) end
  text = text:gsub("\r\n", "\n")
  if text:sub(-1) ~= "\n" then text = text .. "\n" end
  local out = { "local _line, _value = ...; " }
  local n = 0
  for line in text:gmatch("(.-)\n") do
    n = n + 1
    local indent, rest = line:match("^(%s*)%%(.*)$")
    if rest and rest:sub(1, 1) ~= "%" then
      line = rest
    else
      line = text_call(file, n, rest and indent .. rest or line)
    end
    out[n] = (n == 1 and out[1] or "") .. line
  end
  return table.concat(out, "\n")
end

-- An environment for templates and expressions: reads `values`, and no name may be missing or set.
function M.strict(values)
  return setmetatable({}, {
    __index = function(_, name)
      local v = values[name]
      if v == nil then error(("undefined name '%s'"):format(tostring(name)), 2) end
      return v
    end,
    __newindex = function(_, name)
      error(("'%s' is set as a global; write 'local %s'"):format(tostring(name), tostring(name)), 2)
    end,
    __metatable = false,
  })
end

-- Renders a template. `read(path)` gives a file's text or nil, `values` holds the names that the template may use.
-- Returns the lines, and beside them where each came from: `place[i]` = { path, line }.
function M.render(path, values, read)
  local lines, place, depth = {}, {}, 0
  local names = setmetatable({}, { __index = values })
  local env = M.strict(names)

  local function run(file)
    if depth == MAX_INCLUDE_DEPTH then error("include is nested too deep: " .. file, 0) end
    depth = depth + 1
    local text = read(file)
    if not text then error(file .. ": no such template", 0) end
    local chunk, message = load(chunk_of(file, text), "=" .. file, "t", env)
    if not chunk then error(message, 0) end
    local here = {} -- one place a line, shared by all that the line emits
    chunk(function(n, ...)
      here[n] = here[n] or { file, n }
      -- A value may hold line ends: each part is a line of the output.
      for part in (table.concat({ ... }) .. "\n"):gmatch("(.-)\n") do
        lines[#lines + 1] = part
        place[#lines] = here[n]
      end
    end, value_text)
    depth = depth - 1
  end

  names.include = function(name) run("templates/" .. tostring(name)) end
  run(path)
  return lines, place
end

return M

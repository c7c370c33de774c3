-- Chat templates of the known families. A model's file holds its template as Jinja text; that is not run, but tells which family it is
-- and the family's variants. Each family is a file of gen/chat/ that returns
--
--   detect(model)      whether the template is of the family
--   vocabulary(model)  whether a model without a template is, by its tokens (optional)
--   turn(model, turn)  what the model is to read next, up to where its reply begins: an array of strings, which are markup, in
--                      which special tokens count, and of { text } for what a person wrote, in which they do not
--
-- model: template, bos, eos (texts, "" where there is none), has(text): whether there is such a special token
-- turn:  user; system (nil: the template's own, "": none); first: whether this turn begins the text; if not, it begins by
--        ending the last reply

local M = {}

local names = { "chatml", "llama3", "llama2", "mistral", "zephyr" } -- the first one that fits is taken

local function family(name)
  for _, known in ipairs(names) do
    if name == known then return use("gen/chat/" .. name .. ".lua") end
  end
  error(("chat template '%s' is not known; %s are"):format(name, table.concat(names, ", ")), 0)
end

function M.find(model)
  for _, name in ipairs(names) do
    if model.template ~= "" and family(name).detect(model) then return name end
  end
  for _, name in ipairs(names) do
    local f = family(name)
    if model.template == "" and f.vocabulary and f.vocabulary(model) then return name end
  end
  local what = model.template == "" and "has no chat template" or "has a chat template of no known family"
  error(("the model %s; name the one to use: %s"):format(what, table.concat(names, ", ")), 0)
end

function M.check(name)
  family(name)
end

function M.turn(name, model, turn)
  local parts = family(name).turn(model, turn)
  -- The template writes the token that begins a text where the tokenizer does not.
  if turn.first and (model.adds_bos or model.template:find("bos_token", 1, true)) then
    table.insert(parts, 1, model.bos)
  end
  return parts
end

return M

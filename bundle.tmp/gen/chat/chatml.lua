-- ChatML: SmolLM2, Qwen2 and many others.

local M = {}

function M.detect(model)
  return model.template:find("<|im_start|>", 1, true) and not model.template:find("<|im_sep|>", 1, true)
end

function M.vocabulary(model)
  return model.has("<|im_start|>") and model.has("<|im_end|>")
end

-- What the template says where nobody says anything: a literal, with line ends as they are or escaped.
local function default_system(template)
  for _, line_end in ipairs { "\n", "\\n" } do
    local text = template:match("<|im_start|>system" .. line_end .. "([^'\"{}<]+)<|im_end|>")
    if text then return (text:gsub("\\n", "\n")) end
  end
  return ""
end

function M.turn(model, turn)
  local parts = {}
  if turn.first then
    local system = turn.system or default_system(model.template)
    if system ~= "" then parts = { "<|im_start|>system\n", { system }, "<|im_end|>\n" } end
  else
    parts[1] = "<|im_end|>\n"
  end
  table.move({ "<|im_start|>user\n", { turn.user }, "<|im_end|>\n<|im_start|>assistant\n" }, 1, 3, #parts + 1, parts)
  return parts
end

return M

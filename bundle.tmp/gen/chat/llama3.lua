-- Llama 3, 3.1, 3.2 and 3.3.

local M = {}

function M.detect(model)
  return model.template:find("<|start_header_id|>", 1, true)
end

function M.vocabulary(model)
  return model.has("<|start_header_id|>") and model.has("<|eot_id|>")
end

local function trim(text)
  return text:match("^%s*(.-)%s*$")
end

function M.turn(model, turn)
  local parts = {}
  local dates = model.template:find("Cutting Knowledge Date", 1, true) -- 3.1 and later; the date is the template's own
  if not turn.first then
    parts[1] = "<|eot_id|>"
  elseif dates then
    parts = { "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n",
              { trim(turn.system or "") }, "<|eot_id|>" }
  elseif turn.system and turn.system ~= "" then
    parts = { "<|start_header_id|>system<|end_header_id|>\n\n", { trim(turn.system) }, "<|eot_id|>" }
  end
  table.move({ "<|start_header_id|>user<|end_header_id|>\n\n", { trim(turn.user) },
               "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n" }, 1, 3, #parts + 1, parts)
  return parts
end

return M

-- Mistral's instruct models. Their versions differ in the spaces around the markers, which are read from the template.

local M = {}

function M.detect(model)
  return model.template:find("[INST]", 1, true)
end

function M.vocabulary(model)
  return model.has("[INST]") and model.has("[/INST]")
end

function M.turn(model, turn)
  local function has(text) return model.template:find(text, 1, true) end
  local space = (has("[INST] ") or model.template == "") and " " or ""
  local open = ((has("' [INST]") or has("\" [INST]")) and " " or "") .. "[INST]" .. space
  local close = (has(" [/INST]") and " " or "") .. "[/INST]"
  local parts = {}
  local system = turn.first and turn.system or ""
  if not turn.first then parts[1] = model.eos end
  if system ~= "" and has("[SYSTEM_PROMPT]") then
    table.move({ "[SYSTEM_PROMPT]" .. space, { system }, "[/SYSTEM_PROMPT]" }, 1, 3, #parts + 1, parts)
    system = ""
  end
  parts[#parts + 1] = open
  if system ~= "" then table.move({ { system }, "\n\n" }, 1, 2, #parts + 1, parts) end
  table.move({ { turn.user }, close }, 1, 2, #parts + 1, parts)
  return parts
end

return M

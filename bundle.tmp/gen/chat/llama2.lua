-- Llama 2: every exchange is a text of its own, from BOS to EOS.

local M = {}

function M.detect(model)
  return model.template:find("[INST]", 1, true) and model.template:find("<<SYS>>", 1, true)
end

local function trim(text)
  return text:match("^%s*(.-)%s*$")
end

function M.turn(model, turn)
  local parts = {}
  if not turn.first then parts[1] = " " .. model.eos .. model.bos end
  parts[#parts + 1] = "[INST] "
  if turn.first and turn.system and turn.system ~= "" then
    table.move({ "<<SYS>>\n", { turn.system }, "\n<</SYS>>\n\n" }, 1, 3, #parts + 1, parts)
  end
  table.move({ { trim(turn.user) }, " [/INST]" }, 1, 2, #parts + 1, parts)
  return parts
end

return M

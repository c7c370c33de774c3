-- Zephyr and TinyLlama's chat models.

local M = {}

function M.detect(model)
  return model.template:find("<|user|>", 1, true) and not model.template:find("<|end|>", 1, true)
end

function M.turn(model, turn)
  local parts = {}
  if not turn.first then
    parts[1] = model.eos .. "\n"
  elseif turn.system and turn.system ~= "" then
    parts = { "<|system|>\n", { turn.system }, model.eos .. "\n" }
  end
  table.move({ "<|user|>\n", { turn.user }, model.eos .. "\n<|assistant|>\n" }, 1, 3, #parts + 1, parts)
  return parts
end

return M

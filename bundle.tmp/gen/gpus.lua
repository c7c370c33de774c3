-- Facts of each GPU, each with its source. A new GPU is one entry here, or a file of the same fields given to --gpu.
--
-- What follows from the compute capability alone stands in M.sm: two GPUs of one sm get the same kernel text, so templates see
-- these and nothing else. What differs from GPU to GPU (multiprocessors, rates, sizes of memory) is for defaults, for the tuner
-- and for the occupancy table.

local M = {}

local KB, MB, GB = 1024, 1024 * 1024, 1000 * 1000 * 1000

-- Source of the whole table: CUDA C++ Programming Guide 13.0, "Compute Capabilities", tables "Feature Support" and "Technical
-- Specifications"; allocation units: CUDA Occupancy Calculator. Every block also takes 1 KB of shared memory for the system
-- (Ampere Tuning Guide, section 1.4.3.1).
M.sm = {
  [80]  = { smem_per_block = 163 * KB, smem_per_sm = 164 * KB, threads_per_sm = 2048, blocks_per_sm = 32 },
  [86]  = { smem_per_block =  99 * KB, smem_per_sm = 100 * KB, threads_per_sm = 1536, blocks_per_sm = 16 },
  [87]  = { smem_per_block = 163 * KB, smem_per_sm = 164 * KB, threads_per_sm = 1536, blocks_per_sm = 16 },
  [89]  = { smem_per_block =  99 * KB, smem_per_sm = 100 * KB, threads_per_sm = 1536, blocks_per_sm = 24 },
  [90]  = { smem_per_block = 227 * KB, smem_per_sm = 228 * KB, threads_per_sm = 2048, blocks_per_sm = 32 },
  [100] = { smem_per_block = 227 * KB, smem_per_sm = 228 * KB, threads_per_sm = 2048, blocks_per_sm = 32 },
  [103] = { smem_per_block = 227 * KB, smem_per_sm = 228 * KB, threads_per_sm = 2048, blocks_per_sm = 32 },
  [120] = { smem_per_block =  99 * KB, smem_per_sm = 100 * KB, threads_per_sm = 1536, blocks_per_sm = 24 },
}
for sm, facts in pairs(M.sm) do
  facts.sm = sm
  facts.regs_per_sm = 64 * KB          -- 32-bit registers
  facts.reg_unit = 256                 -- registers are given to a warp in units of this many
  facts.smem_unit = 128                -- shared memory likewise, bytes
  facts.smem_reserved = 1 * KB         -- a block, for the system
  facts.has_wgmma = sm == 90 and 1 or 0
  facts.has_tma = sm >= 90 and 1 or 0
end

-- Per GPU: sms; dram_gbs GB/s; l2_bytes; memory_bytes; clock_mhz (boost); fp32_tflops; tensor_tflops: dense fp16/bf16 products
-- with fp32 accumulation. `match` is the device name that the driver reports, as a Lua pattern.
M.gpu = {
  ["a100-40"] = {
    title = "NVIDIA A100 40GB", sm = 80, sms = 108, dram_gbs = 1555, l2_bytes = 40 * MB, memory_bytes = 40 * GB,
    clock_mhz = 1410, fp32_tflops = 19.5, tensor_tflops = 312, match = "A100.*40GB",
    source = "NVIDIA A100 Tensor Core GPU Architecture whitepaper (2020), tables 1 and 4",
  },
  ["a100-80"] = {
    title = "NVIDIA A100 80GB", sm = 80, sms = 108, dram_gbs = 2039, l2_bytes = 40 * MB, memory_bytes = 80 * GB,
    clock_mhz = 1410, fp32_tflops = 19.5, tensor_tflops = 312, match = "A100.*80GB", alias = { "a100" },
    source = "NVIDIA A100 datasheet (SXM, 80 GB); L2 and clock from the architecture whitepaper",
  },
  ["a6000"] = {
    title = "NVIDIA RTX A6000", sm = 86, sms = 84, dram_gbs = 768, l2_bytes = 6 * MB, memory_bytes = 48 * GB,
    clock_mhz = 1800, fp32_tflops = 38.7, tensor_tflops = 154.8, match = "RTX A6000", alias = { "rtx-a6000" },
    source = "NVIDIA Ampere GA102 GPU Architecture whitepaper (v2), table of the RTX A6000",
  },
  ["rtx3090"] = {
    title = "NVIDIA GeForce RTX 3090", sm = 86, sms = 82, dram_gbs = 936, l2_bytes = 6 * MB, memory_bytes = 24 * GB,
    clock_mhz = 1695, fp32_tflops = 35.6, tensor_tflops = 71, match = "RTX 3090$", alias = { "3090", "rtx-3090" },
    source = "NVIDIA Ampere GA102 GPU Architecture whitepaper (v2), table of the GeForce RTX 3090 (half rate with fp32 sums)",
  },
  ["rtx4090"] = {
    title = "NVIDIA GeForce RTX 4090", sm = 89, sms = 128, dram_gbs = 1008, l2_bytes = 72 * MB, memory_bytes = 24 * GB,
    clock_mhz = 2520, fp32_tflops = 82.6, tensor_tflops = 165.2, match = "RTX 4090$", alias = { "4090", "rtx-4090" },
    source = "NVIDIA Ada GPU Architecture whitepaper, table of the GeForce RTX 4090",
  },
  ["l40s"] = {
    title = "NVIDIA L40S", sm = 89, sms = 142, dram_gbs = 864, l2_bytes = 96 * MB, memory_bytes = 48 * GB,
    clock_mhz = 2520, fp32_tflops = 91.6, tensor_tflops = 362, match = "L40S",
    source = "NVIDIA L40S datasheet; L2 from the Ada GPU Architecture whitepaper (AD102, full)",
  },
  ["h100"] = {
    title = "NVIDIA H100 80GB HBM3", sm = 90, sms = 132, dram_gbs = 3352, l2_bytes = 50 * MB, memory_bytes = 80 * GB,
    clock_mhz = 1830, fp32_tflops = 66.9, tensor_tflops = 989.4, match = "H100.*HBM3", alias = { "h100-sxm" },
    source = "NVIDIA H100 Tensor Core GPU Architecture whitepaper (SXM5), tables 2 and 3",
  },
  ["h100-pcie"] = {
    title = "NVIDIA H100 PCIe", sm = 90, sms = 114, dram_gbs = 2039, l2_bytes = 50 * MB, memory_bytes = 80 * GB,
    clock_mhz = 1620, fp32_tflops = 51.2, tensor_tflops = 756, match = "H100 PCIe",
    source = "NVIDIA H100 Tensor Core GPU Architecture whitepaper (PCIe), tables 2 and 3",
  },
  ["h200"] = {
    title = "NVIDIA H200", sm = 90, sms = 132, dram_gbs = 4800, l2_bytes = 60 * MB, memory_bytes = 141 * GB,
    clock_mhz = 1980, fp32_tflops = 67, tensor_tflops = 989, match = "H200",
    source = "NVIDIA H200 datasheet (SXM); multiprocessors, L2 and clock as the driver reports them",
  },
}

-- The fields of a file that describes a GPU. Only sm must be there; what follows from it is not for the file to say.
local FIELDS = {
  title = "string", sm = "number", sms = "whole number", dram_gbs = "number", l2_bytes = "whole number", memory_bytes = "whole number",
  clock_mhz = "number", fp32_tflops = "number", tensor_tflops = "number", source = "string",
}

local function sorted_keys(t)
  local keys = {}
  for k in pairs(t) do keys[#keys + 1] = k end
  table.sort(keys, function(a, b)
    if type(a) ~= type(b) then return type(a) < type(b) end
    if type(a) == "number" then return a < b end
    return tostring(a) < tostring(b)
  end)
  return keys
end

-- The names that --gpu takes, in order.
function M.names()
  return sorted_keys(M.gpu)
end

local function known_names()
  local out = {}
  for _, name in ipairs(M.names()) do
    local alias = M.gpu[name].alias
    out[#out + 1] = alias and name .. " (" .. table.concat(alias, ", ") .. ")" or name
  end
  return table.concat(out, ", ")
end

local function known_sms()
  return table.concat(sorted_keys(M.sm), ", ")
end

-- Facts of a GPU: its entry over those of its sm, with `name`.
local function complete(name, entry)
  local facts = { name = name }
  for k, v in pairs(M.sm[entry.sm]) do facts[k] = v end
  for k, v in pairs(entry) do facts[k] = v end
  return facts
end

-- A GPU described by a user's file: { sm = 86, sms = 46, dram_gbs = 448, ... }.
local function described(path, entry)
  if type(entry) ~= "table" then error(path .. ": holds no table that describes a GPU", 0) end
  for _, k in ipairs(sorted_keys(entry)) do
    local v, want = entry[k], FIELDS[k]
    if not want then
      error(("%s: unknown field '%s'; known: %s"):format(path, tostring(k), table.concat(sorted_keys(FIELDS), ", ")), 0)
    end
    local number = want ~= "string"
    if type(v) ~= (number and "number" or want) then error(("%s: field '%s' wants a %s"):format(path, k, want), 0) end
    if number and not (v > 0 and v < (k == "sms" and 2 ^ 16 or 2 ^ 53)) then
      error(("%s: field '%s' is %s, which no GPU has"):format(path, k, v), 0)
    end
    entry[k] = number and math.tointeger(v) or v
    if want == "whole number" and math.type(entry[k]) ~= "integer" then
      error(("%s: field '%s' is %s; a whole number is needed"):format(path, k, v), 0)
    end
  end
  if not M.sm[entry.sm] then
    error(("%s: sm is %s; known: %s"):format(path, tostring(entry.sm), known_sms()), 0)
  end
  entry.title = entry.title or "a GPU of " .. path
  return complete("sm_" .. entry.sm, entry)
end

-- Facts by name, alias, "sm_86" for any GPU of that capability, or a file (a name with a slash, or one that ends in .lua or
-- .json) that `describe` reads into a table. Errors list the known names.
function M.find(name, describe)
  local low = name:lower()
  if low:find("/", 1, true) or low:match("%.lua$") or low:match("%.json$") then
    return described(name, describe(name))
  end
  for known, entry in pairs(M.gpu) do
    if known == low then return complete(known, entry) end
    for _, alias in ipairs(entry.alias or {}) do
      if alias == low then return complete(known, entry) end
    end
  end
  local sm = math.tointeger(tonumber(low:match("^sm_?(%d+)$")))
  if sm and M.sm[sm] then return complete("sm_" .. sm, { title = "any GPU of sm_" .. sm, sm = sm }) end
  error(("unknown GPU '%s'; known: %s, sm_NN for NN in %s, or a .json or .lua file that describes one"):format(
    name, known_names(), known_sms()), 0)
end

-- The name for a device that the driver calls `title`: an entry, else sm_NN of the newest known capability whose cubins run on it
-- (the same major number, and a minor one that is no greater), else an error.
function M.name_of(title, sm)
  for _, name in ipairs(M.names()) do
    if M.gpu[name].sm == sm and title:find(M.gpu[name].match) then return name end
  end
  for minor = sm % 10, 0, -1 do
    local close = sm - sm % 10 + minor
    if M.sm[close] then return "sm_" .. close end
  end
  error(("%s has compute capability %d.%d; weir's kernels want one of sm %s"):format(
    title, sm // 10, sm % 10, known_sms()), 0)
end

return M

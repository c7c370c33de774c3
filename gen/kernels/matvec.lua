-- Two ways, by the type of the weights (templates/matvec_plain.cu.t, templates/matvec_quants.cu.t). What only one of them knows has
-- one value for the other.
local plain = "w:sub(1, 1) ~= 'q'"
local is_quant = "w:sub(1, 1) == 'q'"
local bytes_of_256 = "(({ q8_0 = 272, q4_0 = 144, q4_1 = 160, q5_0 = 176, q5_1 = 192, q4_k = 144, q5_k = 176, q6_k = 210 })[w] or 0)"
-- Shared memory of a warp's stage, and what a multiprocessor gives each of two kernels that overlap.
local stage = "(" .. is_quant .. " and 256 * ((cb * " .. bytes_of_256 .. " // 8 + 29) // 16 | 1) or 512 * r * u * (to == 'gate' and 2 or 1))"
local inputs = "(2 * n + n // 4 + 3072)"
local share = "(smem_per_sm // 2 - " .. inputs .. ")"
local two_stages = "2 * " .. stage .. " <= smem_per_block - " .. inputs

-- A launch that is over soon: its blocks are small, so that those of the next one find room while it ends.
local small = is_quant .. " and (to == 'half' or to == 'add') and n >= 2048 and n <= 8192"

kernel {
  name  = "matvec",
  about = "one token times a matrix of weights, with the norm before it and what comes behind it",
  shape = {
    { "n", "inputs", min = 8, default = 4096 },
    { "w", "type of the weights", default = "bf16",
      values = { "f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q5_k", "q6_k" } },
    { "norm", "1: the input is fp32 and is rms-normed first", values = { 0, 1 }, default = 0 },
    { "to", "what becomes of the product", values = { "half", "add", "gate", "f32" }, default = "half" },
    { "t", "data type", values = { "fp16", "bf16" }, default = "bf16" },
  },
  tile = {
    { "r", "plain: outputs a warp takes at a time", values = { 1, 2, 4 }, only = plain, default = 1 },
    { "u", "plain: pieces of 16 bytes of each row that a lane takes at a time", values = { 1, 2, 3, 4, 8 },
      only = plain, default = "w:sub(1, 1) == 'q' and 1 or n >= 1024 and 4 or n > 512 and 3 or 2" },
    { "cb", "quantised: groups of 32 weights of each row that a warp takes at a time", values = { 2, 4, 8 },
      only = is_quant .. " and w:sub(-2) ~= '_k' and n < 2048", default = "(w:sub(1, 1) ~= 'q' or w:sub(-2) == '_k' or n >= 1024) and 8 or 4" },
    { "wp", "warps", values = { 2, 4, 8, 16 },
      default = "not (" .. small .. ") and 8 * " .. two_stages .. " and 8 or 4 * " .. two_stages .. " and 4 or 2" },
    { "sk", "quantised: warps that share a row", values = { 1, 2, 4, 8, 16 }, only = is_quant,
      default = is_quant .. " and ((to == 'gate' or to == 'f32') and wp > 4 and 4 or wp) or 1" },
    { "st", "stages of cp.async", values = { 2, 3, 4, 6 },
      default = "math.max(2, math.min(4, " .. share .. " // (wp * " .. stage .. ")))" },
  },
  derive = {
    { "block", "w:sub(-2) == '_k' and 256 or w:sub(1, 1) == 'q' and 32 or 1" }, -- weights of a block, and its bytes
    { "block_bytes", "({ f32 = 4, f16 = 2, bf16 = 2, q8_0 = 34, q4_0 = 18, q4_1 = 20, q5_0 = 22, q5_1 = 24, q4_k = 144, q5_k = 176, q6_k = 210 })[w]" },
    { "lift", "(t == 'bf16' and { q4_0 = 136, q4_1 = 128, q5_0 = 144, q5_1 = 128, q4_k = 128, q5_k = 128, q6_k = 160 } or { q4_0 = 72, q4_1 = 64, q4_k = 64, q6_k = 96 })[w] or 0" }, -- weights.cu.t
    { "row_bytes", "n // block * block_bytes" },
    { "quant", "w:sub(1, 1) == 'q' and 1 or 0" },
    -- Sums of x that are wanted, a group: weights have offsets, or are lifted. 2: the scales are of 16 weights, and so the sums.
    { "sums", "w == 'q6_k' and lift > 0 and 2 or w ~= 'q6_k' and (block == 256 or w:sub(-2) == '_1' or lift > 0) and 1 or 0" },
    { "ends", "to == 'gate' and 2 or 1" },                          -- matrix rows of an output
    -- A warp's stage of shared memory. Quantised: 16 rows of a chunk; rows lie an odd number of 16-byte pieces apart, so that
    -- eight rows' words lie in different banks.
    { "chunk_bytes", "block == 256 and block_bytes or block == 32 and cb * block_bytes or 512 * u" },
    { "aligned", "n % (32 * cb) == 0 and row_bytes % 16 == 0 and chunk_bytes % 16 == 0 and 1 or 0" },
    { "pieces", "aligned == 1 and chunk_bytes // 16 or (chunk_bytes + 29) // 16" },
    { "pitch", "16 * (pieces | 1)" },
    { "stage_bytes", "quant == 1 and 16 * pitch or ends * r * chunk_bytes" },
    { "sums_at", "2 * n" },
    { "part_at", "(sums_at + sums * n // 32 * 4 + 15) // 16 * 16" },
    { "stages_at", "(part_at + (quant == 1 and 128 * wp or 4 * wp) + 127) // 128 * 128" },
    { "a_block", "quant == 1 and wp // sk * 16 // ends or wp * r" }, -- outputs of a block at a time
  },
  -- Registers for 16 warps a multiprocessor, however they are put into blocks.
  launch = { threads = "32 * wp", smem = "stages_at + wp * st * stage_bytes", min_blocks = "math.max(1, 16 // wp)" },
  limits = {
    { "whole_blocks", "n % block == 0 and n % 8 == 0", "a row is whole blocks, and whole pieces of 16 bytes of a plain type" },
    { "of_plain", "quant == 0 or r == 1 and u == 1", "r and u are of plain types" },
    { "of_quants", "quant == 1 or cb == 8 and sk == 1", "cb and sk are of quantised types" },
    { "whole_256", "block < 256 or cb == 8", "a block of 256 weights is taken whole" },
    { "teams", "wp % sk == 0 and (sk == 1 or wp // sk <= 15)", "warps that share a row meet at a barrier of their own" },
  },
  args  = { "rows" },
  bytes = "ends * rows * row_bytes + (norm == 1 and 8 or 2) * n + (to == 'half' and 2 or to == 'gate' and 2 or to == 'add' and 8 or 4) * rows",
  flops = "ends * rows * n * 2",
  check = "oracle_matvec",
}

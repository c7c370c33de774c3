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
    { "wp", "warps", values = { 2, 4, 8 }, default = 8 },
  },
  derive = {
    { "block", "w:sub(-2) == '_k' and 256 or w:sub(1, 1) == 'q' and 32 or 1" }, -- weights of a block, and its bytes
    { "block_bytes", "({ f32 = 4, f16 = 2, bf16 = 2, q8_0 = 34, q4_0 = 18, q4_1 = 20, q5_0 = 22, q5_1 = 24, q4_k = 144, q5_k = 176, q6_k = 210 })[w]" },
    { "row_bytes", "n // block * block_bytes" },
    { "a_block", "wp" }, -- outputs of a block at a time
  },
  launch = { threads = "32 * wp", smem = "2 * n + 4 * wp" },
  limits = {
    { "whole_blocks", "n % block == 0 and n % 8 == 0", "a row is whole blocks, and whole pieces of 16 bytes of a plain type" },
  },
  args  = { "rows" },
  bytes = "(to == 'gate' and 2 or 1) * rows * row_bytes + (norm == 1 and 8 or 2) * n + (to == 'half' and 2 or to == 'gate' and 2 or to == 'add' and 8 or 4) * rows",
  flops = "(to == 'gate' and 2 or 1) * rows * n * 2",
  check = "oracle_matvec",
}

kernel {
  name  = "embed",
  about = "rows of the embedding table, one a token, as fp32",
  shape = {
    { "n", "elements of a row", min = 8, default = 4096 },
    { "w", "type of the table", default = "bf16",
      values = { "f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q5_k", "q6_k" } },
    { "t", "data type", values = { "fp16", "bf16" }, default = "bf16" },
  },
  tile = {
    { "wp", "warps", values = { 1, 2, 4, 8 }, default = "n >= 2048 and 8 or n >= 1024 and 4 or 2" },
  },
  derive = {
    { "block", "w:sub(-2) == '_k' and 256 or w:sub(1, 1) == 'q' and 32 or 1" }, -- weights of a block, and its bytes
    { "block_bytes", "({ f32 = 4, f16 = 2, bf16 = 2, q8_0 = 34, q4_0 = 18, q4_1 = 20, q5_0 = 22, q5_1 = 24, q4_k = 144, q5_k = 176, q6_k = 210 })[w]" },
    { "lift", "(t == 'bf16' and { q4_0 = 136, q4_1 = 128, q5_0 = 144, q5_1 = 128, q4_k = 128, q5_k = 128, q6_k = 160 } or { q4_0 = 72, q4_1 = 64, q4_k = 64, q6_k = 96 })[w] or 0" }, -- weights.cu.t
    { "row_bytes", "n // block * block_bytes" },
  },
  launch = { threads = "32 * wp" },
  limits = {
    { "whole_blocks", "n % block == 0 and n % 8 == 0", "a row is whole blocks, and whole pieces of 16 bytes of a plain type" },
  },
  args  = { "tokens" },
  bytes = "tokens * (row_bytes + 4 * n)",
  flops = "tokens * n",
  check = "quant_to_float",
}

kernel {
  name  = "dequantise",
  about = "blocks of weights as numbers of the data type, for the matrix products of a chunk",
  shape = {
    { "w", "type of the weights", default = "q4_0",
      values = { "f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q5_k", "q6_k" } },
    { "t", "data type", values = { "fp16", "bf16" }, default = "bf16" },
  },
  tile = {
    { "wp", "warps", values = { 2, 4, 8 }, default = 8 },
  },
  derive = {
    { "block", "w:sub(-2) == '_k' and 256 or w:sub(1, 1) == 'q' and 32 or 1" }, -- weights of a block, and its bytes
    { "block_bytes", "({ f32 = 4, f16 = 2, bf16 = 2, q8_0 = 34, q4_0 = 18, q4_1 = 20, q5_0 = 22, q5_1 = 24, q4_k = 144, q5_k = 176, q6_k = 210 })[w]" },
    { "lift", "(t == 'bf16' and { q4_0 = 136, q4_1 = 128, q5_0 = 144, q5_1 = 128, q4_k = 128, q5_k = 128, q6_k = 160 } or { q4_0 = 72, q4_1 = 64, q4_k = 64, q6_k = 96 })[w] or 0" }, -- weights.cu.t
  },
  launch = { threads = "32 * wp" },
  args  = { "elements" },
  bytes = "elements // block * block_bytes + 2 * elements",
  flops = "elements",
  check = "quant_to_float",
}

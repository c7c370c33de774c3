kernel {
  name  = "cascade_update",
  about = "moves keys, values, scores and origins down the cascade for one part of a chunk, and places its tokens",
  shape = {
    { "d", "head dimension", values = head_dims },
    { "b", "tokens a span", min = 1, max = 4096 },
    { "t", "data type", values = { "fp16", "bf16" }, default = "bf16" },
  },
  tile = {
    { "wp", "warps per block", values = { 2, 4, 8 }, default = 4 },
    { "sl", "slices of a tree's pieces, a block each", values = { 1, 2, 4, 8 }, default = "b * d >= 1024 and 2 or 1" },
    { "u", "slots in flight a thread", values = { 2, 4, 8 }, default = 4 },
  },
  derive = {
    { "tpb", "math.max(1, 32 * wp * sl * 4 // (b * d))" }, -- trees a block, so that small spans fill it too
  },
  launch = { threads = "32 * wp", smem = 16, min_blocks = 1 },
  limits = {
    { "slices", "b * d // 4 % sl == 0", "every slice has as many pieces" },
  },
  args  = { "tokens", "moved", "kv_heads" },
  bytes = "(tokens + moved) * kv_heads * 2 * (2 * d * 2 + 12)",
  flops = "(tokens + moved) * kv_heads * d * 3",
  check = "oracle_update",
}

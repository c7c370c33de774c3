kernel {
  name  = "attn_decode",
  about = "one query token against a part of the held keys: partial (m, l, O), and the logits for the scores",
  shape = {
    { "d", "head dimension", values = { 64, 80, 96, 128, 256 } },
    { "g", "query heads per key head", min = 1, max = 16 },
    { "t", "data type", values = { "fp16", "bf16" }, default = "bf16" },
  },
  tile = {
    { "bn", "keys per tile", values = { 16, 32 }, default = 16 },
    { "wp", "warps per block", values = { 2, 4, 8 }, default = "d > 128 and 2 or 4" },
    -- As many as leave room for two blocks, but two.
    { "st", "stages of cp.async", values = { 2, 3, 4, 6 },
      default = "math.max(2, math.min(4, (smem_per_sm // 2 - 6144) // (4 * wp * bn * (d + 8))))" },
  },
  derive = {
    { "scale", "1.4426950408889634 / math.sqrt(d)" },
    { "q_at", "4 * wp * st * bn * (d + 8)" },
    { "turned_at", "q_at + (g > 8 and 16 or 8) * d * 2" },
    { "segments_at", "turned_at + (g > 8 and d > 128 and wp * 16 * (d + 8) * 2 or 0)" },
  },
  launch = { threads = "32 * wp", smem = "segments_at + 35 * 16", min_blocks = 1 },
  limits = {
    { "reuse", "4 * wp * g * (d + 2) <= q_at", "the warps' results go where the tiles were" },
  },
  args  = { "keys", "kv_heads" },
  bytes = "(2 * keys * d * 2 + keys * g * 4) * kv_heads",
  flops = "4 * keys * kv_heads * g * d",
  check = "oracle_decode",
}

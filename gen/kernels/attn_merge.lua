kernel {
  name  = "attn_merge",
  about = "combines the splits of attn_decode into outputs and updates the scores from its logits",
  shape = {
    { "d", "head dimension", values = head_dims },
    { "r", "query heads whose probabilities make one score: those of a key head, or of the layer", min = 1, max = 128 },
    { "reduce", "how they make it", values = { "mean", "max", "median" }, default = "mean" },
    { "t", "data type", values = { "fp16", "bf16" }, default = "bf16" },
  },
  tile = {
    { "wp", "warps per block", values = { 2, 4, 8, 16 }, default = 4 },
    { "u", "rows in flight a thread", values = { 1, 2, 4, 8 }, default = "r <= 4 and 4 or r <= 8 and 2 or 1" },
    { "bs", "blocks a multiprocessor at the least", values = { 1, 2, 4, 8 }, default = 2 },
  },
  derive = {
    { "parts_at", "(12 * r + 15) // 16 * 16" },
    { "runs_at", "parts_at + wp * 8 * 16" },
    { "columns_at", "runs_at + 2 * 36 * 4" },
  },
  launch = { threads = "32 * wp", smem = "columns_at + (r > 16 and reduce == 'median' and r * 32 * wp * 4 or 0)", min_blocks = 1 },
  limits = {
    { "runs", "threads > 34", "a thread for each run" },
    { "registers", "u * math.min(r, 16) <= 64", "the rows in flight must fit a thread's registers" },
    { "room", "bs * threads <= threads_per_sm and bs * (smem + smem_reserved) <= smem_per_sm", "the blocks must run at once" },
  },
  args  = { "keys", "cascades", "splits" },
  bytes = "cascades * (keys * (r * 4 + 8) + r * (splits * (d * 4 + 8) + d * 2))",
  flops = "cascades * (keys * r * 3 + r * splits * d * 2)",
  check = "oracle_decode",
}

kernel {
  name  = "attn_decode_scores",
  about = "one token's scores, of several layers, from the logits of attn_decode",
  shape = {
    { "r", "query heads whose probabilities make one score: those of a key head, or of the layer", min = 1, max = 128 },
    { "reduce", "how they make it", values = { "mean", "max", "median" }, default = "mean" },
  },
  tile = {
    { "wp", "warps per block", values = { 2, 4, 8, 16 }, default = 4 },
    { "u", "rows in flight a thread", values = { 1, 2, 4, 8 }, default = "r <= 4 and 4 or r <= 8 and 2 or 1" },
    { "bs", "blocks a multiprocessor at the least", values = { 1, 2, 4, 8 }, default = 2 },
  },
  derive = {
    { "t", "'bf16'" }, -- for the prelude: this kernel touches fp32 only
    { "columns_at", "2 * 36 * 4" },
  },
  launch = { threads = "32 * wp", smem = "columns_at + (r > 16 and reduce == 'median' and r * 32 * wp * 4 or 0)", min_blocks = 1 },
  limits = {
    { "runs", "threads > 34", "a thread for each run" },
    { "registers", "u * math.min(r, 16) <= 64", "the rows in flight must fit a thread's registers" },
    { "room", "bs * threads <= threads_per_sm and bs * (smem + smem_reserved) <= smem_per_sm", "the blocks must run at once" },
  },
  args  = { "keys", "cascades", "layers" },
  bytes = "layers * cascades * keys * (r * 4 + 8)",
  flops = "layers * cascades * keys * r * 3",
  check = "oracle_decode",
}

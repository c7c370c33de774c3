kernel {
  name  = "attn_score_reduce",
  about = "column sums of the heads that share a cascade reduced to one, and the scores' moving average",
  shape = {
    { "reduce", "head reduction", values = { "mean", "max", "median" }, default = "mean" },
  },
  tile = {
    { "wp", "warps", values = { 2, 4, 8 }, default = 4 },
  },
  derive = { { "t", "'bf16'" } }, -- for the prelude: this kernel touches fp32 only
  launch = { threads = "32 * wp" },
  args  = { "tokens", "held", "heads", "cascades" },
  bytes = "4 * (heads * (held + tokens) + cascades * (2 * held + tokens))",
  flops = "heads * (held + tokens)",
  check = "oracle_scores",
}

kernel {
  name  = "likelihood",
  about = "how likely a token was by the logits of its row, a piece of the vocabulary at a time",
  shape = { { "t", "data type", values = { "fp16", "bf16" }, default = "bf16" } },
  tile = {
    { "wp", "warps", values = { 2, 4, 8, 16 }, default = 8 },
    { "u", "pieces of four logits in flight a thread", values = { 1, 2, 4 }, default = 4 },
  },
  launch = { threads = "32 * wp", smem = "8 * wp" },
  args  = { "tokens", "vocab" },
  bytes = "tokens * vocab * 4",
  flops = "tokens * vocab * 4",
  check = "likelihood_nats",
}

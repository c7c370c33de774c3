kernel {
  name  = "sample",
  about = "the next token from the logits, as the stream's options want it",
  shape = { { "t", "data type", values = { "fp16", "bf16" }, default = "bf16" } },
  tile = {
    { "wp", "warps", values = { 4, 8, 16, 32 }, default = 16 },
    { "span", "logits of a block at a time", values = { 512, 1024, 2048 }, default = 1024 },
  },
  launch = { threads = "32 * wp", smem = "4 * span + 16" },
  args  = { "vocab" },
  bytes = "vocab * 4",
  flops = "vocab",
  check = "sampler_pick",
}

kernel {
  name  = "sample",
  about = "the next token from the logits, as the stream's options want it",
  shape = { { "t", "data type", values = { "fp16", "bf16" }, default = "bf16" } },
  tile = {
    { "wp", "warps", values = { 4, 8, 16, 32 }, default = 16 },
    { "span", "logits of a block at a time", values = { 512, 1024, 2048 }, default = 1024 },
  },
  derive = {
    { "list", "2048" }, -- candidates that are sorted; where more are left, ranks are bisected
    { "groups", "256" }, -- of warps, whose firsts say what top-k leaves out
  },
  launch = { threads = "32 * wp", smem = "16 * list + 16" },
  args  = { "vocab" },
  bytes = "vocab * 4",
  flops = "vocab",
  check = "sampler_pick",
}

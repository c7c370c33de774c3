kernel {
  name  = "add_bias",
  about = "adds a bias to each row",
  shape = { { "t", "data type", values = { "fp16", "bf16" }, default = "bf16" } },
  tile = { { "wp", "warps", values = { 2, 4, 8 }, default = 8 } },
  launch = { threads = "32 * wp" },
  args  = { "tokens", "n" },
  bytes = "tokens * n * 4 + n * 4",
  flops = "tokens * n",
  check = "oracle_add_bias",
}

kernel {
  name  = "swiglu",
  about = "silu(gate) times up",
  shape = { { "t", "data type", values = { "fp16", "bf16" }, default = "bf16" } },
  tile = { { "wp", "warps", values = { 2, 4, 8 }, default = 8 } },
  launch = { threads = "32 * wp" },
  args  = { "tokens", "ffn" },
  bytes = "tokens * ffn * 6",
  flops = "tokens * ffn * 5",
  check = "oracle_swiglu",
}

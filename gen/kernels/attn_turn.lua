kernel {
  name  = "attn_turn",
  about = "a chunk's queries and keys turned by their index in the chunk",
  shape = {
    { "d", "head dimension", values = head_dims },
    { "t", "data type", values = { "fp16", "bf16" }, default = "bf16" },
  },
  tile = {
    { "wp", "warps", values = { 2, 4, 8 }, default = 8 },
  },
  launch = { threads = "32 * wp" },
  args  = { "tokens", "heads", "kv_heads" },
  bytes = "4 * d * tokens * (heads + kv_heads) + 4 * d * tokens",
  flops = "3 * d * tokens * (heads + kv_heads)",
  check = "oracle_turn",
}

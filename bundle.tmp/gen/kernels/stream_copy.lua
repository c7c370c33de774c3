kernel {
  name  = "stream_copy",
  about = "copies memory, to measure how fast it is",
  shape = {
    { "t", "data type", values = { "fp16", "bf16" }, default = "bf16" },
  },
  tile = {
    { "wp", "warps per block", values = { 4, 8, 16 }, default = 8 },
    { "u", "pieces of 16 bytes in flight a thread", values = { 1, 2, 4, 8 }, default = 4 },
  },
  launch = { threads = "32 * wp", smem = 0, min_blocks = 1 },
  args  = { "n" },
  bytes = "32 * n",
  flops = "0",
  check = "memcmp",
}

kernel {
  name  = "rms_norm",
  about = "root mean square norm of rows, times a weight",
  shape = {
    { "n", "elements of a row", min = 4, max = 65536, default = 4096 },
    { "t", "data type", values = { "fp16", "bf16" }, default = "bf16" },
  },
  tile = {
    { "wp", "warps", values = { 2, 4, 8, 16 }, default = "n >= 4096 and 8 or 4" },
  },
  launch = { threads = "32 * wp", smem = "4 * wp" },
  limits = {
    { "pieces", "n % 4 == 0", "a thread takes four elements at a time" },
    { "registers", "n <= 4096 * wp", "the row stays in registers" },
  },
  args  = { "tokens" },
  bytes = "tokens * n * 6 + n * 4",
  flops = "tokens * n * 4",
  check = "oracle_rms_norm",
}

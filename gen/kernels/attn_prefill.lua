kernel {
  name  = "attn_prefill",
  about = "a chunk of queries against the held keys, run by run, and the chunk itself, causal; O and log-sum-exp",
  shape = {
    { "d", "head dimension", values = head_dims },
    { "t", "data type", values = { "fp16", "bf16" }, default = "bf16" },
  },
  tile = {
    { "bm", "query rows a block", values = { 32, 64, 128, 192, 256 }, default = "d == 256 and 64 or 128" },
    { "bn", "keys a tile", values = { 16, 32, 48, 64, 80, 96, 128 }, -- two blocks a multiprocessor, and no spills
      default = "d <= 80 and 64 or smem_per_sm < 128 * 1024 and 48 * 96 // d // 16 * 16 or d == 256 and 32 or d == 128 and sm < 90 and 48 or 64" },
    { "st", "stages of K and V; 1: one buffer each, K and V copied in turn", values = { 1, 2, 3, 4 }, default = 1 },
    { "wp", "warps", values = { 2, 4, 8 }, default = 4 },
    { "qr", "Q in registers, not read from shared memory for each tile", values = { 0, 1 }, default = "d == 64 and 1 or 0" },
    { "pd", "how many steps ahead a piece is read from shared memory", values = { 1, 2, 3, 4 }, default = 1 },
    { "mb", "blocks that a multiprocessor should hold, which limits registers", values = { 1, 2, 3, 4 }, default = 2 },
  },
  derive = {
    { "mt", "bm // (16 * wp)" }, -- 16-row tiles a warp
    { "row_bytes", "2 * d" },
    { "state", "mt * (d // 2 + bn // 2 + qr * d // 4)" }, -- registers of O, S and Q
  },
  launch = { threads = "32 * wp", smem = "(bm + 2 * st * bn) * row_bytes", min_blocks = "mb" },
  limits = {
    { "warp_rows", "bm % (16 * wp) == 0", "each warp takes whole tiles of 16 query rows" },
    { "registers", "state + 32 <= regs_per_sm // (threads * mb) and state <= 224", "O, S and Q of a warp must fit its registers" },
    { "resident", "mb * (smem + smem_reserved) <= smem_per_sm", "the blocks that share a multiprocessor share its memory" },
  },
  args  = { "tokens", "held", "heads", "kv_heads" },
  bytes = "row_bytes * (2 * tokens * heads + 2 * (held + tokens) * kv_heads) + 4 * tokens * heads",
  flops = "4 * d * heads * (tokens * held + tokens * (tokens + 1) // 2)",
  check = "oracle_prefill",
}

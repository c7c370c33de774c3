kernel {
  name  = "attn_scores",
  about = "exact column sums of P with the decay's weights, one a key and query head, from the known log-sum-exp",
  shape = {
    { "d", "head dimension", values = head_dims },
    { "t", "data type", values = { "fp16", "bf16" }, default = "bf16" },
  },
  tile = {
    { "mk", "16-key tiles that a warp keeps in registers", values = { 1, 2, 3, 4, 6, 8 }, default = "d == 64 and 3 or d == 256 and 1 or 2" },
    { "bq", "queries a tile", values = { 32, 64, 128 }, default = "d == 256 and 32 or 64" },
    { "st", "stages of queries", values = { 2, 3, 4 }, default = "smem_per_sm >= 128 * 1024 and 3 or 2" },
    { "wp", "warps", values = { 2, 4, 8 }, default = 4 },
    { "pd", "how many steps ahead a piece is read from shared memory", values = { 1, 2, 3, 4 }, default = 1 },
    { "mb", "blocks that a multiprocessor should hold, which limits registers", values = { 1, 2, 3, 4 },
      default = "smem_per_sm < 128 * 1024 and d >= 128 and 2 or 3" },
  },
  derive = {
    { "bk", "16 * mk * wp" }, -- keys a block
    { "row_bytes", "2 * d" },
    { "state", "mk * (d // 4 + 18)" }, -- registers of K, two strips and sums
  },
  launch = { threads = "32 * wp", smem = "st * bq * (row_bytes + 4) + 8 * bk", min_blocks = "mb" },
  limits = {
    { "registers", "state + 32 <= regs_per_sm // (threads * mb) and state <= 224", "K and S of a warp must fit its registers" },
    { "resident", "mb * (smem + smem_reserved) <= smem_per_sm", "the blocks that share a multiprocessor share its memory" },
    { "way_in", "st * bq >= 16 * wp", "each warp passes 16 keys at a time through the query stages" },
    { "constants", "bq <= threads", "one thread a query constant" },
  },
  args  = { "tokens", "held", "heads", "kv_heads" },
  bytes = "row_bytes * (tokens * heads + (held + tokens) * kv_heads) + 4 * tokens * heads + 4 * heads * (held + tokens)",
  flops = "2 * d * heads * (tokens * held + tokens * (tokens + 1) // 2)",
  check = "oracle_scores",
}

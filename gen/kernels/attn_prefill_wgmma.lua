kernel {
  name  = "attn_prefill_wgmma",
  about = "attn_prefill on Hopper: the same outputs for the same arguments, by products of warpgroups",
  wgmma = { shared = "bn", registers = "d" },
  shape = {
    { "d", "head dimension", values = head_dims },
    { "t", "data type", values = { "fp16", "bf16" }, default = "bf16" },
  },
  tile = {
    { "wg", "warpgroups, each with 64 query rows; one more copies", values = { 1, 2, 3 }, default = "d == 64 and 3 or 2" },
    { "bn", "keys a tile", values = { 64, 80, 96, 112, 128, 160, 176 }, default = "d == 64 and 96 or 128" },
    { "st", "stages of K and V", values = { 2, 3, 4 }, default = "d == 64 and 3 or 2" },
    { "mb", "blocks that a multiprocessor should hold, which limits registers", values = { 1, 2, 3 }, default = 1 },
  },
  derive = {
    { "bm", "64 * wg" }, -- query rows a block
    { "row_bytes", "2 * d" },
    -- Registers: an equal share for all threads, of which those that copy keep `spare`; the rest goes to the others.
    { "share", "regs_per_sm // (128 * (wg + 1) * mb) // 8 * 8" },
    { "spare", "wg == 3 and 32 or 40" },
    { "regs", "math.min(240, (share * (wg + 1) - spare) // wg // 8 * 8)" },
    { "state", "d // 2 + bn // 2 + bn // 4" }, -- of O, S and P
  },
  launch = { threads = "128 * (wg + 1)", smem = "2 * (bm + st * bn) * row_bytes", min_blocks = "mb" },
  limits = {
    { "hopper", "has_wgmma == 1", "products of warpgroups are there on compute capability 9.0 only" },
    { "panels", "d == 64 or d == 128", "rows are one or two panels of 64 elements" },
    { "barriers", "st * (wg + 1) <= 15", "each stage has one for each warpgroup, and one" },
    { "registers", "state + 36 <= regs and share < regs", "O, S and P of a warp must fit its registers" },
    { "resident", "mb * (smem + smem_reserved) <= smem_per_sm", "the blocks that share a multiprocessor share its memory" },
  },
  args  = { "tokens", "held", "heads", "kv_heads" },
  bytes = "row_bytes * (2 * tokens * heads + 2 * (held + tokens) * kv_heads) + 4 * tokens * heads",
  flops = "4 * d * heads * (tokens * held + tokens * (tokens + 1) // 2)",
  check = "oracle_prefill",
}

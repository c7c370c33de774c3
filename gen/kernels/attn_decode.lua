kernel {
  name  = "attn_decode",
  about = "one query token against the held keys, split over blocks, the last of which makes the outputs; and the logits for the scores",
  shape = {
    { "d", "head dimension", values = head_dims },
    { "g", "query heads per key head", min = 1, max = 16 },
    { "t", "data type", values = { "fp16", "bf16" }, default = "bf16" },
  },
  tile = {
    -- The defaults make one block fill a multiprocessor: 8 warps, or 6 where heads are large and few query heads share their keys, and
    -- tiles of 32 keys where there is room for two stages of them. Where there is not even room for 6 warps it is two blocks of 4.
    { "bn", "keys per tile", values = { 16, 32, 48, 64 },
      default = "256 * ((g > 4 or d <= 64) and 8 or 6) * (d + 8) + 6144 <= smem_per_block and 32 or 16" },
    { "wp", "warps per block", values = { 2, 3, 4, 6, 8 },
      default = "d > 128 and 2 or (g > 4 or d <= 64) and 1024 * (d + 8) + 6144 <= smem_per_block and 8 or \
                 768 * (d + 8) + 6144 <= smem_per_block and 6 or 4" },
    { "st", "stages of cp.async", values = { 2, 3, 4, 6 },
      default = "bn > 16 and 2 or \
                 math.max(2, math.min(4, ((wp > 4 and smem_per_block or smem_per_sm // 2) - 6144) // (4 * wp * bn * (d + 8))))" },
    { "qr", "turned queries in registers, not read from shared memory for each tile", values = { 0, 1 },
      default = "g > 8 and d > 128 and 0 or 1" },
    { "cg", "groups of copies a tile: 1 its keys and values together, 2 apart, so that products with keys need not wait for values",
      values = { 1, 2 }, default = 1 },
    { "mb", "blocks that a multiprocessor should hold, which limits registers", values = { 1, 2, 3, 4, 6, 8 }, default = 1 },
    { "bs", "blocks of a multiprocessor that share the keys; 0: all that it holds", values = { 0, 1, 2, 3, 4 }, default = 0 },
  },
  derive = {
    { "scale", "1.4426950408889634 / math.sqrt(d)" },
    { "used", "g > 8 and 16 or 8" }, -- rows of a tile of scores that are in use
    { "q_at", "4 * wp * st * bn * (d + 8)" },
    { "turned_at", "q_at + used * d * 2" },
    { "segments_at", "turned_at + (qr == 0 and wp * used * (d + 8) * 2 or 0)" },
    { "room", "segments_at // (4 * g * (d + 1))" }, -- splits that become outputs at a time
    { "state", "d // 2 + bn // 2 + qr * used * d // 64" }, -- registers of O, S and Q
  },
  launch = { threads = "32 * wp", smem = "segments_at + 35 * 16", min_blocks = "mb" },
  limits = {
    { "reuse", "4 * wp * g * (d + 2) <= q_at", "the warps' results go where the tiles were" },
    { "registers", "state + 40 <= regs_per_sm // (threads * mb) and state <= 192", "O, S and Q of a warp must fit its registers" },
    { "bounds", "mb == 1 or threads * mb >= 384", "fewer blocks leave more registers than a warp of this kernel takes" },
    { "resident", "mb * (smem + smem_reserved) <= smem_per_sm", "the blocks that share a multiprocessor share its memory" },
    { "share", "bs == 0 or mb <= bs or mb == 1", "registers are not to be limited for blocks that have no keys" },
    { "room", "bs * (smem + smem_reserved) <= smem_per_sm and bs * threads <= threads_per_sm", "the blocks that share the keys must run at once" },
  },
  args  = { "keys", "kv_heads" },
  bytes = "(2 * keys * d * 2 + keys * g * 4) * kv_heads",
  flops = "4 * keys * kv_heads * g * d",
  check = "oracle_decode",
}

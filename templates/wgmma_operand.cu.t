/* An operand in shared memory: panels of 64 halves (128 bytes) a row, piece c (16 bytes) of row r at 128 * r + 16 * (c ^ r % 8), each
 * panel at a multiple of 1024 bytes. panel: bytes from panel to panel, where the product goes over several of them. */
DEVICE u64 wgmma_operand(const void *p, unsigned panel)
{
    return (u64)(1u << 30 | 1024 >> 4) << 32 | (panel >> 4 & 0x3fff) << 16 | (smem_address(p) >> 4 & 0x3fff);
}
/* The operand that begins so many bytes further on. */
DEVICE u64 wgmma_further(u64 operand, unsigned bytes) { return operand + (bytes >> 4); }

% include "weights.cu.t"

/* Blocks to ${t}, in order.
 *   out [elements] ${t}, written       blocks: elements / ${block} of ${block_bytes} bytes, 16-byte aligned
 * Any grid; elements a multiple of ${math.max(block, 8)}. */
KERNEL(${name}, ${threads}, ${min_blocks})
(half_t *RESTRICT out, const unsigned char *RESTRICT blocks, i64 elements)
{
    grid_launch_next();
    grid_wait();
    /* Whole spans of units, so that what is counted inside one stays an int. */
    const int span = ${4 * threads};
    for (i64 start = (i64)bid_x() * span; start < elements / 8; start += (i64)nbid_x() * span) {
        const i64 left = elements / 8 - start;
        const int units = left < span ? (int)left : span;
        const unsigned char *from = blocks + start * 8 / ${block} * ${block_bytes};
        half_t *to = out + start * 8;
        for (int unit = tid(); unit < units; unit += ${threads}) {
            float v[8];
            unit_values(v, from, unit);
            struct u2 first = {pack2(v[0], v[1]), pack2(v[2], v[3])}, second = {pack2(v[4], v[5]), pack2(v[6], v[7])};
            *(struct u2 *)(to + unit_first(unit)) = first;
            *(struct u2 *)(to + unit_second(unit)) = second;
        }
    }
}

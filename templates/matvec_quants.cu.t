% -- matvec with quantised weights. ${16} rows are the left operand of mma, as whole numbers; scales are applied to the sums.
% include "weights.cu.t"
% local groups = cb                                      -- groups of 32 of a chunk
% local row_groups = n // 32
% local chunks = (row_groups + groups - 1) // groups
% local ragged = row_groups % groups ~= 0
% local outs = 16 // ends                                -- outputs of a team's 16 matrix rows
% local copies = (16 * pieces + 31) // 32                -- a lane's for a chunk
% local dense = pieces % 2 == 1                          -- pieces follow one another in the stage
% if aligned == 1 then
/* Where the lane's pieces of a chunk come from: bytes from the first matrix row's. */
DEVICE void find_pieces(unsigned from[${copies}], int rows)
{
    UNROLL
    for (int i = 0; i < ${copies}; i++) {
        const int p = i * 32 + lane(), row = p / ${pieces};
        from[i] = (unsigned)(${to == "gate" and "row % 8 + row / 8 * rows" or "row"}) * ${row_bytes}u + (unsigned)(p % ${pieces} * 16);
    }
}
% end

/* Asks for one chunk of the ${outs} outputs from `out` on: 16 matrix rows${to == "gate" and ", those of gate, then those of up" or ""}. Rows past the last become zeros.
% if aligned == 0 then
 * Rows begin anywhere: the pieces of 16 bytes that hold a row's bytes are copied, and the row is read from where it begins in them.
% end
 */
DEVICE void ask_chunk(unsigned char *stage, const unsigned char *weights, ${aligned == 1 and "const unsigned from[" .. copies .. "], " or ""}int out, int chunk, int rows)
{
% local at = dense and "p * 16" or ("p / %d * %d + p %% %d * 16"):format(pieces, pitch, pieces)
% local function each_piece(indent)
${indent}UNROLL
${indent}for (int i = 0; i < ${copies}; i++) {
${indent}    const int p = i * 32 + lane();
%   if 16 * pieces % 32 ~= 0 then
${indent}    if (p >= ${16 * pieces})
${indent}        break;
%   end
% end
% if aligned == 1 then
    const unsigned char *first = weights + (i64)out * ${row_bytes} + chunk * ${chunk_bytes};
    if (out + ${outs} <= rows) {
%   each_piece("        ")
            cp_async16_once(stage + ${at}, first + from[i], true);
        }
        return;
    }
%   each_piece("    ")
        const bool valid = out + p / ${pieces}${to == "gate" and " % 8" or ""} < rows;
        cp_async16_once(stage + ${at}, valid ? first + from[i] : weights, valid);
    }
% else
%   each_piece("    ")
        const int row = p / ${pieces}, piece = p % ${pieces}, o = out + row${to == "gate" and " % 8" or ""};
        const i64 at = (i64)(${to == "gate" and "o + row / 8 * rows" or "o"}) * ${row_bytes} + chunk * ${chunk_bytes};
        const int shift = (int)at & 15, left = shift + min_i(${chunk_bytes}, ${row_bytes} - chunk * ${chunk_bytes}) - piece * 16;
        const int bytes = o < rows ? max_i(0, min_i(16, left)) : 0;
        cp_async16_part(stage + row * ${pitch} + piece * 16, weights + (bytes > 0 ? at - shift + piece * 16 : 0), bytes);
    }
% end
}

/* Where matrix row i of the stage begins. */
DEVICE const unsigned char *row_begin(const unsigned char *stage, int i, int out, int chunk, int rows)
{
% if aligned == 1 then
    return stage + i * ${pitch};
% else
    const unsigned row = (unsigned)(out + i${to == "gate" and " % 8 + i / 8 * rows" or ""});
    return stage + i * ${pitch} + (row * ${row_bytes}u + (unsigned)chunk * ${chunk_bytes}u & 15);
% end
}

% local function in_block(row, g) return block == 256 and row or row .. " + (" .. g .. ") * " .. block_bytes end
% -- Of a block of an odd number of halves, every second one's words lie at multiples of four.
% local whole = block == 32 and aligned == 1 and "g % 2 == 1" or "false"
% local function of_block(g) return block == 256 and g or "0" end
/* Adds one chunk's products of rows r and r + 8 (r = lane / 4) to sum[0] and sum[1]: this lane's share of them. Group g of the chunk
 * meets its inputs in column g of mma alone, so the ${groups} groups' sums come out apart, for their scales: the lane has columns 2c
 * and 2c + 1 (c = lane % 4). */
DEVICE void chunk_product(float sum[2], const unsigned char *row, const unsigned char *row8, const half_t *x_s, const float *group_sums,
                          int chunk, struct u4 inputs[${groups}])
{
    const int r = lane() / 4, c = lane() % 4, first = chunk * ${groups};
    float lo[4] = {0.0f, 0.0f, 0.0f, 0.0f}, hi[4] = {0.0f, 0.0f, 0.0f, 0.0f}; /* of the groups' first and last 16 weights */
    const half_t *x = x_s + ((first + r) * 4 + c) * 8;
% if ragged then
    const struct u4 zero = {0, 0, 0, 0};
    const bool in_row = first + r < ${row_groups};
% end
    UNROLL
    for (int g = 0; g < ${groups}; g++)
        if (r == g)
            inputs[g] = ${ragged and "in_row ? lds16(x) : zero" or "lds16(x)"};
    UNROLL
    for (int g = 0; g < ${groups}; g++) {
% if ragged then
        if (first + g >= ${row_groups})
            break;
% end
        unsigned p[4], q[4];
        unit_quants(p, ${in_block("row", "g")}, ${of_block("g")}, c, ${whole});
        unit_quants(q, ${in_block("row8", "g")}, ${of_block("g")}, c, ${whole});
        const unsigned a_lo[4] = {p[0], q[0], p[1], q[1]}, a_hi[4] = {p[2], q[2], p[3], q[3]};
        const unsigned b_lo[2] = {inputs[g].x, inputs[g].y}, b_hi[2] = {inputs[g].z, inputs[g].w};
        mma_m16n8k16(lo, a_lo, b_lo);
        mma_m16n8k16(hi, a_hi, b_hi);
    }
    UNROLL
    for (int h = 0; h < 2; h++) {
        const int g = 2 * c + h;
% local guard = {}
% if groups < 8 then guard[#guard + 1] = "g < " .. groups end
% if ragged then guard[#guard + 1] = "first + g < " .. row_groups end
% if #guard > 0 then
        if (!(${table.concat(guard, " && ")}))
            continue;
% end
        const struct f2 s = group_scale(${in_block("row", "g")}, ${of_block("g")}), s8 = group_scale(${in_block("row8", "g")}, ${of_block("g")});
% if w == "q6_k" then
%   if sums == 2 then
        const struct f2 more = ((const struct f2 *)group_sums)[first + g];
        sum[0] += s.x * (lo[h] - ${lift}.0f * more.x) + s.y * (hi[h] - ${lift}.0f * more.y);
        sum[1] += s8.x * (lo[2 + h] - ${lift}.0f * more.x) + s8.y * (hi[2 + h] - ${lift}.0f * more.y);
%   else
        sum[0] += s.x * lo[h] + s.y * hi[h];
        sum[1] += s8.x * lo[2 + h] + s8.y * hi[2 + h];
%   end
% else
        float by_scale = lo[h] + hi[h], by_scale8 = lo[2 + h] + hi[2 + h];
%   if lift > 0 then
        by_scale -= ${lift}.0f * group_sums[first + g];
        by_scale8 -= ${lift}.0f * group_sums[first + g];
%   end
        sum[0] += s.x * by_scale;
        sum[1] += s8.x * by_scale8;
%   if block == 256 or w:sub(-2) == "_1" then
        sum[0] += s.y * group_sums[first + g];
        sum[1] += s8.y * group_sums[first + g];
%   end
% end
    }
}

% include "matvec_args.cu.t"
/* ${sk == 1 and "Each warp takes 16 matrix rows" or "A team of " .. sk .. " warps takes 16 matrix rows, each warp every " .. sk .. "th chunk of them"}, ${st - 1} chunks ahead. */
KERNEL(${name}, ${threads}, ${min_blocks})
(void *y, const unsigned char *weights, const void *x, const float *norm_weight, const float *bias, int rows, float eps)
{
    half_t *x_s = (half_t *)smem();                   /* [${n}] */
    float *group_sums = (float *)(smem() + ${sums_at}); /* ${sums > 0 and "[" .. row_groups .. "]" or "none"}${sums == 2 and "[2]" or ""} */
    float *part = (float *)(smem() + ${part_at});       /* [2][${wp}][16] */
    unsigned char *stages = smem() + ${stages_at} + warp() * ${st * stage_bytes};
    const int team = warp() / ${sk}, rank = warp() % ${sk}, r = lane() / 4;
    const int begin = (team * nbid_x() + bid_x()) * ${outs}, next = nbid_x() * ${a_block};
    struct early early;

    grid_launch_next();
% if aligned == 1 then
    unsigned from[${copies}];
    find_pieces(from, rows);
% end
    int ahead = begin, ahead_chunk = rank, ahead_stage = 0;
% local function ask(indent)
${indent}if (ahead < rows${sk > chunks and " && rank < " .. chunks or ""})
${indent}    ask_chunk(stages + ahead_stage * ${stage_bytes}, weights, ${aligned == 1 and "from, " or ""}ahead, ahead_chunk, rows);
${indent}cp_async_commit();
${indent}ahead_stage = ahead_stage == ${st - 1} ? 0 : ahead_stage + 1;
${indent}ahead_chunk += ${sk};
${indent}if (ahead_chunk >= ${chunks}) {
${indent}    ahead_chunk = rank;
${indent}    ahead += next;
${indent}}
% end
    for (int i = 0; i < ${st - 1}; i++) {
%   ask("        ")
    }
    read_early(&early, norm_weight);
    grid_wait();
    read_inputs(x_s, group_sums, part, x, &early, eps);

    int stage = 0, turn = 0;
    struct u4 inputs[${groups}] = {{0, 0, 0, 0}}; /* of the lane, for each group of a chunk: zeros but for group r */
    for (int out = begin; out < rows; out += next) {
        float sum[2] = {0.0f, 0.0f};
        for (int chunk = rank; chunk < ${chunks}; chunk += ${sk}) {
            cp_async_wait(${st - 2});
            sync_warp();
%   ask("            ")
            const unsigned char *staged = stages + stage * ${stage_bytes};
            chunk_product(sum, row_begin(staged, r, out, chunk, rows), row_begin(staged, r + 8, out, chunk, rows), x_s, group_sums, chunk, inputs);
            stage = stage == ${st - 1} ? 0 : stage + 1;
        }
        UNROLL
        for (int i = 0; i < 2; i++) {
            sum[i] += shfl_xor_f(sum[i], 1);
            sum[i] += shfl_xor_f(sum[i], 2);
        }
        /* The warps of a team meet once for each of its outputs: what they leave lies in two places in turn. */
        float *mine = part + turn * ${16 * wp};
        turn ^= 1;
        if (lane() % 4 == 0) {
            mine[warp() * 16 + r] = sum[0];
            mine[warp() * 16 + r + 8] = sum[1];
        }
        const int o = out + lane();
        const bool last = rank == 0 && lane() < ${outs} && o < rows;
        const float more = last ? addend(y, bias, o) : 0.0f;
        ${sk == 1 and "sync_warp();" or "sync_named(1 + team, " .. 32 * sk .. ");"}
        if (last) {
            const float *of_team = mine + team * ${16 * sk} + lane();
            float v = more${to == "gate" and ", up = 0.0f" or ""};
            UNROLL
            for (int i = 0; i < ${sk}; i++) {
                v += of_team[i * 16];
% if to == "gate" then
                up += of_team[i * 16 + 8];
% end
            }
            put_output(y, o, v${to == "gate" and ", up" or ""});
        }
    }
}

#include "run.h"

#include <string.h>

#include "half.h"

/* The collectives of a warp: what 32 lanes do together, done once all of them have arrived. */

const char *wait_name(enum wait w)
{
    static const char *const name[] = {
        [WAIT_NONE] = "nothing",
        [WAIT_EXIT] = "exit",
        [WAIT_SHFL] = "shfl",
        [WAIT_SHFL_XOR] = "shfl_xor",
        [WAIT_SHFL_UP] = "shfl_up",
        [WAIT_SHFL_DOWN] = "shfl_down",
        [WAIT_ANY] = "any_warp",
        [WAIT_ALL] = "all_warp",
        [WAIT_BALLOT] = "ballot",
        [WAIT_LDMATRIX] = "ldmatrix",
        [WAIT_MMA] = "mma",
        [WAIT_SYNC_WARP] = "sync_warp",
        [WAIT_SYNC_BLOCK] = "sync_block",
        [WAIT_SYNC_NAMED] = "sync_named",
        [WAIT_ARRIVE_NAMED] = "arrive_named",
        [WAIT_WGMMA] = "wgmma",
        [WAIT_WGMMA_WAIT] = "wgmma_wait",
    };
    return name[w];
}

static int shuffle(struct run *r, int first, int lanes)
{
    struct thread *t = &r->thread[first];
    for (int i = 0; i < lanes; i++) {
        int from = i;
        switch (t[i].wait) {
        case WAIT_SHFL:
            from = t[i].arg & (WARP - 1);
            break;
        case WAIT_SHFL_XOR:
            from = (i ^ t[i].arg) & (WARP - 1);
            break;
        case WAIT_SHFL_UP:
            from = t[i].arg <= i ? i - t[i].arg : i;
            break;
        default:
            from = t[i].arg < WARP - i ? i + t[i].arg : i;
        }
        if (from >= lanes) {
            run_report(r, first + i, t[i].at, "%s reads lane %d, which the block does not have", wait_name(t[i].wait),
                       from);
            return -1;
        }
        t[i].result = t[from].value;
    }
    return 0;
}

static void vote(struct thread *t, int lanes)
{
    unsigned set = 0, full = lanes == WARP ? 0xffffffffu : (1u << lanes) - 1;
    for (int i = 0; i < lanes; i++)
        set |= (unsigned)(t[i].value != 0) << i;
    for (int i = 0; i < lanes; i++)
        t[i].result = t[i].wait == WAIT_BALLOT ? set : t[i].wait == WAIT_ANY ? set != 0 : set == full;
}

/* Matrix m, row i comes from the address that lane 8m + i gives; register m of lane l holds elements 2(l % 4) and the next of
 * row l / 4, or of column l / 4 when transposed. */
static int ldmatrix(struct run *r, int first)
{
    struct thread *t = &r->thread[first];
    int matrices = t->arg;
    uint16_t row[4][8][8];
    for (int m = 0; m < matrices; m++) {
        uint32_t per_bank_group[8] = {0}, passes = 0;
        for (int i = 0; i < 8; i++) {
            struct thread *src = &t[m * 8 + i];
            if (shadow_read_row(r, first + m * 8 + i, src->in, sizeof row[m][i], src->at) != 0)
                return -1;
            memcpy(row[m][i], src->in, sizeof row[m][i]);
            uint32_t *n = &per_bank_group[((const unsigned char *)src->in - r->smem) / 16 % 8];
            passes = ++*n > passes ? *n : passes;
        }
        r->stats.ldmatrix_rows++;
        r->stats.ldmatrix_conflicts += passes - 1;
    }
    for (int l = 0; l < WARP; l++) {
        unsigned *out = t[l].out;
        for (int m = 0; m < matrices; m++) {
            int a = l / 4, b = 2 * (l % 4);
            uint16_t lo = t->arg2 ? row[m][b][a] : row[m][a][b], hi = t->arg2 ? row[m][b + 1][a] : row[m][a][b + 1];
            out[m] = (unsigned)lo | (unsigned)hi << 16;
        }
    }
    return 0;
}

/* mma.m16n8k16, row.col: with g = lane / 4 and k = 2 (lane % 4), registers hold
 *   a: (g, k..) (g+8, k..) (g, k+8..) (g+8, k+8..)   b: (k.., g) (k+8.., g)   c: (g, k..) (g+8, k..)
 * Products of 16-bit numbers are exact in fp32; their sum is fp32, in the order of k. */
static void mma(struct thread *t)
{
    float a[16][16], b[16][8], c[16][8];
    bool bf16 = t->arg2;
    for (int l = 0; l < WARP; l++) {
        const unsigned *ra = t[l].in, *rb = t[l].in2;
        const float *rc = t[l].out;
        int g = l / 4, k = 2 * (l % 4);
        for (int j = 0; j < 4; j++)
            for (int h = 0; h < 2; h++) {
                uint16_t v = (uint16_t)(ra[j] >> 16 * h);
                a[g + 8 * (j % 2)][k + 8 * (j / 2) + h] = bf16 ? bf16_to_float(v) : fp16_to_float(v);
                c[g + 8 * (j / 2)][k + j % 2] = rc[j];
            }
        for (int j = 0; j < 2; j++)
            for (int h = 0; h < 2; h++) {
                uint16_t v = (uint16_t)(rb[j] >> 16 * h);
                b[k + 8 * j + h][g] = bf16 ? bf16_to_float(v) : fp16_to_float(v);
            }
    }
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < 16; k++)
            for (int j = 0; j < 8; j++)
                c[i][j] += a[i][k] * b[k][j];
    for (int l = 0; l < WARP; l++) {
        float *rc = t[l].out;
        for (int j = 0; j < 4; j++)
            rc[j] = c[l / 4 + 8 * (j / 2)][2 * (l % 4) + j % 2];
    }
}

int warp_perform(struct run *r, int w)
{
    int first = w * WARP, lanes = r->warp[w].lanes, rc = 0;
    struct thread *t = &r->thread[first];
    enum wait wait = t->wait;
    switch (wait) {
    case WAIT_SHFL:
    case WAIT_SHFL_XOR:
    case WAIT_SHFL_UP:
    case WAIT_SHFL_DOWN:
        rc = shuffle(r, first, lanes);
        break;
    case WAIT_ANY:
    case WAIT_ALL:
    case WAIT_BALLOT:
        vote(t, lanes);
        break;
    case WAIT_WGMMA_WAIT:
        rc = wgmma_wait(r, w);
        break;
    case WAIT_SYNC_WARP:
        r->warp[w].clock[w]++;
        break;
    default:
        if (lanes < WARP) {
            run_report(r, first, t->at, "%s in a warp of %d lanes", wait_name(wait), lanes);
            rc = -1;
        } else if (wait == WAIT_MMA) {
            mma(t);
        } else {
            rc = ldmatrix(r, first);
        }
    }
    for (int i = 0; i < lanes; i++)
        t[i].wait = WAIT_NONE;
    return rc;
}

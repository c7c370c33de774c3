#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "half.h"
#include "run.h"

/* Products of warpgroups. They run behind the threads: here they are made at once, but the accumulators get them only when their group is
 * waited for; until then those hold a poison, which must not be touched, and neither may operands, in registers or in shared memory. */

enum { ACC_MAX = 4, N_MAX = 256, POISON = (int)0xffc0dead };

struct accumulator { /* of a lane, under way */
    float *c;
    int n;
    unsigned group; /* of the last product that adds to it */
    float value[N_MAX / 2];
};

struct operand { /* registers of a lane that a product reads */
    const unsigned *a;
    unsigned was[4], group;
};

struct piece { /* 16 bytes of shared memory that a product reads */
    unsigned at, group;
    unsigned char was[16];
};

struct lane {
    bool begun;
    unsigned group; /* that the next product joins */
    int naccs, noperands, operands_cap;
    struct accumulator acc[ACC_MAX];
    struct operand *operand;
};

static struct lane *lanes[MAX_THREADS]; /* made when a thread has its first product, kept for the process */
static struct {
    struct piece *piece;
    int n, cap;
} reads[MAX_WARPS];

void wgmma_begin_block(struct run *r)
{
    for (int t = 0; t < (int)r->threads; t++)
        if (lanes[t]) {
            lanes[t]->begun = false;
            lanes[t]->group = 0;
            lanes[t]->naccs = lanes[t]->noperands = 0;
        }
    for (int w = 0; w < r->nwarps; w++)
        reads[w].n = 0;
}

bool wgmma_under_way(int w)
{
    return lanes[w * WARP] && lanes[w * WARP]->naccs > 0;
}

static struct lane *own_lane(const char *at)
{
    int t = emu_run->current;
    if (!lanes[t] && !(lanes[t] = calloc(1, sizeof *lanes[t])))
        run_fail(at, NULL, "the emulator is out of memory (products)");
    return lanes[t];
}

void emu_wgmma_begin(const char *at)
{
    own_lane(at)->begun = true;
}

void emu_wgmma_commit(const char *at)
{
    own_lane(at)->group++;
}

void emu_wgmma_wait(int n, const char *at)
{
    struct thread *t = run_thread();
    own_lane(at)->begun = false; /* what was waited for may be written to */
    t->arg = n;
    run_wait(t, WAIT_WGMMA_WAIT, at);
}

void emu_wgmma(float *c, int n, const unsigned *a, unsigned long long a_at, unsigned long long b_at, int add, int bf16,
               const char *at)
{
    struct thread *t = run_thread();
    if (!own_lane(at)->begun)
        run_fail(at, NULL, "a product without wgmma_begin behind what was written to its registers");
    if (n < 8 || n > N_MAX || n % 8 != 0)
        run_fail(at, NULL, "a product of %d columns", n);
    t->out = c;
    t->in = a;
    t->a_at = a_at;
    t->b_at = b_at;
    t->arg = n;
    t->arg2 = bf16;
    t->add = add != 0;
    run_wait(t, WAIT_WGMMA, at);
}

/* Where the 16 bytes with element (row, column) of an operand lie: rows of 128 bytes, eight of them swizzled together; the next eight
 * rows `stride` further, the next 64 columns `leading`. */
static unsigned piece_at(uint64_t descriptor, int row, int column)
{
    unsigned start = (unsigned)(descriptor & 0x3fff) << 4, leading = (unsigned)(descriptor >> 16 & 0x3fff) << 4,
             stride = (unsigned)(descriptor >> 32 & 0x3fff) << 4;
    unsigned at = start + (unsigned)(column / 64) * leading + (unsigned)(row / 8) * stride + (unsigned)(row % 8) * 128 +
                  (unsigned)(column % 64) * 2;
    return (at ^ (at >> 7 & 7) << 4) & ~15u;
}

/* Reads eight halves for warp w, and remembers them. */
static int read_piece(struct run *r, int w, uint64_t descriptor, int row, int column, float out[8])
{
    struct thread *t = &r->thread[w * WARP];
    unsigned at = piece_at(descriptor, row, column);
    if (shadow_read_async(r, w * WARP, r->smem + at, t->at) != 0)
        return -1;
    if (reads[w].n == reads[w].cap) {
        int cap = reads[w].cap ? 2 * reads[w].cap : 1024;
        struct piece *grown = realloc(reads[w].piece, (size_t)cap * sizeof *grown);
        if (!grown) {
            run_report(r, w * WARP, t->at, "the emulator is out of memory (products)");
            return -1;
        }
        reads[w].piece = grown;
        reads[w].cap = cap;
    }
    struct piece *p = &reads[w].piece[reads[w].n++];
    p->at = at;
    p->group = lanes[w * WARP]->group;
    memcpy(p->was, r->smem + at, sizeof p->was);
    for (int i = 0; i < 8; i++) {
        uint16_t h;
        memcpy(&h, p->was + 2 * i, sizeof h);
        out[i] = t->arg2 ? bf16_to_float(h) : fp16_to_float(h);
    }
    return 0;
}

/* A register operand of a lane: that it stays as it is is seen to at the wait. */
static int keep_operand(struct run *r, int t, const unsigned *a)
{
    struct lane *l = lanes[t];
    if (l->noperands == l->operands_cap) {
        int cap = l->operands_cap ? 2 * l->operands_cap : 32;
        struct operand *grown = realloc(l->operand, (size_t)cap * sizeof *grown);
        if (!grown) {
            run_report(r, t, r->thread[t].at, "the emulator is out of memory (products)");
            return -1;
        }
        l->operand = grown;
        l->operands_cap = cap;
    }
    struct operand *o = &l->operand[l->noperands++];
    o->a = a;
    o->group = l->group;
    memcpy(o->was, a, sizeof o->was);
    return 0;
}

/* a[16][16] of warp w. */
static int read_a(struct run *r, int w, float a[16][16])
{
    struct thread *t = &r->thread[w * WARP];
    for (int i = 0; i < 16 && !t->in; i++)
        for (int k = 0; k < 16; k += 8)
            if (read_piece(r, w, t->a_at, w % 4 * 16 + i, k, &a[i][k]) != 0)
                return -1;
    for (int l = 0; l < WARP && t->in; l++) {
        const unsigned *ra = t[l].in;
        if (keep_operand(r, w * WARP + l, ra) != 0)
            return -1;
        for (int j = 0; j < 4; j++)
            for (int h = 0; h < 2; h++) {
                uint16_t v = (uint16_t)(ra[j] >> 16 * h);
                a[l / 4 + 8 * (j % 2)][2 * (l % 4) + 8 * (j / 2) + h] = t->arg2 ? bf16_to_float(v) : fp16_to_float(v);
            }
    }
    return 0;
}

/* b[16][n] for warp w. */
static int read_b(struct run *r, int w, float b[16][N_MAX])
{
    const struct thread *t = &r->thread[w * WARP];
    float eight[8];
    if (t->in) { /* by rows of k */
        for (int k = 0; k < 16; k++)
            for (int j = 0; j < t->arg; j += 8)
                if (read_piece(r, w, t->b_at, k, j, &b[k][j]) != 0)
                    return -1;
        return 0;
    }
    for (int j = 0; j < t->arg; j++)
        for (int k = 0; k < 16; k += 8) {
            if (read_piece(r, w, t->b_at, j, k, eight) != 0)
                return -1;
            for (int i = 0; i < 8; i++)
                b[k + i][j] = eight[i];
        }
    return 0;
}

static bool poisoned(const float *c, int count)
{
    for (int i = 0; i < count; i++) {
        int bits;
        memcpy(&bits, &c[i], sizeof bits);
        if (bits != POISON)
            return false;
    }
    return true;
}

/* The accumulator of thread t that its product adds to: one that is under way, or a new one with what the registers hold. */
static struct accumulator *accumulator_of(struct run *r, int t)
{
    struct thread *o = &r->thread[t];
    struct lane *l = lanes[t];
    struct accumulator *a = NULL;
    for (int i = 0; i < l->naccs && !a; i++)
        if (l->acc[i].c == o->out)
            a = &l->acc[i];
    if (a && (a->n != o->arg || !poisoned(a->c, a->n / 2))) {
        run_report(r, t, o->at, "registers of a product under way are touched before it is waited for");
        return NULL;
    }
    if (!a && l->naccs == ACC_MAX) {
        run_report(r, t, o->at, "more than %d accumulators under way", ACC_MAX);
        return NULL;
    }
    if (!a) {
        a = &l->acc[l->naccs++];
        a->c = o->out;
        a->n = o->arg;
        memcpy(a->value, a->c, (size_t)a->n / 2 * sizeof *a->value);
        for (int i = 0, poison = POISON; i < a->n / 2; i++)
            memcpy(&a->c[i], &poison, sizeof poison);
    }
    if (!o->add)
        memset(a->value, 0, sizeof a->value);
    a->group = l->group;
    return a;
}

static int perform_warp(struct run *r, int w)
{
    float a[16][16], b[16][N_MAX], c[16][N_MAX];
    struct accumulator *acc[WARP];
    int first = w * WARP, n = r->thread[first].arg;
    if (read_a(r, w, a) != 0 || read_b(r, w, b) != 0)
        return -1;
    for (int l = 0; l < WARP; l++) {
        if (!(acc[l] = accumulator_of(r, first + l)))
            return -1;
        for (int j = 0; j < n / 2; j++)
            c[l / 4 + 8 * (j % 4 / 2)][j / 4 * 8 + 2 * (l % 4) + j % 2] = acc[l]->value[j];
    }
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < 16; k++)
            for (int j = 0; j < n; j++)
                c[i][j] += a[i][k] * b[k][j];
    for (int l = 0; l < WARP; l++)
        for (int j = 0; j < n / 2; j++)
            acc[l]->value[j] = c[l / 4 + 8 * (j % 4 / 2)][j / 4 * 8 + 2 * (l % 4) + j % 2];
    return 0;
}

int wgmma_perform(struct run *r, int w)
{
    int first = w / 4 * 4 * WARP;
    const struct thread *t = &r->thread[first];
    for (int i = 0; i < 4 * WARP; i++)
        if (t[i].a_at != t->a_at || t[i].b_at != t->b_at || t[i].add != t->add || !t[i].in != !t->in) {
            run_report(r, first + i, t->at, "a product whose operands are not those of thread %d of its warpgroup",
                       first);
            return -1;
        }
    for (int j = 0; j < 2; j++) {
        uint64_t d = j ? t->b_at : t->a_at;
        if ((j || !t->in) && (d >> 62 != 1 || (d >> 49 & 7) != 0)) {
            run_report(r, first, t->at, "an operand %016llx that is not swizzled by 128 bytes", (unsigned long long)d);
            return -1;
        }
    }
    for (int v = w / 4 * 4; v < w / 4 * 4 + 4; v++)
        if (perform_warp(r, v) != 0)
            return -1;
    return 0;
}

/* Registers of thread t's products of the groups before `until`. */
static int finish_lane(struct run *r, int t, unsigned until)
{
    struct lane *l = lanes[t];
    int kept = 0;
    for (int i = 0; i < l->naccs; i++) {
        struct accumulator *a = &l->acc[i];
        if (!poisoned(a->c, a->n / 2)) {
            run_report(r, t, r->thread[t].at, "registers of a product under way were touched before it was waited for");
            return -1;
        }
        if (a->group >= until) {
            if (kept != i)
                l->acc[kept] = *a;
            kept++;
        } else {
            memcpy(a->c, a->value, (size_t)a->n / 2 * sizeof *a->value);
        }
    }
    l->naccs = kept;
    kept = 0;
    for (int i = 0; i < l->noperands; i++) {
        const struct operand *o = &l->operand[i];
        if (memcmp(o->a, o->was, sizeof o->was) != 0) {
            run_report(r, t, r->thread[t].at,
                       "registers that a product under way reads were written before it was waited for");
            return -1;
        }
        if (o->group >= until)
            l->operand[kept++] = *o;
    }
    l->noperands = kept;
    return 0;
}

int wgmma_wait(struct run *r, int w)
{
    const struct thread *t = &r->thread[w * WARP];
    unsigned groups = lanes[w * WARP]->group, until = groups > (unsigned)t->arg ? groups - (unsigned)t->arg : 0;
    int kept = 0;
    for (int i = 0; i < reads[w].n; i++) {
        struct piece *p = &reads[w].piece[i];
        if (memcmp(r->smem + p->at, p->was, sizeof p->was) != 0) {
            run_report(r, w * WARP, t->at, "byte %u of shared memory was written while a product under way reads it",
                       p->at);
            return -1;
        }
        if (p->group >= until)
            reads[w].piece[kept++] = *p;
        else if (shadow_read_async(r, w * WARP, r->smem + p->at, t->at) != 0)
            return -1;
    }
    reads[w].n = kept;
    for (int l = 0; l < WARP; l++)
        if (finish_lane(r, w * WARP + l, until) != 0)
            return -1;
    return 0;
}

#include "sass.h"

#include <elf.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { BYTES = 16, OPS_MAX = 1 << 16, TRACE_MAX = 1 << 16 };

/* ---- decoding ------------------------------------------------------------------------------------------------------- */

/* By the opcode's lower 9 bits; the upper 3 say where operands come from. */
static enum sass_unit unit_of(unsigned opcode)
{
    switch (opcode & 0x1ff) {
    case 0x03c: /* HMMA */
        return SASS_TENSOR;
    case 0x020: /* FMUL */
    case 0x021: /* FADD */
    case 0x023: /* FFMA */
    case 0x024: /* IMAD */
    case 0x025: /* IMAD.WIDE */
    case 0x027: /* IMAD.HI */
        return SASS_FMA;
    case 0x108: /* MUFU */
        return SASS_SFU;
    case 0x03b: /* LDSM */
    case 0x184: /* LDS */
    case 0x188: /* STS */
    case 0x189: /* SHFL */
        return SASS_SHARED;
    case 0x1ae: /* LDGSTS */
        return SASS_COPY;
    case 0x181: /* LDG */
    case 0x186: /* STG */
        return SASS_GLOBAL;
    case 0x183: /* LDL */
    case 0x187: /* STL */
        return SASS_LOCAL;
    case 0x11d: /* BAR */
        return SASS_SYNC;
    case 0x1af: /* LDGDEPBAR */
        return SASS_COMMIT;
    case 0x11a: /* DEPBAR */
        return SASS_WAIT;
    case 0x147: /* BRA */
        return SASS_BRANCH;
    case 0x14d: /* EXIT */
        return SASS_EXIT;
    case 0x118: /* NOP */
    case 0x141: /* BSYNC */
    case 0x144: /* CALL */
    case 0x145: /* BSSY */
    case 0x148: /* WARPSYNC */
        return SASS_OTHER;
    default:
        return SASS_ALU;
    }
}

/* Pieces of 128 bytes that a warp's access has. */
static int pieces_of(unsigned opcode, uint64_t high)
{
    switch (opcode & 0x1ff) {
    case 0x03b: /* LDSM: the templates load four matrices of 8 x 8 at a time */
    case 0x1ae: /* LDGSTS: 16 bytes a thread */
        return 4;
    case 0x189: /* SHFL */
        return 1;
    default: { /* bits 73..75: 4 is 32 bits a thread, 5 is 64, 6 is 128 */
        unsigned width = high >> 9 & 7;
        return width == 6 ? 4 : width == 5 ? 2 : 1;
    }
    }
}

/* Where a branch at `at` leads, in instructions. */
static int64_t branch_target(uint64_t low, uint64_t high, int sm, int64_t at)
{
    /* Bits 32..81, bytes; from sm_90 on bits 16..23 and 34..81, words of 4. */
    int64_t upper = (int64_t)(high << 46) >> 46;
    int64_t offset = sm < 90 ? (int64_t)((uint64_t)upper << 32 | low >> 32)
                             : (int64_t)((uint64_t)upper << 40 | (low >> 34) << 10 | (low >> 16 & 0xff) << 2);
    return at + 1 + offset / BYTES;
}

static struct sass_op decode(const unsigned char *code, int sm, int at, int n)
{
    uint64_t low, high;
    memcpy(&low, code, 8);
    memcpy(&high, code + 8, 8);
    unsigned opcode = low & 0xfff, control = (unsigned)(high >> 41), sets = control >> 5 & 7, reads = control >> 8 & 7;
    struct sass_op op = {
        .unit = (unsigned char)unit_of(opcode),
        .stall = control & 15,
        .wait = control >> 11 & 63,
        .sets = sets < 6 ? (signed char)sets : -1,
        .reads = reads < 6 ? (signed char)reads : -1,
        .always = (low >> 12 & 15) == 7,
        .target = -1,
    };
    if (op.unit == SASS_WAIT)
        op.count = low >> 38 & 63;
    else if (op.unit >= SASS_SHARED && op.unit <= SASS_LOCAL)
        op.count = (signed char)pieces_of(opcode, high);
    if (op.unit == SASS_BRANCH) {
        int64_t target = branch_target(low, high, sm, at);
        op.target = target >= 0 && target < n ? (int)target : -1;
    }
    return op;
}

/* The section ".text.NAME" of an ELF file, NULL where there is none. */
static const unsigned char *find_code(const unsigned char *image, size_t bytes, size_t *size)
{
    Elf64_Ehdr head;
    if (bytes < sizeof head)
        return NULL;
    memcpy(&head, image, sizeof head);
    if (memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 || head.e_ident[EI_CLASS] != ELFCLASS64 ||
        head.e_shentsize != sizeof(Elf64_Shdr) || head.e_shoff > bytes ||
        (bytes - head.e_shoff) / sizeof(Elf64_Shdr) < head.e_shnum || head.e_shstrndx >= head.e_shnum)
        return NULL;
    const unsigned char *sections = image + head.e_shoff;
    Elf64_Shdr names, s;
    memcpy(&names, sections + head.e_shstrndx * sizeof names, sizeof names);
    if (names.sh_offset > bytes || names.sh_size > bytes - names.sh_offset)
        return NULL;
    for (int i = 0; i < head.e_shnum; i++) {
        memcpy(&s, sections + (size_t)i * sizeof s, sizeof s);
        static const char wanted[] = ".text.";
        if (s.sh_type != SHT_PROGBITS || s.sh_name > names.sh_size || names.sh_size - s.sh_name < sizeof wanted ||
            memcmp(image + names.sh_offset + s.sh_name, wanted, sizeof wanted - 1) != 0)
            continue;
        if (s.sh_offset > bytes || s.sh_size > bytes - s.sh_offset)
            return NULL;
        *size = s.sh_size;
        return image + s.sh_offset;
    }
    return NULL;
}

int sass_decode(const void *image, size_t bytes, int sm, struct sass *out, struct err *err)
{
    size_t size = 0;
    const unsigned char *code = find_code(image, bytes, &size);
    memset(out, 0, sizeof *out);
    if (!code || size < BYTES || size / BYTES > OPS_MAX)
        return err_set(err, "the compiled kernel holds no code that can be read");
    int n = (int)(size / BYTES);
    out->op = err_alloc((size_t)n, sizeof *out->op, "machine code", err);
    if (!out->op)
        return -1;
    out->n = n;
    for (int i = 0; i < n; i++)
        out->op[i] = decode(code + (size_t)i * BYTES, sm, i, n);
    return 0;
}

void sass_free(struct sass *s)
{
    free(s->op);
    memset(s, 0, sizeof *s);
}

int sass_count(const struct sass *s, enum sass_unit unit)
{
    int n = 0;
    for (int i = 0; i < s->n; i++)
        n += s->op[i].unit == unit;
    return n;
}

/* ---- the way through a loop ------------------------------------------------------------------------------------------- */

struct way {                      /* from an instruction to the loop's end */
    int products, copies, length; /* products -1: there is none */
    int next;                     /* instruction, -1: the end */
};

static bool better(const struct way *a, const struct way *b)
{
    if (a->products != b->products)
        return a->products > b->products;
    return a->copies != b->copies ? a->copies > b->copies : a->length < b->length;
}

/* The best way from `head` to the branch `end` that leads back to it. way [n]. Branches out of the loop are not taken, and neither
 * are those that close an inner loop. */
static void find_way(const struct sass *code, int head, int end, struct way *way)
{
    static const struct way none = {-1, 0, 0, -1};
    for (int i = end; i >= head; i--) {
        const struct sass_op *op = &code->op[i];
        int product = op->unit == SASS_TENSOR, copy = op->unit == SASS_COPY;
        struct way best = none;
        if (i == end) {
            best = (struct way){product, copy, 1, -1};
        } else if (!(op->always && (op->unit == SASS_BRANCH || op->unit == SASS_EXIT))) {
            best = way[i + 1];
            best.next = i + 1;
        }
        if (i != end && op->unit == SASS_BRANCH && op->target > i && op->target <= end) {
            struct way jump = way[op->target];
            jump.next = op->target;
            if (jump.products >= 0 && (best.products < 0 || better(&jump, &best)))
                best = jump;
        }
        if (i != end && best.products >= 0) {
            best.products += product;
            best.copies += copy;
            best.length++;
        }
        way[i] = best;
    }
}

struct tracer {
    const struct sass *code;
    const struct way *way; /* [code->n] */
    int *at;               /* [code->n] where in the trace an instruction was put last, -1: nowhere */
    int head, trips;
    struct sass *out;
};

static int append(struct tracer *t, const struct sass_op *op, struct err *err)
{
    if (t->out->n == TRACE_MAX)
        return err_set(err, "the kernel's loop executes more than %d instructions a turn", TRACE_MAX);
    t->out->op[t->out->n++] = *op;
    return 0;
}

/* The instruction closes an inner loop, whose turn ends the trace: that turn again and again. */
static int repeat(struct tracer *t, int begin, struct err *err)
{
    int end = t->out->n;
    struct sass turn = {t->out->op + begin, end - begin};
    if (!sass_count(&turn, SASS_TENSOR))
        return 0;
    for (int k = 1; k < t->trips; k++)
        for (int i = begin; i < end; i++)
            if (append(t, &t->out->op[i], err) != 0)
                return -1;
    return 0;
}

static int trace(struct tracer *t, struct err *err)
{
    for (int i = t->head; i >= 0; i = t->way[i].next) {
        const struct sass_op *op = &t->code->op[i];
        t->at[i] = t->out->n;
        if (append(t, op, err) != 0)
            return -1;
        bool closes = op->unit == SASS_BRANCH && op->target > t->head && op->target <= i && t->at[op->target] >= 0;
        if (closes && repeat(t, t->at[op->target], err) != 0)
            return -1;
    }
    return 0;
}

/* Products in a loop, if the branch at `end` closes one; else 0. */
static int products_of_loop(const struct sass *code, int end)
{
    const struct sass_op *op = &code->op[end];
    if (op->unit != SASS_BRANCH || op->target < 0 || op->target > end)
        return 0;
    struct sass body = {code->op + op->target, end - op->target + 1};
    return sass_count(&body, SASS_TENSOR);
}

static bool is_innermost(const struct sass *code, int end)
{
    for (int i = code->op[end].target; i < end; i++)
        if (code->op[i].target > code->op[end].target && products_of_loop(code, i) > 0)
            return false;
    return true;
}

/* The loop's closing branch, -1: none. Leaves its way in way[]. */
static int choose_loop(const struct sass *code, bool outermost, struct way *way)
{
    int chosen = -1, size = 0;
    struct way shortest = {-1, 0, 0, -1};
    for (int i = 0; i < code->n; i++) {
        if (products_of_loop(code, i) == 0 || (!outermost && !is_innermost(code, i)))
            continue;
        int head = code->op[i].target;
        find_way(code, head, i, way);
        if (way[head].products <= 0)
            continue;
        bool take = outermost ? i - head > size : chosen < 0 || way[head].length < shortest.length;
        if (take) {
            chosen = i;
            size = i - head;
            shortest = way[head];
        }
    }
    if (chosen >= 0)
        find_way(code, code->op[chosen].target, chosen, way);
    return chosen;
}

int sass_loop(const struct sass *code, bool outermost, int trips, struct sass *out, struct err *err)
{
    memset(out, 0, sizeof *out);
    int status = -1;
    struct way *way = err_alloc((size_t)code->n, sizeof *way, "machine code", err);
    int *at = err_alloc((size_t)code->n, sizeof *at, "machine code", err);
    out->op = err_alloc(TRACE_MAX, sizeof *out->op, "machine code", err);
    if (!way || !at || !out->op)
        goto done;
    memset(at, 0xff, (size_t)code->n * sizeof *at);
    int end = choose_loop(code, outermost, way);
    if (end < 0) {
        err_set(err, "the compiled kernel has no loop of matrix products that can be read");
        goto done;
    }
    struct tracer t = {code, way, at, code->op[end].target, trips, out};
    status = trace(&t, err);
done:
    free(way);
    free(at);
    if (status != 0)
        sass_free(out);
    return status;
}

#include "gen_home.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static const char axpy_spec[] =
    "kernel {\n"
    "  name = 'axpy', about = 'y = a x + y on rows of n values',\n"
    "  shape = { { 'n', 'values of a row', min = 1, max = 4096 }, { 't', 'data type', values = { 'fp16', 'bf16' }, "
    "default = 'bf16' } },\n"
    "  tile = { { 'wp', 'warps', values = { 1, 2, 4, 8 }, default = 'sm >= 90 and 8 or 4' },\n"
    "           { 'st', 'stages', values = { 1, 2, 4, 64 }, default = 2 } },\n"
    "  derive = { { 'row_bytes', 'n * 4' }, { 'rows_held', 'st * wp' } },\n"
    "  launch = { threads = 'wp * 32', smem = 'rows_held * row_bytes' },\n"
    "  limits = { { 'whole_rows', 'n % 4 == 0', 'rows are moved in 16-byte pieces' } },\n"
    "  args = { 'rows' }, bytes = '3 * rows * row_bytes', flops = '2 * rows * n', check = 'oracle_axpy',\n"
    "}\n";

static const char axpy_template[] = "KERNEL(${name}, ${threads}, ${min_blocks})\n"
                                    "(float *y, const float *x, float a, int rows)\n"
                                    "{\n"
                                    "    float *row = (float *)smem();\n"
                                    "    int i = bid_x() * ${threads} + tid();\n"
                                    "% for k = 0, st - 1 do\n"
                                    "    row[tid() + ${k * threads}] = a * ${k};\n"
                                    "% end\n"
                                    "    if (i < rows * ${n})\n"
                                    "        y[i] = a * x[i] + y[i] + row[tid()];\n"
                                    "}\n";

static const char cuda_prelude[] =
    "#define KERNEL(name, threads, blocks) extern \"C\" __global__ void __launch_bounds__(threads, blocks) name\n"
    "static __device__ inline int tid(void) { return threadIdx.x; }\n"
    "static __device__ inline int bid_x(void) { return blockIdx.x; }\n"
    "extern __shared__ unsigned char smem_bytes[];\n"
    "static __device__ inline unsigned char *smem(void) { return smem_bytes; }\n";

static const char host_prelude[] = "/* host, ${t} */\n"
                                   "#define KERNEL(name, threads, blocks) void name\n";

void gen_home_write(const struct gen_home *h, const char *path, const char *text)
{
    char full[256];
    snprintf(full, sizeof full, "%s/%s", h->path, path);
    FILE *f = fopen(full, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
}

void gen_home_open(struct gen_home *h)
{
    static const char *const folders[] = {"gen", "gen/kernels", "templates"};
    strcpy(h->path, "/tmp/weir-home-XXXXXX");
    assert_non_null(mkdtemp(h->path));
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        char full[256];
        snprintf(full, sizeof full, "%s/%s", h->path, folders[i]);
        assert_int_equal(mkdir(full, 0755), 0);
    }
    gen_home_write(h, "gen/kernels/axpy.lua", axpy_spec);
    gen_home_write(h, "templates/axpy.cu.t", axpy_template);
    gen_home_write(h, "templates/prelude_cuda.cu.t", cuda_prelude);
    gen_home_write(h, "templates/prelude_host.cu.t", host_prelude);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    if (type == FTW_D || type == FTW_DNR)
        chmod(path, 0700);
    return remove(path);
}

void gen_home_close(struct gen_home *h)
{
    nftw(h->path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    h->path[0] = 0;
}

char *gen_home_read(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return NULL;
    char *text = calloc(1, 1 << 20);
    size_t n = text ? fread(text, 1, (1 << 20) - 1, f) : 0;
    fclose(f);
    if (text)
        text[n] = 0;
    return text;
}

int gen_fixture_open(void **state)
{
    struct gen_fixture *f = calloc(1, sizeof *f);
    struct err err = {""};
    assert_non_null(f);
    gen_home_open(&f->home);
    if (gen_open(&f->gen, f->home.path, &err) != 0)
        fail_msg("%s", err.msg);
    *state = f;
    return 0;
}

int gen_fixture_close(void **state)
{
    struct gen_fixture *f = *state;
    gen_close(f->gen);
    gen_home_close(&f->home);
    free(f);
    return 0;
}

struct gen *own_gen;

int own_gen_open(void **state)
{
    struct err err = {""};
    (void)state;
    if (gen_open(&own_gen, NULL, &err) != 0)
        fail_msg("%s", err.msg);
    return 0;
}

int own_gen_close(void **state)
{
    (void)state;
    gen_close(own_gen);
    return 0;
}

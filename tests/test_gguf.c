#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gguf_writer.h"
#include "runtime/gguf.h"

static const int64_t two_by_32[] = {32, 2};

static struct gguf *open_bytes(const struct bytes *b)
{
    struct gguf *g;
    struct err err = {""};
    if (gguf_open_memory(&g, b->data, b->size, "file", &err) < 0)
        fail_msg("%s", err.msg);
    return g;
}

/* Opens a file that is wrong; the message must be one line that has `part` in it. */
static void refused(struct bytes b, const char *part)
{
    struct gguf *g = NULL;
    struct err err = {""};
    if (gguf_open_memory(&g, b.data, b.size, "the-file", &err) == 0)
        fail_msg("opened, though it should say '%s'", part);
    if (!strstr(err.msg, part) || !strstr(err.msg, "the-file") || strchr(err.msg, '\n'))
        fail_msg("said '%s' and not '%s'", err.msg, part);
    free(b.data);
}

static struct bytes good_file(void)
{
    static const char *const words[] = {"one", "", "three\0not this"};
    struct gguf_writer w = {0};
    float f[64];
    for (int i = 0; i < 64; i++)
        f[i] = (float)i;
    gguf_put_str(&w, "general.name", "a name");
    gguf_put_u32(&w, "u32", 4000000000u);
    gguf_put_i64(&w, "i64", -5);
    gguf_put_f32(&w, "f32", 0.5f);
    gguf_put_bool(&w, "yes", true);
    gguf_put_strs(&w, "words", words, 3);
    gguf_put_i32s(&w, "ints", (const int32_t[]){-1, 2, 1 << 30}, 3);
    gguf_put_f32s(&w, "floats", (const float[]){1.5f, -2}, 2);
    gguf_put_tensor(&w, "b.matrix", QUANT_F32, 2, two_by_32, f, sizeof f);
    gguf_put_tensor(&w, "a.vector", QUANT_F32, 1, (const int64_t[]){3}, f, 12);
    return gguf_writer_finish(&w);
}

static void metadata_and_tensors(void **state)
{
    struct bytes b = good_file();
    struct gguf *g = open_bytes(&b);
    int64_t i = 7;
    double d = 7;
    const char *s[3];
    size_t len[3];
    int32_t ints[3];
    float floats[3];
    assert_true(gguf_get_int(g, "u32", &i) && i == 4000000000);
    assert_true(gguf_get_int(g, "i64", &i) && i == -5);
    assert_true(gguf_get_int(g, "yes", &i) && i == 1);
    assert_true(gguf_get_float(g, "f32", &d) && d == 0.5);
    assert_true(gguf_get_float(g, "i64", &d) && d == -5);
    assert_true(gguf_get_str(g, "general.name", s, len) && len[0] == 6 && !memcmp(s[0], "a name", 6));
    assert_int_equal(gguf_array_len(g, "words"), 3);
    assert_true(gguf_array_strs(g, "words", s, len));
    assert_true(len[0] == 3 && len[1] == 0 && len[2] == 5 && !memcmp(s[2], "three", 5));
    assert_true(gguf_array_ints(g, "ints", ints) && ints[0] == -1 && ints[2] == 1 << 30);
    assert_true(gguf_array_floats(g, "floats", floats) && floats[0] == 1.5f && floats[1] == -2);
    assert_true(gguf_array_floats(g, "ints", floats) && floats[0] == -1);
    assert_true(gguf_has(g, "words") && !gguf_has(g, "word"));

    assert_int_equal(gguf_tensor_count(g), 2);
    const struct tensor *t = gguf_tensor(g, "a.vector"), *m = gguf_tensor_at(g, 0);
    assert_true(t == gguf_tensor_at(g, 1) && t->ndim == 1 && t->ne[0] == 3 && t->ne[1] == 1 && t->bytes == 12);
    assert_true(m->ndim == 2 && m->ne[1] == 2 && m->bytes == 256 && ((const float *)m->data)[63] == 63);
    assert_true(m->name_len == 8 && !memcmp(m->name, "b.matrix", 8));
    assert_null(gguf_tensor(g, "a.vecto"));
    assert_null(gguf_tensor_at(g, 2));
    assert_int_equal(gguf_file_bytes(g), b.size);
    gguf_close(g);
    free(b.data);
}

static void another_kind_counts_as_absent(void **state)
{
    struct bytes b = good_file();
    struct gguf *g = open_bytes(&b);
    int64_t i = 7;
    double d = 7;
    const char *s = "untouched";
    size_t len = 9;
    int32_t ints[3];
    float floats[3];
    const char *strs[3];
    size_t lens[3];
    assert_false(gguf_get_int(g, "none", &i) || gguf_get_int(g, "general.name", &i) || gguf_get_int(g, "f32", &i) ||
                 gguf_get_int(g, "ints", &i));
    assert_false(gguf_get_float(g, "general.name", &d) || gguf_get_float(g, "none", &d));
    assert_false(gguf_get_str(g, "u32", &s, &len) || gguf_get_str(g, "words", &s, &len));
    assert_true(i == 7 && d == 7 && len == 9 && !strcmp(s, "untouched"));
    assert_int_equal(gguf_array_len(g, "u32"), -1);
    assert_int_equal(gguf_array_len(g, "none"), -1);
    assert_false(gguf_array_strs(g, "ints", strs, lens) || gguf_array_ints(g, "words", ints) ||
                 gguf_array_floats(g, "words", floats) || gguf_array_ints(g, "floats", ints));
    gguf_close(g);
    free(b.data);
}

static void version_2_and_other_alignments(void **state)
{
    struct gguf_writer w = {.version = 2, .alignment = 8};
    gguf_put_u32(&w, "general.alignment", 8);
    gguf_put_tensor(&w, "x", QUANT_F32, 1, (const int64_t[]){1}, "\0\0\x80\x3f", 4);
    gguf_put_tensor(&w, "y", QUANT_F32, 1, (const int64_t[]){1}, "\0\0\0\x40", 4);
    struct bytes b = gguf_writer_finish(&w);
    struct gguf *g = open_bytes(&b);
    assert_true(*(const float *)gguf_tensor(g, "y")->data == 2);
    gguf_close(g);
    free(b.data);

    static const uint32_t wrong[] = {0, 1, 12, 4, 1u << 31};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        w = (struct gguf_writer){0};
        gguf_put_u32(&w, "general.alignment", wrong[i]);
        refused(gguf_writer_finish(&w), "general.alignment");
    }
}

static void no_tensors_is_a_vocabulary(void **state)
{
    struct gguf_writer w = {0};
    gguf_put_str(&w, "general.architecture", "llama");
    struct bytes b = gguf_writer_finish(&w);
    struct gguf *g = open_bytes(&b);
    assert_int_equal(gguf_tensor_count(g), 0);
    assert_null(gguf_tensor(g, "x"));
    gguf_close(g);
    free(b.data);
}

static struct bytes text_file(const char *text, size_t n)
{
    struct bytes b = {0};
    bytes_put(&b, text, n);
    return b;
}

static void not_a_gguf_file(void **state)
{
    refused(text_file("", 0), "empty");
    refused(text_file("GG", 2), "not a GGUF file");
    refused(text_file("GGML\1\0\0\0", 8), "not a GGUF file");
    refused(text_file("GGUF\3\0\0\0", 8), "header");
    refused(text_file("GGUF\0\0\0\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24), "big-endian");
    struct gguf_writer w = {.version = 1};
    refused(gguf_writer_finish(&w), "version 1");
    w = (struct gguf_writer){.version = 4};
    refused(gguf_writer_finish(&w), "version 4");
}

static void counts_that_lie_cost_no_memory(void **state)
{
    static const uint64_t lies[] = {1, 1000, UINT32_MAX, UINT64_MAX / 8, UINT64_MAX};
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        struct gguf_writer w = {0};
        w.nkv = lies[i];
        refused(gguf_writer_finish(&w), "metadata entry 1");
        w.ntensors = lies[i];
        refused(gguf_writer_finish(&w), "tensor entry 1");
    }
}

static void lengths_past_the_end(void **state)
{
    static const uint64_t lengths[] = {9, 1ull << 40, UINT64_MAX - 3, UINT64_MAX};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct gguf_writer w = {.nkv = 1};
        bytes_u64(&w.kv, lengths[i]); /* a key's length */
        bytes_put(&w.kv, "key", 3);
        refused(gguf_writer_finish(&w), "metadata entry 1");

        w.nkv = 1; /* a string's */
        bytes_str(&w.kv, "key");
        bytes_u32(&w.kv, 8);
        bytes_u64(&w.kv, lengths[i]);
        refused(gguf_writer_finish(&w), "metadata entry 1");

        for (uint32_t of = 0; of <= 12; of++) { /* an array's, of every kind */
            w.nkv = 1;
            bytes_str(&w.kv, "key");
            bytes_u32(&w.kv, 9);
            bytes_u32(&w.kv, of);
            bytes_u64(&w.kv, lengths[i]);
            refused(gguf_writer_finish(&w), "metadata entry 1");
        }
    }
}

static void unknown_types_of_metadata(void **state)
{
    struct gguf_writer w = {.nkv = 1};
    bytes_str(&w.kv, "a key\n");
    bytes_u32(&w.kv, 13);
    refused(gguf_writer_finish(&w), "key 'a key?' has the unknown type 13");
    w.nkv = 1;
    bytes_str(&w.kv, "key");
    bytes_u32(&w.kv, 9);
    bytes_u32(&w.kv, 99);
    bytes_u64(&w.kv, 0);
    refused(gguf_writer_finish(&w), "metadata entry 1");
}

/* Arrays in arrays are stepped over, as deep as anybody would nest them; not so deep that the stack is at stake. */
static void nested_arrays(void **state)
{
    for (int depth = 1; depth < 100; depth += 2) {
        struct gguf_writer w = {.nkv = 1};
        bytes_str(&w.kv, "nested");
        bytes_u32(&w.kv, 9);
        for (int i = 0; i < depth; i++) {
            bytes_u32(&w.kv, 9);
            bytes_u64(&w.kv, 1);
        }
        bytes_u32(&w.kv, 4);
        bytes_u64(&w.kv, 1);
        bytes_u32(&w.kv, 77);
        gguf_put_u32(&w, "after", 5);
        struct bytes b = gguf_writer_finish(&w);
        if (depth > 4) {
            refused(b, "metadata entry 1");
            continue;
        }
        struct gguf *g = open_bytes(&b);
        int64_t i;
        int32_t ints[1];
        assert_true(gguf_get_int(g, "after", &i) && i == 5);
        assert_false(gguf_array_ints(g, "nested", ints));
        gguf_close(g);
        free(b.data);
    }
}

static void the_same_name_twice(void **state)
{
    struct gguf_writer w = {0};
    gguf_put_u32(&w, "key", 1);
    gguf_put_u32(&w, "other", 1);
    gguf_put_u32(&w, "key", 2);
    refused(gguf_writer_finish(&w), "key 'key' is there twice");
    gguf_put_tensor(&w, "x", QUANT_F32, 1, (const int64_t[]){1}, "\0\0\0\0", 4);
    gguf_put_tensor(&w, "x", QUANT_F32, 1, (const int64_t[]){1}, "\0\0\0\0", 4);
    refused(gguf_writer_finish(&w), "tensor 'x' is there twice");
}

/* One tensor entry, followed by 1 KiB of data. */
static struct bytes one_tensor(uint32_t type, int ndim, const int64_t *ne, uint64_t offset)
{
    struct gguf_writer w = {0};
    static const unsigned char zeros[1024];
    gguf_put_tensor_entry(&w, "the\ttensor", type, ndim, ne, offset);
    bytes_put(&w.data, zeros, sizeof zeros);
    return gguf_writer_finish(&w);
}

static void tensors_that_cannot_be(void **state)
{
    refused(one_tensor(0, 1, (const int64_t[]){8}, 1024), "ends past the end");
    refused(one_tensor(0, 1, (const int64_t[]){8}, 992 + 32), "ends past the end");
    refused(one_tensor(0, 1, (const int64_t[]){9}, 992), "ends past the end");
    refused(one_tensor(0, 1, (const int64_t[]){8}, UINT64_MAX - 31), "ends past the end");
    refused(one_tensor(0, 1, (const int64_t[]){8}, 16), "alignment");
    refused(one_tensor(0, 1, (const int64_t[]){264}, 0), "ends past the end");
    refused(one_tensor(0, 1, (const int64_t[]){1 << 20}, 0), "larger than the file");
    refused(one_tensor(0, 2, (const int64_t[]){INT64_MAX, 2}, 0), "dimension 1");
    refused(one_tensor(0, 4, (const int64_t[]){1ll << 31, 1ll << 31, 1ll << 31, 4}, 0), "dimension 2");
    refused(one_tensor(0, 1, (const int64_t[]){-1}, 0), "dimension 0");
    refused(one_tensor(0, 2, (const int64_t[]){4, 0}, 0), "dimension 1");
    refused(one_tensor(0, 0, NULL, 0), "0 dimensions");
    refused(one_tensor(0, 5, (const int64_t[]){1, 1, 1, 1, 1}, 0), "5 dimensions");
    refused(one_tensor(4, 1, (const int64_t[]){32}, 0), "element type 4");
    refused(one_tensor(UINT32_MAX, 1, (const int64_t[]){32}, 0), "element type 4294967295");
    refused(one_tensor(QUANT_Q4_K, 1, (const int64_t[]){128}, 0), "no multiple of the 256");
    struct bytes b = one_tensor(0, 1, (const int64_t[]){8}, 992);
    gguf_close(open_bytes(&b));
    free(b.data);
}

static void tensors_that_overlap(void **state)
{
    static const unsigned char zeros[128];
    for (uint64_t second = 0; second <= 96; second += 32) {
        struct gguf_writer w = {0};
        gguf_put_tensor_entry(&w, "second", 0, 1, (const int64_t[]){8}, second);
        gguf_put_tensor_entry(&w, "first", 0, 1, (const int64_t[]){10}, 32); /* bytes 32 to 72 */
        bytes_put(&w.data, zeros, sizeof zeros);
        struct bytes b = gguf_writer_finish(&w);
        if (second == 32 || second == 64) {
            refused(b, "overlap");
        } else {
            gguf_close(open_bytes(&b));
            free(b.data);
        }
    }
}

/* A copy of exactly n bytes, so that AddressSanitizer sees a read past them. */
static unsigned char *exact_copy(const struct bytes *b, size_t n)
{
    unsigned char *p = malloc(n ? n : 1);
    assert_non_null(p);
    memcpy(p, b->data, n);
    return p;
}

static void truncated_at_every_byte(void **state)
{
    struct bytes b = good_file();
    for (size_t n = 0; n < b.size; n++) {
        struct gguf *g;
        struct err err = {""};
        unsigned char *p = exact_copy(&b, n);
        if (gguf_open_memory(&g, p, n, "cut", &err) == 0)
            fail_msg("a file cut after %zu of %zu bytes was opened", n, b.size);
        assert_true(err.msg[0] && !strchr(err.msg, '\n'));
        free(p);
    }
    free(b.data);
}

/* Reads whatever a damaged file lets one read. */
static void read_all(const struct gguf *g)
{
    static const char *const keys[] = {"general.name", "u32", "i64", "f32", "yes", "words", "ints", "floats"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        int64_t v, n = gguf_array_len(g, keys[i]);
        double d;
        const char *s;
        size_t len;
        gguf_get_int(g, keys[i], &v);
        gguf_get_float(g, keys[i], &d);
        if (gguf_get_str(g, keys[i], &s, &len) && len)
            assert_true(s[len - 1] || true);
        if (n >= 0 && n < 1000) {
            const char *strs[1000];
            size_t lens[1000];
            int32_t ints[1000];
            float floats[1000];
            gguf_array_ints(g, keys[i], ints);
            gguf_array_floats(g, keys[i], floats);
            gguf_array_strs(g, keys[i], strs, lens);
        }
    }
    for (size_t i = 0; i < gguf_tensor_count(g); i++) {
        const struct tensor *t = gguf_tensor_at(g, i);
        volatile unsigned char byte = 0; /* reading is what is tested */
        for (size_t k = 0; k < t->bytes; k++)
            byte = ((const unsigned char *)t->data)[k];
        (void)byte;
    }
}

static void every_byte_flipped(void **state)
{
    static const unsigned char masks[] = {1, 0x80, 0xff, 0x10};
    struct bytes b = good_file();
    for (size_t n = 0; n < b.size; n++)
        for (size_t k = 0; k < sizeof masks; k++) {
            struct gguf *g;
            struct err err = {""};
            unsigned char *p = exact_copy(&b, b.size);
            p[n] ^= masks[k];
            if (gguf_open_memory(&g, p, b.size, "flipped", &err) == 0) {
                read_all(g);
                gguf_close(g);
            } else {
                assert_true(err.msg[0] && !strchr(err.msg, '\n'));
            }
            free(p);
        }
    free(b.data);
}

static void files_on_disk(void **state)
{
    char dir[] = "/tmp/weir-test-XXXXXX", path[64];
    struct gguf *g;
    struct err err = {""};
    assert_non_null(mkdtemp(dir));
    assert_int_equal(gguf_open(&g, dir, &err), -1);
    assert_non_null(strstr(err.msg, "is a directory"));
    snprintf(path, sizeof path, "%s/model.gguf", dir);
    assert_int_equal(gguf_open(&g, path, &err), -1);
    assert_non_null(strstr(err.msg, "No such file"));
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(gguf_open(&g, path, &err), -1);
    assert_non_null(strstr(err.msg, "not a regular file"));
    unlink(path);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(gguf_open(&g, path, &err), -1);
    assert_non_null(strstr(err.msg, "is empty"));
    struct bytes b = good_file();
    f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(b.data, 1, b.size, f), b.size);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(gguf_open(&g, path, &err), 0);
    assert_string_equal(gguf_path(g), path);
    read_all(g);
    gguf_close(g);
    unlink(path);
    rmdir(dir);
    free(b.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metadata_and_tensors),
        cmocka_unit_test(another_kind_counts_as_absent),
        cmocka_unit_test(version_2_and_other_alignments),
        cmocka_unit_test(no_tensors_is_a_vocabulary),
        cmocka_unit_test(not_a_gguf_file),
        cmocka_unit_test(counts_that_lie_cost_no_memory),
        cmocka_unit_test(lengths_past_the_end),
        cmocka_unit_test(unknown_types_of_metadata),
        cmocka_unit_test(nested_arrays),
        cmocka_unit_test(the_same_name_twice),
        cmocka_unit_test(tensors_that_cannot_be),
        cmocka_unit_test(tensors_that_overlap),
        cmocka_unit_test(truncated_at_every_byte),
        cmocka_unit_test(every_byte_flipped),
        cmocka_unit_test(files_on_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#ifndef WEIR_GGUF_PRIVATE_H
#define WEIR_GGUF_PRIVATE_H

/* What gguf.c (the directory) and gguf_kv.c (metadata look-up) share. Nobody else includes it. */

#include "gguf.h"

/* Types of metadata, numbered as in the file. */
enum kv_type {
    KV_U8,
    KV_I8,
    KV_U16,
    KV_I16,
    KV_U32,
    KV_I32,
    KV_F32,
    KV_BOOL,
    KV_STR,
    KV_ARRAY,
    KV_U64,
    KV_I64,
    KV_F64,
    KV_TYPES
};

struct kv {
    const char *key; /* [key_len] */
    size_t key_len;
    uint32_t type;  /* enum kv_type */
    uint32_t of;    /* KV_ARRAY: type of its elements */
    uint64_t count; /* KV_ARRAY: elements; KV_STR: bytes; else 1 */
    size_t at;      /* where the value's bytes begin in the file */
};

struct gguf {
    char *path;
    const unsigned char *data; /* [size] */
    size_t size;
    bool mapped;                   /* data is our memory map */
    struct kv *kv;                 /* [nkv], in the order of the file */
    struct tensor *tensor;         /* [ntensors], likewise */
    const struct kv **by_key;      /* [nkv], sorted */
    const struct tensor **by_name; /* [ntensors], sorted */
    size_t nkv, ntensors;
    void (*release)(void *owner); /* of what tensors point into, where that is not `data`; or NULL */
    void *owner;
};

/* Gives a file that has no tensors those of other files: takes the list [n] (of malloc) and the owner of what it points into, also
 * where it fails; the file must then be closed. */
int gguf_adopt(struct gguf *g, struct tensor *list, size_t n, void (*release)(void *owner), void *owner,
               struct err *err);

/* By name, in the order of by_key and by_name. */
int gguf_compare_names(const char *a, size_t na, const char *b, size_t nb);
int gguf_compare_kv(const void *a, const void *b); /* of two const struct kv ** */

#endif

#ifndef TESTS_HF_WRITER_H
#define TESTS_HF_WRITER_H

/* Writes a Hugging Face folder for tests out of a model that is open: the same weights, q and k in the order of halves. */

#include "gguf_writer.h"

enum hf_cuts { HF_GPT2, HF_SMOLLM, HF_LLAMA3, HF_QWEN2 };

struct hf_folder {
    enum hf_cuts cuts;
    int shards;          /* 1: model.safetensors; more: an index */
    bool pairs;          /* merges as ["a", "b"] and not "a b" */
    bool bos;            /* a post-processor that puts token 1 before a text */
    bool newer;          /* rope_parameters and not rope_theta */
    const char *chat;    /* chat_template, or NULL */
    const char *scaling; /* JSON of rope_scaling, or NULL */
};

/* A whole folder, which is made if it is not there. m comes from a GGUF file with a byte-level BPE. */
void hf_write(const char *folder, const struct model *m, const struct hf_folder *o);

#endif

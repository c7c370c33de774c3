#ifndef WEIR_HF_H
#define WEIR_HF_H

/* Folders as Hugging Face has them: config.json, tokenizer.json, *.safetensors. One is read as the GGUF file that it would be
 * converted to: same names, same metadata; only q and k are not permuted, which `weir.rope_halves` says. */

#include <cJSON.h>

#include "gguf.h"
#include "gguf_build.h"

/* Opens a folder; closed by gguf_close. -1 with one line that names the file and what is wrong. */
int hf_open(struct gguf **out, const char *folder, struct err *err);

/* config.json -> general.architecture and the shape. *tied: the output is the embedding. */
int hf_config(struct gguf_build *b, const cJSON *config, const char *path, bool *tied, struct err *err);

/* tokenizer.json, with what config.json says of special tokens -> tokenizer.ggml.*. Byte-level BPE; a pre-tokenizer that is none of
 * those that weir knows is an error that says so. */
int hf_tokenizer(struct gguf_build *b, const cJSON *tokenizer, const cJSON *config, const char *path, struct err *err);

/* GGUF's name of a tensor, "blk.0.attn_q.weight" for "model.layers.0.self_attn.q_proj.weight"; false where it has none. */
enum { HF_NAME_MAX = 64 };
bool hf_tensor_name(const char *name, char out[HF_NAME_MAX]);

/* A member as a whole number: `missing` where there is none (or null), -1 where it is no whole number of 0..2^31-1. */
int64_t hf_int(const cJSON *object, const char *name, int64_t missing);

#endif

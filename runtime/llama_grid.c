#include "llama_grid.h"

static int64_t parts(int64_t n, int64_t of)
{
    return (n + of - 1) / of;
}

unsigned llama_grid_matvec(const struct gen_kernel *k, int outputs, int sms, int blocks_per_sm)
{
    int64_t work = parts(outputs, gen_value(k, "a_block")),
            room = (int64_t)sms * (blocks_per_sm > 0 ? blocks_per_sm : 1);
    return (unsigned)(work < room ? work : room);
}

unsigned llama_grid_pieces(const struct gen_kernel *k, int64_t T, int n)
{
    return (unsigned)parts(T * (n / 8), k->threads);
}

unsigned llama_grid_dequantise(const struct gen_kernel *k, int64_t elements, int sms)
{
    int64_t spans = parts(elements / 8, 4 * (int64_t)k->threads), most = 32 * (int64_t)sms;
    return (unsigned)(spans < most ? spans : most);
}

int llama_vocab_piece(int vocab)
{
    int whole = (vocab + 3) / 4 * 4;
    return whole < LLAMA_VOCAB_PIECE ? whole : LLAMA_VOCAB_PIECE;
}

size_t llama_logit_room(int vocab, int stride)
{
    return (size_t)(stride < LLAMA_LOGIT_ROWS ? stride : LLAMA_LOGIT_ROWS) * (((size_t)vocab + 3) / 4 * 4);
}

int llama_vocab_rows(int vocab, int stride)
{
    return (int)(llama_logit_room(vocab, stride) / (size_t)llama_vocab_piece(vocab));
}

unsigned llama_grid_sample(const struct gen_kernel *k, int vocab, int sms)
{
    int64_t spans = parts(vocab, gen_value(k, "span")), most = gen_value(k, "list") / gen_value(k, "wp");
    most = most < sms ? most : sms;
    return (unsigned)(spans < most ? spans : most);
}

size_t llama_sample_room(int vocab)
{
    return 2 * (size_t)vocab + 8192;
}

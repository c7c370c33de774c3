#!/bin/sh
# What the cascade is worth on long texts, on a GPU: perplexity of prose and retrieval of a pass key at 2K to 64K tokens, window 2048.
#   tests/bench/quality_gpu.sh [path of weir] [text]     (MODEL, or the default model; `make text` fetches the text)
set -e
weir=${1:-build/weir} text=${2:-${XDG_CACHE_HOME:-$HOME/.cache}/weir/prose.txt}
settings() {
    "$@" --window 2048 --gpu 0 --compare '--subcaches 1' --compare '--subcaches 4 --span 1' --compare '--subcaches 4' \
        --compare '--subcaches 4 --span 32' --compare '--subcaches 8' --compare '--subcaches 8 --span 32'
}
for tokens in 2048 4096 8192 16384 32768 65536; do
    echo "== perplexity, $tokens tokens"
    settings "$weir" eval ppl ${MODEL:+-m "$MODEL"} -f "$text" --max-tokens $tokens
done
echo "== pass key"
settings "$weir" eval passkey ${MODEL:+-m "$MODEL"} --lengths 2048,4096,8192,16384,32768,65536 --depths 10

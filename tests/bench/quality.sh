#!/bin/sh
# Prints README's quality tables: perplexity by selection and by sub-caches, and retrieval of a pass key by length and depth.
# usage: tests/bench/quality.sh [ppl|passkey]     (no argument: both; about an hour on two cores)
# WEIR names the program (build/weir), MODEL the model and TEXT the prose; `make model text` fetches both into the cache folder.
set -e
cache=${WEIR_CACHE:-${XDG_CACHE_HOME:+$XDG_CACHE_HOME/weir}}
cache=${cache:-$HOME/.cache/weir}
weir=${WEIR:-build/weir}
model=${MODEL:-$cache/SmolLM2-135M-Instruct.Q4_1.gguf}
text=${TEXT:-$cache/prose.txt}

if [ "${1:-ppl}" = ppl ]; then
    echo "Who stays: published rule (spans of one token), 6,000 tokens of prose, window 256, stride 128"
    "$weir" eval ppl -m "$model" -f "$text" --max-tokens 6000 --window 256 --stride 128 --span 1 \
        --compare '--subcaches 1' --compare '--select score' --compare '--select random' \
        --compare '--select newest' --compare '--select oldest'
    echo
    echo "Steps and spans: 20,000 tokens of prose, window 2048, stride 1024"
    "$weir" eval ppl -m "$model" -f "$text" --max-tokens 20000 --window 2048 --stride 1024 \
        --compare '--subcaches 1' --compare '--preset paper' --compare '--span 16 --head-reduction max' --compare '--span 16'
fi
if [ "${1:-passkey}" = passkey ]; then
    echo
    echo "Pass key: window 2048, stride 1024, 20 depths"
    "$weir" eval passkey -m "$model" --window 2048 --stride 1024 --lengths 4096,6144 --depths 20
fi

#!/bin/sh
# Prints the peak memory of `weir run` after 10,000 and after 200,000 tokens of prose: it must not grow with the text.
# usage: tests/bench/memory.sh [TOKENS ...]     (about 20 minutes on two cores; MODEL, TEXT and WEIR as in quality.sh;
# OPTIONS are more options of `weir run`, e.g. a smaller window)
set -e
cache=${WEIR_CACHE:-${XDG_CACHE_HOME:+$XDG_CACHE_HOME/weir}}
cache=${cache:-$HOME/.cache/weir}
weir=${WEIR:-build/weir}
model=${MODEL:-$cache/SmolLM2-135M-Instruct.Q4_1.gguf}
text=${TEXT:-$cache/prose.txt}
[ $# -gt 0 ] || set -- 10000 200000

echo "model file: $(wc -c <"$model") bytes"
for tokens in "$@"; do
    # Prose has about 4.4 bytes a token.
    head -c $((tokens * 22 / 5)) "$text" | "$weir" run -m "$model" -f - -n 1 --json $OPTIONS 2>/dev/null |
        sed -E 's/.*"prompt_tokens":([0-9]+).*"cache_bytes":([0-9]+),"peak_memory_bytes":([0-9]+).*/\1 tokens: cache \2 bytes, peak memory \3 bytes/'
done

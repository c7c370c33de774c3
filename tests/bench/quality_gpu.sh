#!/bin/sh
# What the cascade is worth on long texts, on a GPU (SmolLM2-135M-Instruct, window 2048): README's tables.
#   tests/bench/quality_gpu.sh [ppl|select|passkey|places|seeds|variants]...  (no argument: all; four minutes on an H200)
#   ppl       perplexity of prose at 2K to 64K tokens, by steps and spans
#   select    the same text by who stays, and by chunk
#   passkey   a pass key in 2K to 64K tokens, by steps and spans
#   places    a pass key at 100 places of 4,096 and 6,144 tokens
#   seeds     a pass key in 4,096 and 6,144 tokens, five keys for each of 20 places
#   variants  the same by what an implementation might do differently
# WEIR names the program (build/weir), MODEL the model, TEXT the prose; `make model text` fetches both. OPTIONS: more of weir's, as --gpu 0.
set -e
cache=${WEIR_CACHE:-${XDG_CACHE_HOME:+$XDG_CACHE_HOME/weir}}
cache=${cache:-$HOME/.cache/weir}
weir=${WEIR:-build/weir} text=${TEXT:-$cache/prose.txt} options=${OPTIONS:---gpu 0}

# Settings side by side, `--`, then a weir eval command.
compare() {
    settings=
    while [ "$1" != -- ]; do settings="$settings --compare '$1'"; shift; done
    shift
    eval "\"\$weir\" eval \"\$@\" \${MODEL:+-m \"\$MODEL\"} \$options $settings"
}
steps() {
    compare '-N 1' '--span 1' '' '--span 32' '-N 8 --span 1' '-N 8 --span 16' '-N 8 --span 32' -- "$@"
}

for part in ${@:-ppl select passkey places seeds variants}; do
    echo "== $part"
    case $part in
    ppl) steps ppl -f "$text" --window 2048 --lengths 2048,4096,8192,16384,32768,65536 ;;
    select)
        for where in '--window 256 --stride 128' '--window 2048 --stride 256' '--window 2048 --stride 1024'; do
            for span in 1 16; do
                compare '-N 1' '' '--select random' '--select newest' '--select oldest' -- \
                    ppl -f "$text" $where --span $span --lengths 65536
            done
        done
        ;;
    passkey)
        steps passkey --window 2048 --lengths 2048,4096,8192,16384 --depths 20
        steps passkey --window 2048 --lengths 32768,65536 --depths 10
        ;;
    places)
        compare '-N 1' '--preset paper' '--head-reduction max' '' '--span 32' -- \
            passkey --window 2048 --lengths 4096,6144 --depths 100 --seed 11
        ;;
    seeds)
        compare '-N 1' '--preset paper' '--span 1' '--head-reduction max' '' '--head-reduction max --span-score mean' \
            '--span-score mean' '--span 32' '-N 1 --window 6144' -- \
            passkey --window 2048 --lengths 4096,6144 --depths 20 --seeds 5
        ;;
    variants)
        # Places i/40: the even ones are i/20, the odd ones the middles (i + 1/2)/20.
        compare '-N 1' '--preset paper' '--head-reduction max' '' -- \
            passkey --window 2048 --lengths 4096,6144 --depths 41 --seeds 2
        compare '--eager-fill off' '--head-policy homogeneous' '--positions original' '--sinks 4' '--stride 256' \
            '--ema 0.999' -- passkey --window 2048 --lengths 4096,6144 --depths 20 --seeds 2
        ;;
    *) echo "quality_gpu.sh: unknown part '$part'" >&2; exit 2 ;;
    esac
done

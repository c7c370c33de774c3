#!/bin/sh
# check_model.sh BUILD MODEL: weir eval ppl on 1000 tokens of prose, with a window as long as the text against another
# implementation's likelihoods, and in small windows against the double-precision oracle. A few minutes.
set -e
build=$1 model=$2 here=$(dirname "$0")
vectors=$here/../vectors/smollm2.txt text=$here/../vectors/smollm2_text.txt
dump=$(mktemp)
trap 'rm -f "$dump"' EXIT
failed=0
check() { # check_model's own option (or "") and cascade options
    own=$1; shift
    "$build/weir" eval ppl -m "$model" -f "$text" --dump "$dump" "$@" >/dev/null
    "$build/tests/check/check_model" -m "$model" --vectors "$vectors" --dump "$dump" $own "$@" || failed=1
}
check --full --window 1024 --subcaches 1 --stride 1024
check --full --window 1024 --subcaches 4 --stride 100
check "" --window 256 --subcaches 1 --sinks 4 --stride 64
check "" --window 256 --subcaches 4 --sinks 4 --stride 64 --span 1 --head-reduction max
check "" --window 256 --subcaches 4 --sinks 4 --stride 64 --span 8
check "" --window 192 --subcaches 3 --sinks 16 --stride 50 --span 4 --head-policy homogeneous --schedule iplus1 --positions original
exit $failed

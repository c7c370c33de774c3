#!/bin/sh
# compute-sanitizer over the emulator's small cases on this machine's GPU: memcheck, racecheck, synccheck, initcheck, one case of each
# family of kernels, all at once; then memcheck over the CUDA backend's own tests (initcheck is no use there: it reports reads of what cuBLAS
# wrote).
#      tests/sanitize.sh PATH_OF_test_gpu [PATH_OF_test_backend_cuda]
#
# Fresh memory stays unfilled with --small, so initcheck sees every read of a kernel that nobody wrote. What the cases download whole
# (a cache whose last rows are not in use yet) is no business of the kernels: --check-api-memory-access no.
tool=$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null | head -1)
if [ -z "$tool" ]; then echo "compute-sanitizer is not here: 0 passed, 0 failed, 1 skipped"; exit 0; fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"$1" --small copy_every_length >"$dir/first" 2>&1
if grep -q '^skipped: ' "$dir/first"; then echo "compute-sanitizer: no GPU: 0 passed, 0 failed, 1 skipped"; exit 0; fi

# One check of one case, five minutes at most: a line that says how it went, and the log where it went wrong.
check() {
    log=$dir/$1.$2
    timeout 300 "$tool" --tool "$1" $3 "$test" $small "$2" >"$log" 2>&1
    if grep -q '\[       OK \]' "$log" && grep -qE 'ERROR SUMMARY: 0 errors|RACECHECK SUMMARY: 0 hazards' "$log"; then
        echo "$1 $2: clean" | tee "$log.clean"
    else
        echo "$1 $2: NOT CLEAN"; head -40 "$log"
    fi
}
test=$1 all=0 small=--small
for case in copy_every_length decode_reductions prefill_ragged_edges prefill_wgmma_ragged_edges update_every_shape llama_embed llama_rms_norm llama_matvec_quants llama_likelihood sample_greedy; do
    for kind in memcheck racecheck synccheck initcheck; do
        check $kind $case "$([ $kind = initcheck ] && echo '--check-api-memory-access no')" &
        all=$((all + 1))
    done
done
wait
if [ -n "$2" ]; then
    test=$2 small=
    export WEIR_TEST_GPU=0
    for case in test_chunks_and_tokens test_cascade_options test_scored_layers test_weight_types test_graphs test_rotations test_pick test_repeated_weights; do
        check memcheck $case "" &
        all=$((all + 1))
    done
    wait
fi
clean=$(ls "$dir" | grep -c '\.clean$')
echo "compute-sanitizer: $clean passed, $((all - clean)) failed, 0 skipped"
[ "$clean" -eq "$all" ]

#!/bin/sh
# compute-sanitizer over the emulator's small cases on this machine's GPU: memcheck, racecheck, synccheck, initcheck, one case of each
# family of kernels, together in half a minute.      tests/sanitize.sh PATH_OF_test_gpu
#
# Fresh memory stays unfilled with --small, so initcheck sees every read of a kernel that nobody wrote. What the cases download whole
# (a cache whose last rows are not in use yet) is no business of the kernels: --check-api-memory-access no.
tool=$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null | head -1)
if [ -z "$tool" ]; then echo "compute-sanitizer is not here: 0 passed, 0 failed, 1 skipped"; exit 0; fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"$1" --small copy_every_length >"$dir/first" 2>&1
if grep -q '^skipped: ' "$dir/first"; then echo "compute-sanitizer: no GPU: 0 passed, 0 failed, 1 skipped"; exit 0; fi
for check in memcheck racecheck synccheck "initcheck --check-api-memory-access no"; do
    for case in copy_every_length decode_reductions prefill_ragged_edges update_random_streams; do
        log=$dir/${check%% *}.$case
        # shellcheck disable=SC2086 # words on purpose
        ("$tool" --tool $check --error-exitcode 9 "$1" --small "$case" >"$log" 2>&1; echo $? >"$log.rc") &
    done
    wait
done
passed=0 failed=0
for rc in "$dir"/*.rc; do
    log=${rc%.rc}
    if [ "$(cat "$rc")" = 0 ] && grep -q '\[       OK \]' "$log" && grep -qE 'ERROR SUMMARY: 0 errors|RACECHECK SUMMARY: 0 hazards' "$log"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1)); echo "== $(basename "$log")"; head -40 "$log"
    fi
done
echo "compute-sanitizer: $passed passed, $failed failed, 0 skipped"
[ $failed -eq 0 ]

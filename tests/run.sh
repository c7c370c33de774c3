#!/bin/sh
# Runs cmocka test programs and adds their counts up. A program that dies without a count is one failure.
passed=0 failed=0 skipped=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for t in "$@"; do
    "$t" >"$log" 2>&1
    rc=$?
    p=$(grep -c '\[       OK \]' "$log"); f=$(grep -c '\[  FAILED  \] [A-Za-z_0-9]*$' "$log"); s=$(grep -c '\[  SKIPPED \] [A-Za-z_0-9]*$' "$log")
    # cmocka names a failed or skipped test twice: where it happened and in the summary.
    f=$(grep '\[  FAILED  \] [A-Za-z_0-9]*$' "$log" | sort -u | wc -l); s=$(grep '\[  SKIPPED \] [A-Za-z_0-9]*$' "$log" | sort -u | wc -l)
    if [ $rc -ne 0 ] && [ "$f" -eq 0 ]; then f=1; echo "$t ended with status $rc"; fi
    if [ "$f" -ne 0 ]; then cat "$log"; fi
    echo "$(basename "$t"): $p passed, $f failed, $s skipped"
    passed=$((passed + p)); failed=$((failed + f)); skipped=$((skipped + s))
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]

#!/bin/sh
# Runs cmocka test programs, WEIR_TEST_JOBS of them at a time (one a core), and adds their counts up: the output of those that failed,
# a line for each, the sum last. A program that dies without a count is one failure.
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM

# One program: its line, and the same counts in $dir/NAME.counts.
one='
name=$(basename "$1") log=$dir/$(basename "$1").log
"$1" >"$log" 2>&1
rc=$?
# cmocka names a failed or skipped test twice: where it happened and in the summary.
p=$(grep -c "\[       OK \]" "$log")
f=$(grep "\[  FAILED  \] [A-Za-z_0-9]*$" "$log" | sort -u | wc -l)
s=$(grep "\[  SKIPPED \] [A-Za-z_0-9]*$" "$log" | sort -u | wc -l)
if [ $rc -ne 0 ] && [ "$f" -eq 0 ]; then f=1; echo "$1 ended with status $rc" >>"$log"; fi
[ "$f" -eq 0 ] || mv "$log" "$log.failed"
echo "$name: $p passed, $f failed, $s skipped" | tee "$dir/$name.counts"'
export dir
printf '%s\n' "$@" | xargs -d '\n' -n 1 -P "${WEIR_TEST_JOBS:-$(nproc 2>/dev/null || echo 1)}" sh -c "$one" sh

for log in "$dir"/*.failed; do
    [ -e "$log" ] && { echo; echo "== $(basename "$log" .log.failed)"; cat "$log"; }
done
# What is missing was never run: a failure.
cat "$dir"/*.counts 2>/dev/null | awk -v programs=$# '
    { p += $2; f += $4; s += $6 }
    END { f += programs - NR; printf "%d passed, %d failed, %d skipped\n", p, f, s; exit f > 0 }'

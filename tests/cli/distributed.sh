#!/usr/bin/env bash
# Sweeps in parts and by several ranks, through the command, on the documentation's stand-ins: the
# same scores and the same journal as from one process, also when a rank or the whole job is killed.
# Usage: distributed.sh PQUANT STANDINS. What needs mpirun is skipped without it.
set -u
export LC_ALL=C OMP_WAIT_POLICY=passive
pquant=$(realpath "$1") standins=$(realpath "$2")
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
failed=0
bad()
{
    echo "$*"
    failed=1
}

"$standins" "$dir" || exit 1
cd "$dir" || exit 1
"$pquant" calibrate yolox_nano.onnx --calib-data train2017 --no-adaround --threads 1 -o ranges.json -q >/dev/null ||
    bad 'calibrate failed'
data=(yolox_nano.onnx --data val2017 --ann instances_val2017.json)
sweep=(sweep "${data[@]}" --ranges ranges.json --threads 1)

# What a journal says, but for the time it took and the order.
content() { sed 's/"seconds":[^}]*}/}/' "$1/sensitivity.jsonl" | sort; }
same() # NAME OUT STDOUT
{
    cmp -s one.txt "$3" || bad "$1: other scores: $(diff one.txt "$3" | head -3)"
    [ "$(content one)" = "$(content "$2")" ] || bad "$1: another journal"
}

"$pquant" "${sweep[@]}" -o one -q >one.txt || bad 'sweep failed'
[ "$(wc -l <one/sensitivity.jsonl)" -gt 20 ] || bad 'too few measurements'

# ---- shards ----

for i in 1 2 3; do "$pquant" "${sweep[@]}" --shard $i/3 -o part$i -q >/dev/null || bad "shard $i failed"; done
printf '{"context":"torn' >>part2/sensitivity.jsonl
"$pquant" merge merged part1 part2 part3 -q >merge.txt || bad 'merge failed'
grep -q '1 torn' merge.txt || bad "merge said: $(cat merge.txt)"
[ "$(content one)" = "$(content merged)" ] || bad 'merged: another journal'
for f in ranges.json ranges.corrections.json; do
    cmp -s one/$f merged/$f || bad "merged: no $f of the shards"
done
n=$(wc -l <merged/sensitivity.jsonl)
"$pquant" sweep "${data[@]}" --ranges merged/ranges.json --threads 1 -o merged -q >merged.txt
same merged merged merged.txt
[ "$(wc -l <merged/sensitivity.jsonl)" = "$n" ] || bad 'merged: something was measured again'
sed -i '3s/"AP":[0-9.e-]*/"AP":0.123/' part1/sensitivity.jsonl
cp part1/sensitivity.jsonl part1.before
"$pquant" merge merged part1 2>err.txt >/dev/null && bad 'a conflict was merged'
grep -q '^pquant: part1/sensitivity.jsonl:3: AP is 0.123, expected ' err.txt || bad "conflict: $(cat err.txt)"
[ "$(content one)" = "$(content merged)" ] || bad 'a refused merge changed the journal'
for s in 0/3 4/3 1 1/ /2 a/b 1/2x -1/2 1/0; do
    "$pquant" "${sweep[@]}" --shard "$s" -o part1 >/dev/null 2>err.txt
    [ $? = 2 ] || bad "--shard $s: $(cat err.txt)"
    grep -q "expected I/N" err.txt || bad "--shard $s: $(cat err.txt)"
done
"$pquant" merge merged nowhere 2>err.txt && bad 'a merge of nothing'
grep -q 'nowhere/sensitivity.jsonl: no such file' err.txt || bad "nowhere: $(cat err.txt)"

# ---- jobs ----

export ASAN_OPTIONS=detect_leaks=0
for n in 1 2 4; do
    "$pquant" "${sweep[@]}" --jobs $n -o jobs$n >jobs$n.txt 2>jobs$n.err || bad "$n jobs failed: $(cat jobs$n.err)"
    same "$n jobs" jobs$n jobs$n.txt
    [ $n = 1 ] || [ "$(grep -c 'idle [0-9.]* % of' jobs$n.err)" = $n ] || bad "$n jobs: $(cat jobs$n.err)"
done
"$pquant" sweep "${data[@]}" --calib-data train2017 --no-adaround --threads 1 --jobs 2 -o jmade -q >jmade.txt ||
    bad 'calibrating jobs failed'
same 'calibrating jobs' jmade jmade.txt
"$pquant" sweep "${data[@]}" --ranges none.json --jobs 3 -o none -q 2>err.txt && bad 'jobs: no ranges'
[ "$(cat err.txt)" = "$(grep '^pquant: none.json' err.txt)" ] || bad "jobs, no ranges: $(cat err.txt)"
for words in '--jobs 0' '--jobs 1000' '--jobs 2 --shard 1/2'; do
    # shellcheck disable=SC2086
    "$pquant" "${sweep[@]}" $words -o x >/dev/null 2>err.txt
    [ $? = 2 ] || bad "$words: $(cat err.txt)"
done
"$pquant" "${sweep[@]}" --engine ref -o slow -q >slow.txt || bad 'sweep with ref failed'
# A copy that is killed is done without; copies of one that is killed end by themselves.
for victim in copy leader; do
    "$pquant" "${sweep[@]}" --engine ref --jobs 3 -o $victim >$victim.txt 2>$victim.err &
    leader=$!
    for _ in $(seq 600); do
        [ "$(cat $victim/sensitivity.jsonl 2>/dev/null | wc -l)" -ge 6 ] && break
        sleep 0.05
    done
    copies=$(cat "/proc/$leader/task/$leader/children")
    if [ $victim = copy ]; then kill -9 ${copies%% *}; else kill -9 $leader; fi
    wait $leader
done 2>/dev/null
cmp -s slow.txt copy.txt || bad "a killed copy: $(diff slow.txt copy.txt | head -3) $(cat copy.err)"
alive() # is any of the copies?
{
    for p in $copies; do grep -q '^State:[[:space:]]*[^ZX]' "/proc/$p/status" && return; done 2>/dev/null
    return 1
}
for _ in $(seq 600); do
    alive || break
    sleep 0.05
done
alive && bad 'copies without a leader go on'
"$pquant" "${sweep[@]}" --engine ref --jobs 2 -o leader -q >leader.txt || bad 'jobs: going on failed'
cmp -s slow.txt leader.txt || bad 'jobs: going on gave other scores'

# ---- ranks ----

if ! command -v mpirun >/dev/null || [ ! -e "$(dirname "$pquant")/libpquant_mpi.so" ]; then
    if [ $failed = 0 ]; then echo 'skipped: no mpirun, or no module for it'; exit 77; fi
    exit 1
fi
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export LD_LIBRARY_PATH=$(dirname "$pquant") # the address sanitizer's dlopen does not know the command's
mpi() { timeout 200 mpirun --oversubscribe --bind-to none "$@"; }

for n in 1 2 4; do
    mpi -n $n "$pquant" "${sweep[@]}" -o ranks$n >ranks$n.txt 2>ranks$n.err || bad "$n ranks failed: $(cat ranks$n.err)"
    same "$n ranks" ranks$n ranks$n.txt
    [ $n = 1 ] || [ "$(grep -c 'idle [0-9.]* % of' ranks$n.err)" = $n ] || bad "$n ranks: $(cat ranks$n.err)"
done
# Without ranges rank 0 makes them for all.
mpi -n 2 "$pquant" sweep "${data[@]}" --calib-data train2017 --no-adaround --threads 1 -o made -q >made.txt ||
    bad 'calibrating ranks failed'
same 'calibrating ranks' made made.txt
mpi -n 2 "$pquant" sweep "${data[@]}" --ranges none.json -o none -q 2>err.txt && bad 'no ranges'
[ "$(grep -c '^pquant: none.json' err.txt)" = 1 ] || bad "no ranges: $(cat err.txt)"

# A rank is killed in the middle: with recovery the others do its work, without it the job ends and
# the next one goes on. The reference engine is slow enough for that.
"$pquant" "${sweep[@]}" --engine ref -o one -q >one.txt || bad 'sweep with ref failed'
kill_in_the_middle() # OUT OPTION...
{
    local out=$1
    shift
    # shellcheck disable=SC2016
    mpi -n 3 "$@" sh -c 'echo $$ >pid.$OMPI_COMM_WORLD_RANK; exec "$@"' - \
        "$pquant" "${sweep[@]}" --engine ref -o "$out" >"$out.txt" 2>"$out.err" &
    local job=$!
    for _ in $(seq 600); do
        [ "$(cat "$out/sensitivity.jsonl" 2>/dev/null | wc -l)" -ge 6 ] && break
        sleep 0.05
    done
    kill -9 "$(cat pid.1)" 2>/dev/null
    wait $job
}
content() { grep "$(tail -1 "$1/sensitivity.jsonl" | cut -c1-40)" "$1/sensitivity.jsonl" | sed 's/"seconds":[^}]*}/}/' | sort -u; }
kill_in_the_middle survived --enable-recovery
same 'a killed rank' survived survived.txt
kill_in_the_middle ended || :
mpi -n 2 "$pquant" "${sweep[@]}" --engine ref -o ended -q >ended.txt || bad 'going on failed'
same 'after a killed job' ended ended.txt

# Without the module (here: one that is none) rank 0 says so, the others are silent.
mkdir broken && : >broken/libpquant_mpi.so
for r in 0 1; do
    OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=$r LD_LIBRARY_PATH=$dir/broken \
        "$pquant" "${sweep[@]}" -o x 2>err$r.txt >/dev/null && bad 'ranks without MPI'
done
[ "$(grep -c 'started by mpirun, but this pquant has no MPI' err0.txt)" = 1 ] || bad "no module: $(cat err0.txt)"
[ ! -s err1.txt ] || bad "no module, rank 1: $(cat err1.txt)"
exit $failed

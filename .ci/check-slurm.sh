#!/bin/bash
# samples/recipes/array.sbatch on a real Slurm of one node, which this starts and ends: .ci/check-slurm.sh KVZIP
set -euo pipefail
cd "$(dirname "$0")/.."
kvzip=$(realpath "$1")
root=$PWD
work=$(mktemp -d)
pids=()
end() {
  kill "${pids[@]}" 2>/dev/null || true
  wait
  rm -rf "$work"
}
trap end EXIT
cd "$work"

# Daemons refuse folders that others may write to.
chmod 755 .
mkdir -m 755 state spool bin in
ln -s "$kvzip" bin/kvzip
export PATH=$work/bin:$PATH SLURM_CONF=$work/slurm.conf
host=$(hostname -s)
(umask 077 && head -c 1024 /dev/urandom >key)
cat >slurm.conf <<CONF
ClusterName=recipes
SlurmctldHost=$host(localhost)
SlurmctldPort=26817
SlurmdPort=26818
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$work/munge.socket
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_interval=1
NodeName=$host NodeAddr=localhost CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP
CONF
munged --foreground --force --key-file key --socket "$work/munge.socket" --pid-file "$work/munge.pid" \
  --log-file munge.log --seed-file "$work/munge.seed" >munged.out 2>&1 &
pids+=($!)
for _ in $(seq 100); do [ -S munge.socket ] && break || sleep 0.1; done
slurmctld -D >ctld.out 2>&1 &
pids+=($!)
slurmd -D -N "$host" >slurmd.out 2>&1 &
pids+=($!)
for _ in $(seq 300); do
  ! sinfo -h -o %t 2>/dev/null | grep -qx idle || break
  sleep 0.1
done
if ! sinfo -h -o %t 2>/dev/null | grep -qx idle; then
  tail -n 5 ./*.log ./*.out >&2
  echo "skipped: Slurm does not start on this machine"
  exit 0
fi

for n in 1 2 3 4 5; do ln -s "$root/samples/smollm2.safetensors" "in/dump $n.safetensors"; done
sbatch --wait -Q --array=0-2 "$root/samples/recipes/array.sbatch" in out int8 || {
  tail -n 20 ./*.log ./*.out >&2
  exit 1
}
"$kvzip" verify -q out/*.kvz
[ "$(find out -name '*.kvz' | wc -l)" = 5 ]
# Nothing is done twice.
touch -d 2001-01-01 out/*.kvz
sbatch --wait -Q --array=3-4 "$root/samples/recipes/array.sbatch" in out int8
[ -z "$(find out -name '*.kvz' -newermt 2002-01-01)" ]
echo "5 dumps by an array of 3 tasks of Slurm $(sinfo -V | cut -d ' ' -f 2)"

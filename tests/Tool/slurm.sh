#!/usr/bin/env bash
# A Slurm of one node on the loopback, without systemd and cgroups, for the test of an array of shards.
#   slurm.sh start DIR CONTROLLER_PORT NODE_PORT    the configuration is DIR/slurm.conf then (SLURM_CONF)
#   slurm.sh stop DIR
set -euo pipefail
dir=$2
case $1 in
    start)
        host=$(hostname -s)
        mkdir -p "$dir"/{state,spool,log,run}
        cat > "$dir/slurm.conf" <<CONF
ClusterName=tiller
SlurmctldHost=$host(127.0.0.1)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$dir/run/munge.sock
SlurmctldPort=$3
SlurmdPort=$4
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/run/slurmctld.pid
SlurmdPidFile=$dir/run/slurmd.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
MpiDefault=none
ReturnToService=2
KillWait=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
        head -c 1024 /dev/urandom > "$dir/munge.key"
        chmod 400 "$dir/munge.key"
        export SLURM_CONF=$dir/slurm.conf
        munged --force --key-file="$dir/munge.key" --socket="$dir/run/munge.sock" --pid-file="$dir/run/munged.pid" \
            --log-file="$dir/log/munged.log" --seed-file="$dir/run/munge.seed" < /dev/null >> "$dir/log/start.log" 2>&1
        slurmctld < /dev/null >> "$dir/log/start.log" 2>&1 # a daemon must not keep this script's output open
        slurmd < /dev/null >> "$dir/log/start.log" 2>&1
        for ((tries = 0; tries < 600; tries++)); do
            [ "$(sinfo --noheader --format=%T 2> /dev/null)" = idle ] && exit 0
            sleep 0.2
        done
        tail -n 20 "$dir"/log/*.log
        exit 1
        ;;
    stop)
        export SLURM_CONF=$dir/slurm.conf
        scancel --user="$(id -un)" 2> /dev/null || true
        for ((tries = 0; tries < 300; tries++)); do
            [ -n "$(squeue --noheader 2> /dev/null)" ] || break
            sleep 0.1
        done
        for file in "$dir"/run/{slurmd,slurmctld,munged}.pid; do
            [ ! -f "$file" ] || kill "$(cat "$file")" || true
        done
        for ((tries = 0; tries < 300; tries++)); do
            compgen -G "$dir/run/*.pid" > /dev/null || exit 0
            sleep 0.1
        done
        ;;
esac

#!/usr/bin/env bash
# A real S3 server for tests: one Ceph monitor, one OSD in memory and radosgw, all on 127.0.0.1.
#
#   bash tests/export/store/start_ceph.sh FOLDER PORT
#
# FOLDER is new and takes the server's files; PORT takes S3 requests, and three free ports are found
# for the rest. Prints "ready http://127.0.0.1:PORT" and stays until SIGTERM or Ctrl-C, which end all
# it started; so does the end of the process that started it. What was stored is lost then.
# Two users: AKTEST/SKTEST, and AKREAD/SKREAD, who owns nothing.
# Needs the Debian packages radosgw ceph-mon ceph-osd ceph-base ceph-common; takes about 12 s.
set -euo pipefail
folder=$(mkdir -p "$1" && cd "$1" && pwd)
port=$2
parent=$PPID
read -r mon_port osd_port more_port < <(python3 - <<'PY'
import socket
sockets = [socket.socket() for _ in range(3)]
for each in sockets:
    each.bind(("127.0.0.1", 0))
print(*(each.getsockname()[1] for each in sockets))
PY
)
mkdir -p "$folder"/{run,mon,osd,rgw,crash}
cat >"$folder/ceph.conf" <<CONF
[global]
fsid = $(uuidgen)
mon host = [v1:127.0.0.1:$mon_port]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr2 = false
ms bind port min = $osd_port
ms bind port max = $((osd_port + 20))
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon max pg per osd = 1000
mon warn on pool no redundancy = false
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 2147483648
run dir = $folder/run
crash dir = $folder/crash
admin socket = $folder/run/\$name.asok
log file = $folder/\$name.log
pid file = $folder/run/\$name.pid
mon data = $folder/mon
osd data = $folder/osd
rgw data = $folder/rgw
mon osd min in ratio = 0
mon cluster log file = $folder/cluster.log
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:$port
rgw thread pool size = 64
rgw enable usage log = false
rgw enable ops log = false
rgw gc obj min wait = 60
CONF
export CEPH_CONF="$folder/ceph.conf"
pids=()
stop() {
  trap - EXIT TERM INT
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
    kill "${pids[$i]}" 2>/dev/null || true
  done
  for pid in "${pids[@]}"; do
    for _ in $(seq 30); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    kill -9 "$pid" 2>/dev/null || true
  done
}
trap stop EXIT
trap 'exit 0' TERM INT
all_alive() { for pid in "${pids[@]}"; do kill -0 "$pid" 2>/dev/null || return 1; done; }
quietly() { "$@" >>"$folder/start.log" 2>&1; }
# On a busy machine a client may send its first command before it knows the cluster's id, and is
# refused ("wrong fsid"): once more, then.
patiently() {
  for _ in 1 2 3 4; do quietly timeout 60 "$@" && return; sleep 0.3; done
  quietly timeout 60 "$@"
}
start_osd() {
  : >"$folder/osd.0.log"
  ceph-osd -c "$CEPH_CONF" -f -i 0 >>"$folder/start.log" 2>&1 &
  osd_pid=$!
  for _ in $(seq 300); do
    grep -q 'booting -> active' "$folder/osd.0.log" && return 0
    kill -0 "$osd_pid" 2>/dev/null || return 1
    sleep 0.1
  done
  kill -9 "$osd_pid" 2>/dev/null
  return 1
}

quietly monmaptool --create --fsid "$(sed -n 's/^fsid = //p' "$CEPH_CONF")" \
  --addv a "[v1:127.0.0.1:$mon_port]" "$folder/monmap"
quietly ceph-mon -c "$CEPH_CONF" --mkfs -i a --monmap "$folder/monmap"
ceph-mon -c "$CEPH_CONF" -f -i a >>"$folder/start.log" 2>&1 & pids+=($!)
osd_uuid=$(uuidgen)
patiently ceph -c "$CEPH_CONF" osd new "$osd_uuid" 0
quietly ceph-osd -c "$CEPH_CONF" -i 0 --mkfs --osd-uuid "$osd_uuid"
start_osd || start_osd || start_osd
pids+=("$osd_pid")
patiently radosgw-admin -c "$CEPH_CONF" user create --uid test --display-name test \
  --access-key AKTEST --secret SKTEST
patiently radosgw-admin -c "$CEPH_CONF" user create --uid read --display-name read \
  --access-key AKREAD --secret SKREAD
radosgw -c "$CEPH_CONF" -f -n client.rgw >>"$folder/start.log" 2>&1 & pids+=($!)
for _ in $(seq 300); do
  if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    echo "ready http://127.0.0.1:$port"
    # One of them dies, or whoever started this: end the rest.
    while all_alive && [ "$(ps -o ppid= -p $$ | tr -d ' ')" = "$parent" ]; do
      sleep 0.5 & wait $!
    done
    exit 0
  fi
  all_alive || break
  sleep 0.1
done
echo "error: radosgw on port $port: expected it to listen within 30 s, it does not. See $folder/*.log." >&2
exit 1

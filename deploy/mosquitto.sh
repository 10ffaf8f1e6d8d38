#!/bin/sh
# Runs Mosquitto and lets it read its password and rights files again whenever Fixwright has written them anew.
set -eu
folder=/mosquitto/fixwright
while [ ! -s "$folder/passwd" ]; do sleep 1; done

mosquitto -c /mosquitto/config/mosquitto.conf &
broker=$!
trap 'kill -TERM "$broker"' TERM INT

seen=$(cksum "$folder"/*)
while kill -0 "$broker" 2>/dev/null; do
    sleep 0.5
    now=$(cksum "$folder"/*)
    if [ "$now" != "$seen" ]; then
        seen=$now
        kill -HUP "$broker"
    fi
done
wait "$broker"

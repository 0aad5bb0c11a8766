#!/bin/sh
# Partial plan of T on every engine that is here: AP within 0.003 of the cpu engine's.
shared=${PQ_SHARED:-../shared}
model=$shared/models/damoyolo_tinynasL20_T.pth
[ -e "$model" ] || { echo "skipped: no $model"; exit 77; }
exec "$1" "$model" tiny "$shared" 0.003

#!/bin/sh
# Applies every migration in order. There is no database here: it prints what it would apply.
set -eu
for step in /migration/steps/*.sql; do
    echo "applying ${step##*/}"
    busybox grep -q ';' "$step"
done
echo "done"

#!/bin/sh
# Prints the sum of a price list: the work of the sample application.
set -eu
sum=0
while IFS=, read -r name price; do
    case $name in '' | name) continue ;; esac
    sum=$((sum + price))
done <"$1"
echo "sum: $sum"

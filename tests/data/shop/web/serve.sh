#!/bin/sh
# Serves the shop's page on port 8080, with the revision it was deployed from.
set -eu
busybox mkdir -p /tmp/site
busybox sed "s/@REVISION@/${REVISION:-unknown}/" /web/site/index.html >/tmp/site/index.html
busybox httpd -f -p 8080 -h /tmp/site &
# The first process of a container hears only signals it asks for; without this, stopping it
# would take until somebody loses patience.
trap 'kill $!' TERM INT
wait $!

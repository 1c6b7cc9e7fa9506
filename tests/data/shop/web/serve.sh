#!/bin/sh
# Serves the shop's page on port 8080, with the revision it was deployed from.
set -eu
busybox mkdir -p /tmp/site
busybox sed "s/@REVISION@/${REVISION:-unknown}/" /web/site/index.html >/tmp/site/index.html
exec busybox httpd -f -p 8080 -h /tmp/site

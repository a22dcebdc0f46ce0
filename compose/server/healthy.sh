#!/bin/bash
# Ready when the accounts are in and the REST API answers 200 on port 80.
[ -e /run/meta-lava/ready ] || exit 1
exec 3<> /dev/tcp/127.0.0.1/80 || exit 1
printf 'GET /api/v0.2/system/version/ HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
read -r -t 5 _ status _ <&3
[ "$status" = 200 ]

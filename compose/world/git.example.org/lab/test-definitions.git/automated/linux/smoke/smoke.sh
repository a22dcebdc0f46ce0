#!/bin/sh
# A case for each command of the first argument, which has commas between them.
test "$2" = true && lava-test-case install --result skip
rest="$1,"
while [ -n "$rest" ]; do
    command=${rest%%,*}
    rest=${rest#*,}
    rest=${rest# }
    lava-test-case "$(echo "$command" | tr ' ' '-')" --shell "$command"
done

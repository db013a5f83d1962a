#!/bin/bash
# failover_command of the tests and of the demo, with the arguments that the
# usual three-node set-up passes:
#
#     failover_command = '.../failover.sh %d %h %P %m %H %R'
#
# Promotes the new main node when the node that went away was the primary. One
# host, so pg_ctl takes the place of a remote call; the data directory tells
# which server is meant. The log goes to $FAILOVER_LOG, else beside the data directory.

failed_node=$1      # %d
failed_host=$2      # %h
old_primary=$3      # %P
new_main=$4         # %m
new_main_host=$5    # %H
new_main_data=$6    # %R

log=${FAILOVER_LOG:-$(dirname "$(dirname "${new_main_data:-/tmp/none/none}")")/failover.log}
pg_bin=${PG_BIN:-/usr/lib/postgresql/15/bin}

{
    date
    echo "node $failed_node ($failed_host) is gone; primary was $old_primary; new main node $new_main ($new_main_host) in $new_main_data"
    if [ "$new_main" = "-1" ]; then
        echo "nobody is left to promote"
    elif [ "$failed_node" = "$old_primary" ]; then
        "$pg_bin/pg_ctl" promote -w -D "$new_main_data"
    else
        echo "a standby went away: nothing to promote"
    fi
} >> "$log" 2>&1
exit 0

#!/bin/bash
# follow_primary_command of the tests, with the arguments that the usual
# three-node set-up passes, and four of our own behind them:
#
#     follow_primary_command = '.../follow_primary.sh %d %h %m %p %H %M %P %D %r POOL MODE'
#
# Points a standby to the new primary and attaches its node. POOL is the folder of pgpool's files.
# The failed primary is left alone, as the usual script does. With MODE "rewind" each node is stopped,
# rewound and made a standby: at a switchover the old primary still writes while another server is
# promoted, and its standbys may have got what the new primary has not. One host, so pg_ctl takes
# the place of a remote call.

node=$1             # %d
new_primary=$3      # %m
port=$4             # %p
new_host=$5         # %H
old_primary=$7      # %P
data=$8             # %D
new_port=$9         # %r
pool=${10}
mode=${11}

pg_bin=${PG_BIN:-/usr/lib/postgresql/15/bin}
home=$(dirname "$data")
log=${FOLLOW_LOG:-$(dirname "$home")/follow.log}

in_recovery() {
    "$pg_bin/psql" -X -A -t -h "$home" -p "$port" -U postgres -d postgres -c 'SELECT pg_is_in_recovery()'
}

point_to_new_primary() {
    touch "$data/standby.signal"
    echo "primary_conninfo = 'host=$new_host port=$new_port user=repmgr password=rep123 application_name=server$node'" >> "$data/postgresql.auto.conf"
    echo "recovery_target_timeline = 'latest'" >> "$data/postgresql.auto.conf"
}

attach() {
    pcp_port=$(sed -n "s/^pcp_port = //p" "$pool/pgpool.conf")
    PCPPASSFILE=$pool/pcppass pcp_attach_node -h 127.0.0.1 -p "$pcp_port" -U pcpadmin -w -n "$node"
}

{
    date
    echo "node $node shall follow $new_primary at $new_host:$new_port; primary was $old_primary"
    if [ "$mode" = rewind ]; then
        "$pg_bin/pg_ctl" stop -w -m fast -D "$data"
        "$pg_bin/pg_rewind" -D "$data" --source-server="host=$new_host port=$new_port user=postgres dbname=postgres" || exit 1
        point_to_new_primary
        "$pg_bin/pg_ctl" start -w -D "$data" -l "$home/log.started" -o "-p $port -k $home" || exit 1
    elif [ "$node" = "$old_primary" ]; then
        echo "the failed primary is left alone"
        exit 0
    elif [ "$(in_recovery)" = t ]; then
        point_to_new_primary
        "$pg_bin/pg_ctl" reload -D "$data"
    else
        echo "no running standby"
        exit 0
    fi
    attach
} >> "$log" 2>&1

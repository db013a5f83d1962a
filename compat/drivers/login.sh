#!/bin/sh
# psql; LOGIN_PSQL is its path.
set -eu
export PGPASSWORD="$LOGIN_PASSWORD" PGSSLMODE="$LOGIN_SSLMODE" PGSSLROOTCERT="$LOGIN_ROOTCERT" PGCONNECT_TIMEOUT=15
said=$("$LOGIN_PSQL" -X -q -A -t -h "$LOGIN_HOST" -p "$LOGIN_PORT" -U "$LOGIN_USER" -d "$LOGIN_DATABASE" -v ON_ERROR_STOP=1 <<'END'
PREPARE twice(int, text) AS SELECT current_user::text, $1 + 1, $2 || 'é';
EXECUTE twice(41, 'caf') \g /dev/null
EXECUTE twice(41, 'caf');
\conninfo
END
)
case $said in
*"SSL connection"*) tls=tls ;;
*) tls=plain ;;
esac
printf '%s|%s\n' "$(printf '%s\n' "$said" | head -n 1)" "$tls"

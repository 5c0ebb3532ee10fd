#!/bin/sh
# Dumps each service's database into the folder BACKUPS, a file a database, and removes dumps older than KEEP_DAYS. A dump
# is one moment of one database; README.md says what that means for all of them.
set -eu
now=$(date -u +%Y%m%dT%H%M%SZ)
for database in boxoffice boxoffice_auth boxoffice_tickets boxoffice_orders boxoffice_payments boxoffice_expiration boxoffice_gateway; do
	file=$BACKUPS/$database-$now.dump
	pg_dump -Fc -d "$database" -f "$file.partial"
	mv "$file.partial" "$file"
	echo "$database: $(wc -c <"$file") bytes"
done
find "$BACKUPS" -name '*.dump' -mtime "+$KEEP_DAYS" -delete

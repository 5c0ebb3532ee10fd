#!/bin/sh
# Dumps each service's database into the folder BACKUPS, a file for each database, encrypted with the public key in KEY (OpenPGP).
# A dump is from one moment of one database; README.md describes what that means for a restore. Only the private key can decrypt
# them. Keep it outside the cluster.
#
# First it makes room. It deletes the files of an interrupted run, then dumps older than KEEP_DAYS, then the oldest nights until
# one and a half times the last night fits, but never the last KEEP_NIGHTS.
set -eu
databases="boxoffice boxoffice_auth boxoffice_tickets boxoffice_orders boxoffice_payments boxoffice_expiration boxoffice_webhooks boxoffice_catalogue boxoffice_dead-letters"
KEY=${KEY:-} KEEP_DAYS=${KEEP_DAYS:-14} KEEP_NIGHTS=${KEEP_NIGHTS:-2}
export GNUPGHOME="${TMPDIR:-/tmp}/gnupg"
mkdir -p -m 700 "$GNUPGHOME"

if [ ! -s "$KEY" ] && [ "${UNENCRYPTED:-no}" != yes ]; then
	echo "There is no public key in ${KEY:-KEY}, so nothing is dumped: the secret backup-key, or UNENCRYPTED=yes." >&2
	exit 1
fi

rm -f "$BACKUPS"/*.partial
find "$BACKUPS" \( -name '*.dump' -o -name '*.dump.gpg' \) -mtime "+$KEEP_DAYS" -delete
# Nights, oldest first: what stands between the last hyphen and the end of the name.
nights() { find "$BACKUPS" \( -name '*.dump' -o -name '*.dump.gpg' \) | sed -E 's/.*-([0-9TZ]+)\.dump(\.gpg)?$/\1/' | sort -u; }
room() { df -Pk "$BACKUPS" | awk 'NR == 2 { print $4 }'; }
last=$(nights | tail -n 1)
needed=0
if [ -n "$last" ]; then
	needed=$(find "$BACKUPS" -name "*-$last.dump*" -exec du -k {} + | awk '{ k += $1 } END { print int(k * 1.5) }')
fi
while [ "$(room)" -lt "$needed" ] && [ "$(nights | wc -l)" -gt "$KEEP_NIGHTS" ]; do
	oldest=$(nights | head -n 1)
	echo "No room for another night: removing $oldest."
	rm -f "$BACKUPS"/*-"$oldest".dump*
done

now=$(date -u +%Y%m%dT%H%M%SZ)
for database in $databases; do
	file=$BACKUPS/$database-$now.dump
	if [ -s "$KEY" ]; then
		file=$file.gpg
		failed=$GNUPGHOME/failed # of the two in a pipe, a shell has the status of the second alone
		rm -f "$failed"
		{ pg_dump -Fc -d "$database" || touch "$failed"; } |
			gpg --batch --quiet --no-tty --trust-model always --compress-algo none --recipient-file "$KEY" --encrypt > "$file.partial"
		[ ! -e "$failed" ] || { echo "$database was not dumped." >&2; exit 1; }
	else
		pg_dump -Fc -d "$database" -f "$file.partial"
	fi
	mv "$file.partial" "$file"
	echo "$database: $(wc -c < "$file") bytes"
done

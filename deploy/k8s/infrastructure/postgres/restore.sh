#!/bin/sh
# Restores each service's database from the newest dumps in the folder BACKUPS, or from those of NIGHT (20260131T031700Z). No
# service may run meanwhile: README.md describes how to stop and start them. Encrypted dumps need the private key in PRIVATE_KEY,
# without a passphrase (the secret restore-key; delete it afterwards).
set -eu
export GNUPGHOME="${TMPDIR:-/tmp}/gnupg"
mkdir -p -m 700 "$GNUPGHOME"
for file in "$BACKUPS"/boxoffice_dead-letters-*.dump*; do # the last of a night
	case $file in *.partial) ;; *) newest=$file ;; esac
done
newest=${newest##*-}
night=${NIGHT:-${newest%%.dump*}}
databases="boxoffice_auth boxoffice_tickets boxoffice_orders boxoffice_payments boxoffice_expiration boxoffice_webhooks boxoffice_catalogue boxoffice_dead-letters"
# Earlier releases had no database of webhooks or catalogue, so their dumps have none.
for later in boxoffice_webhooks boxoffice_catalogue; do
	if ! ls "$BACKUPS/$later-$night".dump* > /dev/null 2>&1; then
		echo "There is no dump of $later of $night: that database stays as it is."
		databases=$(echo "$databases" | sed "s/$later //")
	fi
done
for database in $databases; do # before anything is overwritten
	[ -e "$BACKUPS/$database-$night.dump" ] || [ -e "$BACKUPS/$database-$night.dump.gpg" ] || { echo "There is no dump of $database of $night." >&2; exit 1; }
done
put() { pg_restore --single-transaction --clean --if-exists --no-owner --role="$1" -d "$1" "$2"; }
plain=${TMPDIR:-/tmp}/restore.dump
for database in $databases; do
	if [ -e "$BACKUPS/$database-$night.dump.gpg" ]; then
		gpg --batch --quiet --no-tty --import "$PRIVATE_KEY"
		# Whole and unchanged, or not at all: gpg reports an error only at the end.
		gpg --batch --quiet --no-tty --yes --output "$plain" --decrypt "$BACKUPS/$database-$night.dump.gpg"
		put "$database" "$plain"
		rm -f "$plain"
	else
		put "$database" "$BACKUPS/$database-$night.dump"
	fi
	echo "$database: as of $night"
done

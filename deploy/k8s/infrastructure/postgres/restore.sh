#!/bin/sh
# Puts each service's database back as it was in the newest dumps in the folder BACKUPS, or in those of NIGHT
# (20260131T031700Z). While it runs no service may: README.md says how to close and to open the shop.
set -eu
for file in "$BACKUPS"/boxoffice_gateway-*.dump; do newest=$file; done # the last of a night
newest=${newest##*-}
night=${NIGHT:-${newest%.dump}}
for database in boxoffice_auth boxoffice_tickets boxoffice_orders boxoffice_payments boxoffice_expiration boxoffice_gateway; do
	pg_restore --single-transaction --clean --if-exists --no-owner --role="$database" -d "$database" "$BACKUPS/$database-$night.dump"
	echo "$database: as of $night"
done

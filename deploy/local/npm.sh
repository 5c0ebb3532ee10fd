#!/usr/bin/env bash
# Runs a script of npm packages: deploy/local/npm.sh lint services/webhooks services/contracts/typescript
#
# Before, it installs what their lock files name, unless that is there. Node is optional: without Node 20.19 or later, or if npm cannot
# install (no network), it prints one line for all packages or for one, and ends with success. CI_REQUIRE_TYPESCRIPT=1 makes that an
# error. A script that fails is an error always.
set -euo pipefail
cd "$(dirname "$0")/../.."
script=$1
shift
packages=()
for package in "$@"; do
	[ ! -f "$package/package.json" ] || packages+=("$package")
done
[ ${#packages[@]} -gt 0 ] || exit 0

skip() {
	echo "$1"
	[ -z "${CI_REQUIRE_TYPESCRIPT:-}" ] || exit 1
}

if ! command -v npm > /dev/null || ! node -e '
	const [major, minor] = process.versions.node.split(".").map(Number);
	process.exit(major > 20 || (major === 20 && minor >= 19) ? 0 : 1)' 2> /dev/null; then
	skip "Skipped: npm run $script in ${packages[*]}. It needs Node 20.19 or later with npm (https://nodejs.org)."
	exit 0
fi

# The copy of the lock file in node_modules shows what was installed.
install() {
	cmp -s "$1/package-lock.json" "$1/node_modules/.installed" && return
	echo "npm ci in $1"
	npm ci --prefix "$1" --prefer-offline --no-audit --no-fund --loglevel=error \
		--fetch-retries=1 --fetch-retry-mintimeout=1000 > /dev/null 2> "$errors" &&
		cp "$1/package-lock.json" "$1/node_modules/.installed"
}

# A bundle is up to date if nothing in its package is newer.
is_built() {
	local bundle=.build/${1##*/}.mjs
	[ "$script" = build ] && [ -f "$bundle" ] && [ -z "$(find "$1" -name node_modules -prune -o -type f -newer "$bundle" -print -quit)" ]
}

errors=$(mktemp)
trap 'rm -f "$errors"' EXIT
for package in "${packages[@]}"; do
	if is_built "$package"; then
		continue
	elif install "$package"; then
		npm run --silent --prefix "$package" "$script"
	else
		skip "Skipped: npm run $script in $package. npm ci failed: $(grep -m 1 . "$errors" || echo 'no message')."
	fi
done

#!/usr/bin/env bash
# Bundles the scripts and styles of the storefront into dist, which the gateway embeds: services/storefront/bundle.sh ESBUILD
#
# There is a bundle of scripts for each language of texts, so a page has the texts of one language alone. It needs no Node: the packages
# are in third_party, and tsconfig.json has their places. It does nothing if no source is newer than the last bundle.
set -euo pipefail
esbuild=$(realpath "$1")
cd "$(dirname "$0")"
sources=(src styles texts third_party tsconfig.json bundle.sh ../contracts/typescript/src)
[ ! -f dist/styles.meta.json ] || [ -n "$(find "${sources[@]}" -newer dist/styles.meta.json -print -quit)" ] || exit 0

new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT
for texts in texts/*.json; do
	language=$(basename "$texts" .json)
	"$esbuild" src/main.tsx --bundle --splitting --format=esm --target=es2022 --minify --legal-comments=none --log-level=warning \
		--tsconfig=tsconfig.json --alias:texts="./$texts" --outdir="$new" --metafile="$new/$language.meta.json" \
		--entry-names="$language-[hash]" --chunk-names="$language-[name]-[hash]"
done
"$esbuild" styles/main.css --bundle --target=chrome111,firefox113,safari16.4 --minify --log-level=warning \
	--outdir="$new" --metafile="$new/styles.meta.json" --entry-names="styles-[hash]"
mkdir -p dist
rm -f dist/*.js dist/*.css dist/*.json
cp "$new"/* dist/

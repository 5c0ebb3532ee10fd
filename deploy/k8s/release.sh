#!/bin/sh
# Writes into an overlay which of this project's images it runs: by digest, and only images whose provenance is attested by this repository's
# own workflow. Needs docker with buildx and gh, both signed in to the registry.
#
#   deploy/k8s/release.sh OVERLAY TAG REGISTRY REPOSITORY
#   deploy/k8s/release.sh production v1.2.3 ghcr.io/owner/boxoffice owner/repository
set -eu
[ $# = 4 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
overlay=$1 tag=$2 registry=$3 repository=$4
file=$(dirname "$0")/overlays/$overlay/kustomization.yaml
[ -f "$file" ] || { echo "There is no $file." >&2; exit 2; }

for name in $(sed -nE 's|^ *- name: boxoffice/(.*)$|\1|p' "$file"); do
	image=$registry/$name
	digest=$(docker buildx imagetools inspect "$image:$tag" --format '{{.Manifest.Digest}}')
	case $digest in
		sha256:????????????????????????????????????????????????????????????????) ;;
		*) echo "The registry gave no digest for $image:$tag, but \"$digest\"." >&2; exit 1 ;;
	esac
	gh attestation verify "oci://$image@$digest" --repo "$repository" --signer-workflow "$repository/.github/workflows/images.yml" > /dev/null || {
		echo "$image:$tag ($digest) was not built by $repository's own workflow: it is not deployed." >&2; exit 1; }
	awk -v name="boxoffice/$name" -v image="$image" -v digest="$digest" '
		/^ *- name: / { found = ($3 == name) }
		found && /^ *newName: / { sub(/newName: .*/, "newName: " image) }
		found && /^ *(newTag|digest): / { sub(/(newTag|digest): .*/, "digest: " digest) }
		{ print }' "$file" > "$file.new"
	mv "$file.new" "$file"
	echo "$image:$tag is $digest, and attested"
done

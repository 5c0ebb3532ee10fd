#!/bin/sh
# Pins the images of others (databases, brokers, the base images of this project) by digest in docker-compose.yaml, the Dockerfile and the
# manifests of Kubernetes, so that a tag that somebody moves changes nothing. Run it again to take the digests that the tags have now.
#
#   deploy/docker/pin.sh           write the digests; needs docker with buildx, and the registries
#   deploy/docker/pin.sh --check   list the images that have no digest; needs neither docker nor network
set -eu
cd "$(dirname "$0")/../.."

files="docker-compose.yaml deploy/docker/Dockerfile $(find deploy/k8s/infrastructure deploy/k8s/overlays -name '*.yaml')"

# Images of others, as they stand in the files: name:tag, perhaps with a digest. Those of this project begin with boxoffice/ or a variable.
images() {
	# shellcheck disable=SC2086
	sed -nE 's/^ *(- )?image: ([^ $]+).*$/\2/p; s/^ARG ((NODE_)?(BUILDER|BASE))=([^ ]+).*$/\4/p' $files |
		grep -vE '^(boxoffice/|registry\.example\.com/)' | sort -u
}

if [ "${1:-}" = --check ]; then
	loose=$(images | grep -v '@sha256:' || true)
	[ -z "$loose" ] && exit 0
	echo "These images are not pinned by digest; deploy/docker/pin.sh does it:"
	echo "$loose"
	exit 1
fi

images | while read -r image; do
	tagged=${image%@*}
	digest=$(docker buildx imagetools inspect "$tagged" --format '{{.Manifest.Digest}}')
	case $digest in
		sha256:????????????????????????????????????????????????????????????????) ;;
		*) echo "The registry gave no digest for $tagged, but \"$digest\"." >&2; exit 1 ;;
	esac
	[ "$image" = "$tagged@$digest" ] && continue
	for file in $files; do
		# The whole name and no longer one: what follows is the end of the line or a space.
		sed -i -E "s#(image: |ARG (NODE_)?BUILDER=|ARG (NODE_)?BASE=)$(printf %s "$image" | sed 's/[.]/\\./g')( |\$)#\\1$tagged@$digest\\4#" "$file"
	done
	echo "$tagged is $digest"
done

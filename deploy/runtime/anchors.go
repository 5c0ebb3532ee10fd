package main

import (
	"fmt"
	"os"

	"github.com/dapr/dapr/pkg/security/consts"
)

// anchorsFileVariable names a file with the trust anchors of a sidecar, for docker-compose.yaml,
// which cannot put the text of a file into the environment. Dapr's own daprd reads DAPR_TRUST_ANCHORS alone, which has precedence.
const anchorsFileVariable = "DAPR_TRUST_ANCHORS_FILE"

func readAnchors() error {
	path := os.Getenv(anchorsFileVariable)
	if path == "" || os.Getenv(consts.TrustAnchorsEnvVar) != "" {
		return nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("%s: %w", anchorsFileVariable, err)
	}
	return os.Setenv(consts.TrustAnchorsEnvVar, string(text))
}

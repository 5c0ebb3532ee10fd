package contracts

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOpenAPI_IsJSONInTheOrderOfTheDocument(t *testing.T) {
	document := OpenAPI()
	require.True(t, json.Valid(document))
	require.Regexp(t, `^\{"openapi":"3\.1\.0","info":\{"title":"Box office","version":"\d+\.\d+\.\d+"`, string(document))
	require.Contains(t, string(document), `X-Request-Id`)
	require.NotContains(t, string(document), ":null")
}

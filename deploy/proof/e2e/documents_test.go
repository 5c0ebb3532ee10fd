package e2e

import (
	"encoding/json"
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/proof/client"
)

// Documents of services, read and written through their sidecars and past the services.

// getState reads a document. It is nil if there is none.
func (s *testStack) getState(t testing.TB, service, key string) json.RawMessage {
	t.Helper()
	r := s.stateCall(t, http.MethodGet, service, "/"+url.PathEscape(key), nil)
	if r.Status == http.StatusNoContent {
		return nil
	}
	requireStatus(t, 200, r)
	return json.RawMessage(r.Body)
}

// putState writes a document.
func (s *testStack) putState(t testing.TB, service, key string, value any) {
	t.Helper()
	requireStatus(t, 204, s.stateCall(t, http.MethodPost, service, "", []any{map[string]any{"key": key, "value": value}}))
}

// deleteState deletes a document.
func (s *testStack) deleteState(t testing.TB, service, key string) {
	t.Helper()
	requireStatus(t, 204, s.stateCall(t, http.MethodDelete, service, "/"+url.PathEscape(key), nil))
}

func (s *testStack) stateCall(t testing.TB, method, service, path string, body any) client.Response {
	t.Helper()
	return s.request(t, method, s.SidecarHTTP(service)+"/v1.0/state/state"+path, body, "dapr-api-token", s.SidecarToken(service))
}

// journalWriters reads the writers of a service's journal: their ids, with their instances. A process has one or more.
func (s *testStack) journalWriters(t testing.TB, service string) map[string]string {
	t.Helper()
	var registry struct {
		Writers []struct{ ID, Instance string }
	}
	require.NoError(t, json.Unmarshal(s.getState(t, service, "journal/registry"), &registry))
	all := map[string]string{}
	for _, writer := range registry.Writers {
		all[writer.ID] = writer.Instance
	}
	return all
}

package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/problem"
)

// requireProblem finds the problem in err.
func requireProblem(t *testing.T, err error, kind problem.Kind) *problem.Error {
	t.Helper()
	p, ok := errors.AsType[*problem.Error](err)
	require.True(t, ok, "not a problem: %v", err)
	require.Equal(t, kind, p.Kind, err)
	return p
}

// get reads JSON from a handler.
func get[T any](t *testing.T, from http.Handler, path string) T {
	t.Helper()
	w := httptest.NewRecorder()
	from.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	require.Equal(t, 200, w.Code, w.Body.String())
	var value T
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &value))
	return value
}

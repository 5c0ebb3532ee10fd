package idempotency

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/rest"
	"boxoffice/services/internal/state"
	"boxoffice/services/internal/state/statetest"
)

type made struct {
	Schema int      `json:"schema"`
	ID     id.Order `json:"id"`
}

// service has one resource that can be made once.
type service struct {
	app       *fiber.App
	store     *state.Store
	mu        sync.Mutex
	decisions int
}

var errTaken = problem.New(problem.Conflict, "made_before", "It was made before.")

func newService(t *testing.T) *service {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	store, err := state.Open(t.Context(), statetest.New(), state.Options{Service: "tested", Instance: "here", Log: quiet})
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close(context.Background()) })
	s := &service{app: rest.New(rest.Options{Name: "tested", Log: quiet}), store: store}
	s.app.Post("/:key", func(c *fiber.Ctx) error {
		key := "made/" + c.Params("key")
		return Do(c, store, id.User(c.Get("User")), func(ctx context.Context) (*state.Change, Response, error) {
			s.mu.Lock()
			s.decisions++
			s.mu.Unlock()
			if _, err := state.Get[made](ctx, store, key); err == nil {
				return nil, Response{}, errTaken
			}
			it := made{1, id.New[id.Order]()}
			change := new(state.Change)
			change.Create(key, it)
			return change, Response{Status: fiber.StatusCreated, Location: "/made/" + string(it.ID), Version: 7, Body: it}, nil
		})
	})
	s.app.Put("/nothing", func(c *fiber.Ctx) error {
		return Do(c, store, "ada", func(context.Context) (*state.Change, Response, error) {
			return nil, Response{Status: fiber.StatusOK, Body: id.New[id.Order]()}, nil
		})
	})
	return s
}

type response struct {
	status                   int
	location, etag, replayed string
	body                     string
}

func (s *service) send(t *testing.T, method, path, user, key, body string) response {
	request := httptest.NewRequest(method, path, bytes.NewBufferString(body))
	request.Header.Set("User", user)
	if key != "" {
		request.Header.Set(Header, key)
	}
	res, err := s.app.Test(request, -1)
	if !assert.NoError(t, err) {
		return response{}
	}
	defer res.Body.Close()
	read, err := io.ReadAll(res.Body)
	assert.NoError(t, err)
	assert.Contains(t, []string{"application/json", "application/problem+json"}, res.Header.Get("Content-Type"))
	return response{res.StatusCode, res.Header.Get("Location"), res.Header.Get("ETag"), res.Header.Get(ReplayedHeader), string(read)}
}

func TestDo_TheSameRequestIsDoneOnceAndGetsTheSameResponse(t *testing.T) {
	s := newService(t)
	first := s.send(t, http.MethodPost, "/seat", "ada", "key", `{}`)
	require.Equal(t, http.StatusCreated, first.status, first.body)
	require.NotEmpty(t, first.location)
	require.Equal(t, `"7"`, first.etag)
	require.Empty(t, first.replayed)
	again := s.send(t, http.MethodPost, "/seat", "ada", "key", `{}`)
	require.Equal(t, response{first.status, first.location, first.etag, "true", first.body}, again)
	require.Equal(t, 1, s.decisions)

	require.Equal(t, http.StatusConflict, s.send(t, http.MethodPost, "/seat", "ada", "key", `{"other":1}`).status, "another body")
	require.Equal(t, http.StatusConflict, s.send(t, http.MethodPost, "/seat", "bob", "key", `{}`).status, "another user")
	require.Equal(t, http.StatusConflict, s.send(t, http.MethodPost, "/seat", "ada", "", `{}`).status, "without a key")
}

func TestDo_AnErrorDoesNotUseTheKeyUp(t *testing.T) {
	s := newService(t)
	require.Equal(t, http.StatusCreated, s.send(t, http.MethodPost, "/seat", "bob", "", `{}`).status)
	require.Equal(t, http.StatusConflict, s.send(t, http.MethodPost, "/seat", "ada", "key", `{}`).status)
	doc, err := state.Get[made](t.Context(), s.store, "made/seat")
	require.NoError(t, err)
	var change state.Change
	change.Delete(doc.Key, doc.ETag)
	require.NoError(t, s.store.Commit(t.Context(), &change))
	require.Equal(t, http.StatusCreated, s.send(t, http.MethodPost, "/seat", "ada", "key", `{}`).status)
}

// The loser of a race finds the resource made before it finds the response.
func TestDo_CopiesThatArriveTogetherGetTheSameResponse(t *testing.T) {
	for range 20 {
		s := newService(t)
		responses := make([]response, 8)
		var all sync.WaitGroup
		for i := range responses {
			all.Go(func() { responses[i] = s.send(t, http.MethodPost, "/seat", "ada", "key", `{}`) })
		}
		all.Wait()
		first := 0
		for _, r := range responses {
			require.Equal(t, http.StatusCreated, r.status, r.body)
			require.Equal(t, responses[0].body, r.body)
			require.Equal(t, responses[0].location, r.location)
			if r.replayed == "" {
				first++
			}
		}
		require.Equal(t, 1, first)
	}
}

func TestDo_AResponseWithoutAChangeIsStoredToo(t *testing.T) {
	s := newService(t)
	first := s.send(t, http.MethodPut, "/nothing", "ada", "key", `{}`)
	require.Equal(t, http.StatusOK, first.status, first.body)
	require.Empty(t, first.etag)
	require.Equal(t, first.body, s.send(t, http.MethodPut, "/nothing", "ada", "key", `{}`).body)
	require.NotEqual(t, first.body, s.send(t, http.MethodPut, "/nothing", "ada", "", `{}`).body)
}

func TestFind_ReturnsTheStoredBody(t *testing.T) {
	s := newService(t)
	request := Request{document: "idempotency/ada/x", fingerprint: "f"}
	var change state.Change
	require.NoError(t, request.Keep(&change, Response{Status: 201, Location: "/there", Version: 7, Body: made{1, "a"}}))
	require.NoError(t, s.store.Commit(t.Context(), &change))
	stored, err := request.Find(t.Context(), s.store)
	require.NoError(t, err)
	var body made
	require.NoError(t, stored.Decode(&body))
	require.Equal(t, made{1, "a"}, body)
	require.Equal(t, "/there", stored.Location)
	require.Equal(t, 7, stored.Version)

	stored, err = Request{}.Find(t.Context(), s.store)
	require.NoError(t, err)
	require.Nil(t, stored)
}

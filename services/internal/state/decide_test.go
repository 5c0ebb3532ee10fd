package state

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/problem"
)

type tally struct {
	Schema int `json:"schema"`
	N      int `json:"n"`
}

func count(doc *tally, _ *Change) (bool, error) {
	doc.Schema, doc.N = 1, doc.N+1
	return true, nil
}

func TestModify_NoChangeIsLost(t *testing.T) {
	s, _ := onMemory(t, newMemory(), Options{})
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			_, err := Modify(context.Background(), s, "tally", count)
			assert.NoError(t, err)
		})
	}
	all.Wait()
	doc, err := Get[tally](t.Context(), s, "tally")
	require.NoError(t, err)
	require.Equal(t, 20, doc.Value.N)
}

func TestModify_CommitsTheDocumentWithWhatWasAddedToTheChange(t *testing.T) {
	s, sidecar := onMemory(t, newMemory(), Options{})
	after, err := Modify(t.Context(), s, "tally", func(doc *tally, change *Change) (bool, error) {
		require.Zero(t, *doc, "there is no document yet")
		change.Emit(t.Context(), events.UserCreated{User: events.User{ID: "u", Version: 1}})
		return count(doc, change)
	})
	require.NoError(t, err)
	require.Equal(t, tally{1, 1}, after)
	require.NoError(t, s.publisher.drain(t.Context()))
	require.True(t, sidecar.took("user.created:u:1"))
}

func TestModify_WritesNothingIfNothingChangedOrTheRuleRefuses(t *testing.T) {
	m := newMemory()
	s, _ := onMemory(t, m, Options{})
	_, err := Modify(t.Context(), s, "tally", count)
	require.NoError(t, err)
	before := m.get("tally")

	doc, err := Modify(t.Context(), s, "tally", func(doc *tally, _ *Change) (bool, error) { doc.N = 7; return false, nil })
	require.NoError(t, err)
	require.Equal(t, 7, doc.N)
	refused := errors.New("refused")
	doc, err = Modify(t.Context(), s, "tally", func(doc *tally, _ *Change) (bool, error) { return true, refused })
	require.ErrorIs(t, err, refused)
	require.Equal(t, 1, doc.N, "the document is returned with the error")
	require.Equal(t, before, m.get("tally"))
}

func TestDecide_NilChangeCommitsNothing(t *testing.T) {
	s, _ := onMemory(t, newMemory(), Options{})
	answer, err := Decide(t.Context(), s, func(context.Context) (*Change, string, error) { return nil, "nothing to do", nil })
	require.NoError(t, err)
	require.Equal(t, "nothing to do", answer)
}

func TestDecide_DecidesAgainAfterAConflict(t *testing.T) {
	s, _ := onMemory(t, newMemory(), Options{})
	decisions := 0
	answer, err := Decide(t.Context(), s, func(ctx context.Context) (*Change, int, error) {
		doc, err := Get[tally](ctx, s, "tally")
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, 0, err
		}
		if decisions++; decisions == 1 {
			_, err := Modify(ctx, s, "tally", count)
			require.NoError(t, err)
		}
		change := new(Change)
		change.Put("tally", doc.ETag, tally{1, doc.Value.N + 10})
		return change, doc.Value.N + 10, nil
	})
	require.NoError(t, err)
	require.Equal(t, 2, decisions)
	require.Equal(t, 11, answer)
}

func TestDecide_GivesUpAfterManyConflicts(t *testing.T) {
	s, _ := onMemory(t, newMemory(), Options{})
	decisions := 0
	_, err := Decide(t.Context(), s, func(context.Context) (*Change, int, error) {
		decisions++
		return nil, 0, ErrConflict
	})
	require.Equal(t, problem.Conflict, problem.KindOf(err))
	require.ErrorIs(t, err, ErrConflict)
	require.Equal(t, decisionAttempts, decisions)
}

func TestChange_EncodedDocumentsAreWrittenAsTheyAre(t *testing.T) {
	m := newMemory()
	s, err := Open(t.Context(), m, Options{Service: "tested", Instance: "one", Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	var change Change
	change.Insert("thing/1", Encoded(`{"schema":1,"name":"as it is"}`))
	require.NoError(t, s.Commit(t.Context(), &change))
	require.Equal(t, `{"schema":1,"name":"as it is"}`, string(m.get("thing/1").value))
}

func TestChange_RemoveNeedsNoRead(t *testing.T) {
	m := newMemory()
	s, err := Open(t.Context(), m, Options{Service: "tested", Instance: "one", Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	var change Change
	change.Insert("thing/1", thing{1, "made"})
	require.NoError(t, s.Commit(t.Context(), &change))
	change = Change{}
	change.Remove("thing/1")
	change.Remove("thing/that-never-was")
	require.NoError(t, s.Commit(t.Context(), &change))
	require.False(t, m.get("thing/1").exists())
}

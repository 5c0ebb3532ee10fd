package state

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"boxoffice/services/internal/problem"
)

// A document in three releases of its service. In the first format it has a text; in the second that is split into a
// title and a subtitle.
type (
	// release1 knows the first format alone.
	release1 struct {
		Schema int    `json:"schema"`
		Count  int    `json:"count"`
		Text   string `json:"text"`
	}
	// release2 works with both formats, and keeps a document in its format.
	release2 struct {
		Schema   int    `json:"schema"`
		Count    int    `json:"count"`
		Text     string `json:"text,omitempty"`
		Title    string `json:"title,omitempty"`
		Subtitle string `json:"subtitle,omitempty"`
	}
	// release3 works with the second format, and reads the first.
	release3 struct {
		Schema   int    `json:"schema"`
		Count    int    `json:"count"`
		Text     string `json:"text,omitempty"` // up to schema 1
		Title    string `json:"title"`
		Subtitle string `json:"subtitle"`
	}
)

func (*release2) Newest() int       { return 2 }
func (*release2) Upgrade(int) error { return nil }

func (*release3) Newest() int { return 2 }

func (r *release3) Upgrade(from int) error {
	if from == 1 {
		r.Title, r.Subtitle, _ = strings.Cut(r.Text, ": ")
		r.Text = ""
		r.Schema = 2
	}
	return nil
}

func (r *release1) count() { r.Count++ }
func (r *release2) count() { r.Count++ }
func (r *release3) count() { r.Count++ }

// counter is a document in some release; counting changes it.
type counter[T any] interface {
	*T
	count()
}

// changes changes the document under key so many times as a process of T's release does, while others do so too.
func changes[T any, C counter[T]](ctx context.Context, s *Store, key string, times int) (err error) {
	for range times {
		err = errors.Join(err, Retry(ctx, func(ctx context.Context) error {
			doc, err := Get[T](ctx, s, key)
			if err != nil {
				return err
			}
			C(&doc.Value).count()
			var c Change
			c.Update(key, doc.ETag, doc.Value)
			return s.Commit(ctx, &c)
		}))
	}
	return err
}

func store(t *testing.T, s *Store, key string, value any) {
	t.Helper()
	var c Change
	c.Create(key, value)
	require.NoError(t, s.Commit(t.Context(), &c))
}

func onDisk(t *testing.T, s *Store, key string) string {
	t.Helper()
	items, err := s.read(t.Context(), key)
	require.NoError(t, err)
	return string(items[key].value)
}

func TestSchema_AnOldDocumentIsUpgradedAsItIsReadAndWrittenNewWithItsNextChange(t *testing.T) {
	s, _ := open(t, Options{})
	key, other := newKey(), newKey()
	old := release1{Schema: 1, Count: 7, Text: "Hamlet: a tragedy"}
	store(t, s, key, old)
	store(t, s, other, old)

	doc, err := Get[release3](t.Context(), s, key)
	require.NoError(t, err)
	require.Equal(t, release3{Schema: 2, Count: 7, Title: "Hamlet", Subtitle: "a tragedy"}, doc.Value)
	docs, err := GetMany[release3](t.Context(), s, []string{key, other})
	require.NoError(t, err)
	require.Equal(t, []release3{doc.Value, doc.Value}, []release3{docs[0].Value, docs[1].Value})
	require.JSONEq(t, `{"schema":1,"count":7,"text":"Hamlet: a tragedy"}`, onDisk(t, s, key), "to read changes nothing")

	require.NoError(t, changes[release3](t.Context(), s, key, 1))
	require.JSONEq(t, `{"schema":2,"count":8,"title":"Hamlet","subtitle":"a tragedy"}`, onDisk(t, s, key))
}

func TestSchema_ADocumentOfANewerReleaseIsRefusedAndKept(t *testing.T) {
	s, _ := open(t, Options{})
	key, known := newKey(), newKey()
	store(t, s, key, release3{Schema: 2, Count: 7, Title: "Hamlet", Subtitle: "a tragedy"})
	store(t, s, known, release1{Schema: 1, Text: "Hamlet"})
	before := onDisk(t, s, key)

	_, err := Get[release1](t.Context(), s, key)
	require.Equal(t, problem.Unavailable, problem.KindOf(err), "another process can, and so will this one after its update")
	require.ErrorContains(t, err, key+" has schema 2, this process reads up to 1")
	_, err = GetMany[release1](t.Context(), s, []string{known, key})
	require.ErrorIs(t, err, errNewer)
	require.ErrorIs(t, changes[release1](t.Context(), s, key, 1), errNewer)
	require.Equal(t, before, onDisk(t, s, key))
	_, err = Get[release1](t.Context(), s, known)
	require.NoError(t, err)
}

func TestSchema_AnIndexOfANewerReleaseIsNotAppendedTo(t *testing.T) {
	s, _ := open(t, Options{})
	index := newKey()
	head := indexHeadKey(index, strconv.Itoa(s.writers[0].partition))
	store(t, s, head, indexPage{Schema: 2, Number: 1, IDs: []string{"one"}})

	var c Change
	c.Append(index, "two")
	require.ErrorIs(t, s.Commit(t.Context(), &c), errNewer)
	_, _, err := s.Page(t.Context(), index, 10, "")
	require.ErrorIs(t, err, errNewer)
	require.Contains(t, onDisk(t, s, head), `"ids":["one"]`)
}

// A rolling deployment: for a while, processes of two releases that follow each other change the same document.
func TestSchema_ARollingDeploymentLosesNothing(t *testing.T) {
	const each = 40
	from, to := open2(t)
	key := newKey()
	store(t, from, key, release1{Schema: 1, Text: "Hamlet: a tragedy"})
	var both errgroup.Group
	both.Go(func() error { return changes[release1](t.Context(), from, key, each) })
	both.Go(func() error { return changes[release2](t.Context(), to, key, each) })
	require.NoError(t, both.Wait(), "a release that reads both formats keeps a document in the old one")
	require.JSONEq(t, `{"schema":1,"count":80,"text":"Hamlet: a tragedy"}`, onDisk(t, from, key))

	from, to = open2(t)
	both = errgroup.Group{}
	both.Go(func() error { return changes[release2](t.Context(), from, key, each) })
	both.Go(func() error { return changes[release3](t.Context(), to, key, each) })
	require.NoError(t, both.Wait(), "who writes the new format comes when all can read it")
	require.JSONEq(t, `{"schema":2,"count":160,"title":"Hamlet","subtitle":"a tragedy"}`, onDisk(t, from, key))
}

// A deployment that skips a release loses nothing either, but the old processes refuse documents that the new ones have changed.
func TestSchema_ADeploymentThatSkipsAReleaseRefusesUntilItIsComplete(t *testing.T) {
	from, to := open2(t)
	key := newKey()
	store(t, from, key, release1{Schema: 1, Text: "Hamlet: a tragedy"})
	require.NoError(t, changes[release1](t.Context(), from, key, 3))
	require.NoError(t, changes[release3](t.Context(), to, key, 3))
	require.ErrorIs(t, changes[release1](t.Context(), from, key, 3), errNewer)
	require.JSONEq(t, `{"schema":2,"count":6,"title":"Hamlet","subtitle":"a tragedy"}`, onDisk(t, from, key))
}

// open2 opens the store twice, as two processes do.
func open2(t *testing.T) (*Store, *Store) {
	t.Helper()
	one, _ := open(t, Options{})
	two, _ := open(t, Options{})
	return one, two
}

func TestSchemaOf_TheNumberIsFoundWhereverItStands(t *testing.T) {
	for document, want := range map[string]int{
		`{"schema":1,"id":"x"}`:       1,
		`{"schema":2,"id":"x"}`:       2,
		`{"schema":12,"id":"x"}`:      12,
		`{"schema":3}`:                3,
		`{ "id": "x", "schema": 4 }`:  4,
		`{"id":"x"}`:                  1,
		`{}`:                          1,
		`{"schema":0,"id":"x"}`:       1,
		`{"inner":{"schema":9}}`:      1,
		`{"schema":2,"id":"{\"x\":"}`: 2,
	} {
		got, err := schemaOf([]byte(document))
		require.NoError(t, err, document)
		require.Equal(t, want, got, document)
	}
	for _, document := range []string{``, `[]`, `7`, `{"schema":"1"}`, `{"schema":-1}`, `{"schema":1.5}`, `{"schema":1`} {
		_, err := schemaOf([]byte(document))
		require.Error(t, err, document)
	}
	_, err := schemaOf([]byte(`{"schema":1,`))
	require.NoError(t, err, "what is broken behind the number is found by who reads it all")
	var doc release1
	require.ErrorIs(t, unmarshal("broken", []byte(`{"schema":3,"count":"x"}`), &doc), errNewer, "a newer format may have any members")
}

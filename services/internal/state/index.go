package state

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"boxoffice/services/internal/problem"
)

// The state API has no portable query, so lists are kept as index pages. An index has a head document with its
// newest entries; when that is full, its entries move to a page of their own, which never changes again. An
// index therefore costs one document a change to write and one or two to read, however long it is.
//
// Entries are never removed. What has been deleted is skipped when a list is read. Who works an index off, from its
// oldest entry on, keeps the Place that it has come to; see Store.Forward.

// pageLength is how many ids a page holds: about 8 kB of UUIDs.
const pageLength = 200

// indexPage is a page of an index, oldest entry first. Number counts from 1; the head has the highest.
type indexPage struct {
	Schema int      `json:"schema"`
	Number int      `json:"number"`
	IDs    []string `json:"ids"`
}

func indexHeadKey(index string) string { return "index/" + index }
func indexPageKey(index string, number int) string {
	return "index/" + index + "/" + strconv.Itoa(number)
}

// appendIDs returns the writes that add ids to an index whose head was read as head.
func appendIDs(index string, head item, ids []string) ([]write, error) {
	page := indexPage{Schema: 1, Number: 1}
	if head.exists() {
		if err := unmarshal(indexHeadKey(index), head.value, &page); err != nil {
			return nil, err
		}
	}
	var full Change
	for _, id := range ids {
		if len(page.IDs) == pageLength {
			full.Create(indexPageKey(index, page.Number), page)
			page = indexPage{Schema: 1, Number: page.Number + 1}
		}
		page.IDs = append(page.IDs, id)
	}
	full.put(write{key: indexHeadKey(index), etag: head.etag}, page)
	return full.writes, full.err
}

// cursor is a place in an index: the next entry to read is number entry-1 of page.
type cursor struct{ page, entry int }

func (c cursor) String() string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d.%d", c.page, c.entry))
}

func parseCursor(s string) (cursor, error) {
	refused := problem.New(problem.Invalid, "The cursor is not one that this list gave out. Start again without it.").WithField("cursor")
	raw, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return cursor{}, refused.Because(err)
	}
	page, entry, _ := strings.Cut(string(raw), ".")
	var c cursor
	c.page, err = strconv.Atoi(page)
	if err != nil || c.page < 1 {
		return cursor{}, refused
	}
	c.entry, err = strconv.Atoi(entry)
	if err != nil || c.entry < 0 || c.entry > pageLength || c.String() != s {
		return cursor{}, refused
	}
	return c, nil
}

// Page returns up to limit ids of an index, newest first, from the given cursor ("" is the newest), and the
// cursor of what follows ("" at the end). What is appended meanwhile does not shift a cursor.
func (s *Store) Page(ctx context.Context, index string, limit int, from string) (ids []string, next string, err error) {
	var place cursor
	if from != "" {
		if place, err = parseCursor(from); err != nil {
			return nil, "", err
		}
	}
	head, err := Get[indexPage](ctx, s, indexHeadKey(index))
	if errors.Is(err, ErrNotFound) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	page := head.Value
	switch {
	case from == "":
		place = cursor{page: page.Number, entry: len(page.IDs)}
	case place.page > page.Number:
		place = cursor{page: page.Number, entry: len(page.IDs)}
	}
	for len(ids) < limit {
		if page.Number != place.page {
			doc, err := Get[indexPage](ctx, s, indexPageKey(index, place.page))
			if err != nil {
				return nil, "", fmt.Errorf("page %d of index %s: %w", place.page, index, err)
			}
			page = doc.Value
		}
		place.entry = min(place.entry, len(page.IDs))
		first := max(0, place.entry-(limit-len(ids)))
		taken := slices.Clone(page.IDs[first:place.entry])
		slices.Reverse(taken)
		ids = append(ids, taken...)
		place.entry = first
		if place.entry == 0 {
			if place.page == 1 {
				return ids, "", nil
			}
			place = cursor{page: place.page - 1, entry: pageLength}
		}
	}
	return ids, place.String(), nil
}

// Place is an entry's place in an index, counted from the oldest: it stays what it is whatever is appended. The zero
// Place is the oldest entry's. It may be kept in a document.
type Place struct {
	Page  int `json:"page"`  // counts from 1; 0 is 1 too
	Entry int `json:"entry"` // counts from 0
}

// Next is the place after this one, where the next entry is or will be.
func (p Place) Next() Place {
	p.Page = max(p.Page, 1)
	if p.Entry++; p.Entry >= pageLength {
		return Place{Page: p.Page + 1}
	}
	return p
}

// Before says whether the place comes earlier than another.
func (p Place) Before(other Place) bool {
	if a, b := max(p.Page, 1), max(other.Page, 1); a != b {
		return a < b
	}
	return p.Entry < other.Entry
}

// Entry is an id in an index, and where it is.
type Entry struct {
	ID string
	At Place
}

// Forward returns entries of an index from a place on, oldest first: those up to the end of the place's page. To read
// on, ask again from the place after the last one; none is the end of the index. It reads two documents at most,
// however long the index is.
func (s *Store) Forward(ctx context.Context, index string, from Place) ([]Entry, error) {
	from.Page = max(from.Page, 1)
	head, err := Get[indexPage](ctx, s, indexHeadKey(index))
	if errors.Is(err, ErrNotFound) || err == nil && from.Page > head.Value.Number {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	page := head.Value
	if from.Page < page.Number {
		doc, err := Get[indexPage](ctx, s, indexPageKey(index, from.Page))
		if err != nil {
			return nil, fmt.Errorf("page %d of index %s: %w", from.Page, index, err)
		}
		page = doc.Value
	}
	var entries []Entry
	for at := from; at.Page == from.Page && at.Entry < len(page.IDs); at = at.Next() {
		entries = append(entries, Entry{ID: page.IDs[at.Entry], At: at})
	}
	return entries, nil
}

// listRounds bounds how many pages one List reads when it meets documents that are not shown.
const listRounds = 5

// List returns up to limit documents of an index, newest first, and the cursor of what follows. key tells an
// id's document; those that are gone, or that shown refuses, are skipped. It may return fewer than limit, even
// none, while there is more.
func List[T any](ctx context.Context, s *Store, index string, limit int, from string, key func(id string) string, shown func(T) bool) ([]T, string, error) {
	values := make([]T, 0, limit)
	next := from
	for range listRounds {
		ids, following, err := s.Page(ctx, index, limit-len(values), next)
		if err != nil {
			return nil, "", err
		}
		keys := make([]string, len(ids))
		for i, id := range ids {
			keys[i] = key(id)
		}
		docs, err := GetMany[T](ctx, s, keys)
		if err != nil {
			return nil, "", err
		}
		for _, doc := range docs {
			if shown(doc.Value) {
				values = append(values, doc.Value)
			}
		}
		next = following
		if next == "" || len(values) == limit {
			break
		}
	}
	return values, next, nil
}

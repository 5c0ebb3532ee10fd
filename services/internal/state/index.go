package state

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"boxoffice/services/internal/problem"
)

// Dapr's state API has no portable query, so lists are stored as index pages. An index has a partition for each writer of the
// journal. Only this writer appends to it, so an append needs no condition and no read, and writers do not conflict. A
// partition has a head document with its newest entries. When the head is full, its entries move to a page. A list merges the
// partitions by their entries, which are UUIDv7 and sort by time. An append writes one document for each transaction, and a
// read of the newest entries reads one or two for each partition, however long the index is.
//
//	index/{name}@{partition}           a partition's head
//	index/{name}@{partition}/{number}  a full page
//	index/{name}, index/{name}/{n}     the partition "legacy": entries of the earlier release
//
// A list skips deleted documents, and a Compactor removes their entries from full pages, so that lists do not read them again. A
// removed entry is empty, so the places of the others stay the same. A page without entries refers to the next page that has
// entries. A service that works an index off, from its oldest entries on, stores the Places that it has reached (see
// Store.Forward), and can delete the pages before them (see Change.Trim).

const (
	// pageLength is how many ids a page has: less than 1 kB of UUIDs. A short head is cheap to write. Pages are read several at a
	// time.
	pageLength = 20
	// legacyPartition is the partition without a name in its key. Its pages are longer.
	legacyPartition  = "legacy"
	legacyPageLength = 200
	// headsRemembered bounds the heads that a writer has in memory.
	headsRemembered = 4096
)

// indexPage is a page of an index, oldest entry first. A removed entry is "". Number counts from 1; the head has the highest.
type indexPage struct {
	Schema int      `json:"schema"`
	Number int      `json:"number"`
	IDs    []string `json:"ids"`
	// Removed means that this page has no entries, nor have the pages between it and the page Before. If Before is 0, no earlier
	// page has entries.
	Removed bool `json:"removed,omitempty"`
	Before  int  `json:"before,omitempty"`
}

func indexHeadKey(index, partition string) string {
	if partition == legacyPartition {
		return "index/" + index
	}
	return "index/" + index + "@" + partition
}

func indexPageKey(index, partition string, number int) string {
	return indexHeadKey(index, partition) + "/" + strconv.Itoa(number)
}

// head is the head of a writer's partition as it is stored.
type head = indexPage

// appended has the writes that append a batch's entries, and the heads as they are after the commit.
type appended struct {
	writes []write
	heads  map[string]*head
}

// appendToIndexes makes the writes that append the batch's entries to this writer's partitions. It reads the heads that are not
// in memory.
func (w *writer) appendToIndexes(ctx context.Context, batch []*request) (appended, error) {
	var indexes []string
	ids, ttl := map[string][]string{}, map[string]time.Duration{}
	for _, r := range batch {
		for _, a := range r.change.appends {
			if ids[a.index] == nil {
				indexes = append(indexes, a.index)
			}
			ids[a.index] = append(ids[a.index], a.id)
			ttl[a.index] = a.ttl
		}
	}
	if len(indexes) == 0 {
		return appended{}, nil
	}
	partition := strconv.Itoa(w.partition)
	heads, err := w.readHeads(ctx, indexes, partition)
	if err != nil {
		return appended{}, err
	}
	all := appended{heads: map[string]*head{}}
	for _, index := range indexes {
		page := heads[index]
		page.IDs = slices.Clone(page.IDs)
		var full Change
		for _, id := range ids[index] {
			if len(page.IDs) >= pageLength {
				full.addDocument(write{key: indexPageKey(index, partition, page.Number), blind: true, ttl: ttl[index]}, page)
				page = indexPage{Schema: 1, Number: page.Number + 1}
			}
			page.IDs = append(page.IDs, id)
		}
		full.addDocument(write{key: indexHeadKey(index, partition), blind: true, ttl: ttl[index]}, page)
		if full.err != nil {
			return appended{}, full.err
		}
		all.writes = append(all.writes, full.writes...)
		all.heads[index] = &page
	}
	return all, nil
}

// readHeads returns the heads of indexes, from memory or from the store.
func (w *writer) readHeads(ctx context.Context, indexes []string, partition string) (map[string]head, error) {
	heads := map[string]head{}
	var keys []string
	for _, index := range indexes {
		if known := w.heads[index]; known != nil {
			heads[index] = *known
		} else {
			heads[index] = head{Schema: 1, Number: 1}
			keys = append(keys, indexHeadKey(index, partition))
		}
	}
	items, err := w.store.read(ctx, keys...)
	if err != nil {
		return nil, err
	}
	for _, index := range indexes {
		key := indexHeadKey(index, partition)
		if items[key].exists() {
			var page head
			if err := unmarshal(key, items[key].value, &page); err != nil {
				return nil, err
			}
			heads[index] = page
		}
	}
	return heads, nil
}

// remember keeps a head in memory. (A map, not an LRU: which head is dropped does not matter.)
func (w *writer) remember(index string, h *head) {
	if _, known := w.heads[index]; !known && len(w.heads) >= headsRemembered {
		for other := range w.heads {
			delete(w.heads, other) // any one: it is read again when it is needed
			break
		}
	}
	w.heads[index] = h
}

// Place is the place of an entry in a partition of an index, counted from the oldest, so that appending does not change it. The
// zero Place is that of the oldest entry. It may be stored in a document.
type Place struct {
	Page  int `json:"page"`  // counts from 1; 0 is 1 too
	Entry int `json:"entry"` // counts from 0
}

// Next returns the next place on the same page. After a page's last entry it is equivalent to the beginning of the next page.
func (p Place) Next() Place { return Place{Page: max(p.Page, 1), Entry: p.Entry + 1} }

// Before reports whether the place comes before another.
func (p Place) Before(other Place) bool { return p.compare(other) < 0 }

func (p Place) compare(other Place) int {
	return cmp.Or(cmp.Compare(max(p.Page, 1), max(other.Page, 1)), cmp.Compare(p.Entry, other.Entry))
}

// Places is how far an index was read: for each partition, the place of the first entry that was not read. The zero value is
// the beginning. It may be stored in a document.
type Places map[string]Place

// Entry is an id in an index with its place.
type Entry struct {
	ID        string
	Partition string
	At        Place
}

// partitions reads the heads of all partitions of an index that have entries.
func (s *Store) partitions(ctx context.Context, index string) (heads map[string]indexPage, err error) {
	for known := int(s.knownPartitions.Load()); ; {
		names := make([]string, 0, known+1)
		keys := []string{registryKey}
		if s.legacy.Load() {
			names = append(names, legacyPartition)
		}
		for partition := range known {
			names = append(names, strconv.Itoa(partition))
		}
		for _, name := range names {
			keys = append(keys, indexHeadKey(index, name))
		}
		items, err := s.read(ctx, keys...)
		if err != nil {
			return nil, err
		}
		doc, err := decode[registry](items[registryKey], registryKey)
		if err != nil {
			return nil, err
		}
		if doc.Value.Partitions > known { // a new replica has one more
			known = doc.Value.Partitions
			s.knownPartitions.Store(int64(known))
			continue
		}
		heads = map[string]indexPage{}
		for _, name := range names {
			page, err := decode[indexPage](items[indexHeadKey(index, name)], indexHeadKey(index, name))
			if errors.Is(err, ErrNotFound) {
				continue
			}
			if err != nil {
				return nil, err
			}
			heads[name] = page.Value
		}
		return heads, nil
	}
}

// cursor is where a list continues: for each partition, the entries before Place.Entry on the page are next. Partitions that are
// not in it have no more entries.
type cursor map[string]Place

func (c cursor) String() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(c)) {
		if name == legacyPartition {
			parts = append(parts, fmt.Sprintf("%d.%d", c[name].Page, c[name].Entry))
		} else {
			parts = append(parts, fmt.Sprintf("%s:%d.%d", name, c[name].Page, c[name].Entry))
		}
	}
	return base64.RawURLEncoding.EncodeToString([]byte(strings.Join(parts, ",")))
}

// maxCursorLength bounds a cursor: some 50 partitions.
const maxCursorLength = 1024

// parseCursor decodes a cursor, also one of the earlier release, which was a single place.
func parseCursor(s string) (cursor, error) {
	refused := problem.New(problem.Invalid, "invalid", "The cursor is not one that this list gave out. Start again without it.").WithField("cursor")
	raw, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(s) > maxCursorLength {
		return nil, refused.Because(err)
	}
	c := cursor{}
	for part := range strings.SplitSeq(string(raw), ",") {
		name, place, found := strings.Cut(part, ":")
		if !found {
			name, place = legacyPartition, part
		} else if n, err := strconv.Atoi(name); err != nil || n < 0 || strconv.Itoa(n) != name {
			return nil, refused
		}
		page, entry, _ := strings.Cut(place, ".")
		var at Place
		if at.Page, err = strconv.Atoi(page); err != nil || at.Page < 1 {
			return nil, refused
		}
		if at.Entry, err = strconv.Atoi(entry); err != nil || at.Entry < 0 || at.Entry > legacyPageLength {
			return nil, refused
		}
		c[name] = at
	}
	if c.String() != s {
		return nil, refused
	}
	return c, nil
}

// backward reads one partition from a place towards its oldest entry.
type backward struct {
	name  string
	place Place // the next entry is before it
	pages map[int]indexPage
}

// next returns the newest entry that was not read yet, if its page is in memory.
func (b *backward) next() (id string, ok bool) {
	if b.place.Entry == 0 {
		return "", false
	}
	return b.pages[b.place.Page].IDs[b.place.Entry-1], true
}

// settle moves to the previous page if the place's page has no more entries. It returns the number of the page that must be
// read, or 0.
func (b *backward) settle() (missing int) {
	for b.place.Page > 0 {
		if b.place.Entry == 0 {
			b.place = Place{Page: b.place.Page - 1, Entry: legacyPageLength}
			continue
		}
		page, loaded := b.pages[b.place.Page]
		if !loaded {
			return b.place.Page
		}
		if page.Removed {
			b.place = Place{Page: page.Before, Entry: legacyPageLength}
			continue
		}
		b.place.Entry = min(b.place.Entry, len(page.IDs))
		for b.place.Entry > 0 && page.IDs[b.place.Entry-1] == "" {
			b.place.Entry--
		}
		if b.place.Entry > 0 {
			return 0
		}
	}
	b.place = Place{}
	return 0
}

// Page returns up to limit ids of an index, newest first, from the given cursor ("" is the newest entry), and the cursor of the
// next ids ("" at the end). Entries that are appended later do not shift a cursor.
func (s *Store) Page(ctx context.Context, index string, limit int, from string) (ids []string, next string, err error) {
	var begin cursor
	if from != "" {
		if begin, err = parseCursor(from); err != nil {
			return nil, "", err
		}
	}
	heads, err := s.partitions(ctx, index)
	if err != nil {
		return nil, "", err
	}
	var parts []*backward
	for name, head := range heads {
		b := &backward{name: name, place: Place{Page: head.Number, Entry: len(head.IDs)}, pages: map[int]indexPage{head.Number: head}}
		if begin != nil {
			place, more := begin[name]
			if !more {
				continue
			}
			if place.Before(b.place) {
				b.place = place
			}
		}
		parts = append(parts, b)
	}
	for len(ids) < limit {
		if err := s.loadPages(ctx, index, parts, limit-len(ids)); err != nil {
			return nil, "", err
		}
		var newest *backward
		var id string
		for _, b := range parts {
			if candidate, ok := b.next(); ok && (newest == nil || candidate > id) {
				newest, id = b, candidate
			}
		}
		if newest == nil {
			break
		}
		ids = append(ids, id)
		newest.place.Entry--
	}
	end := cursor{}
	for _, b := range parts {
		if b.place.Entry > 0 || b.place.Page > 1 {
			end[b.name] = b.place
		}
	}
	if len(end) == 0 {
		return ids, "", nil
	}
	return ids, end.String(), nil
}

// loadPages reads, in one bulk, the next pages of partitions whose page has no more entries, and as many pages before them as the
// wanted entries may need.
func (s *Store) loadPages(ctx context.Context, index string, parts []*backward, wanted int) error {
	type page struct {
		part   *backward
		number int
	}
	missing := map[string]page{}
	var keys []string
	for _, b := range parts {
		for number := b.settle(); number > 0 && number > b.place.Page-1-wanted/pageLength; number-- {
			key := indexPageKey(index, b.name, number)
			missing[key] = page{b, number}
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	docs, err := GetMany[indexPage](ctx, s, keys)
	if err != nil {
		return err
	}
	if len(docs) < len(keys) {
		return fmt.Errorf("pages of index %s are missing: %d of %v", index, len(keys)-len(docs), keys)
	}
	for _, doc := range docs {
		m := missing[doc.Key]
		m.part.pages[m.number] = doc.Value
	}
	return s.loadPages(ctx, index, parts, wanted) // settle on the pages that were read
}

// Forward returns entries of an index from the given places on, oldest first in each partition, at most one page of each. next is
// where to continue. At the end of the index there are no entries.
func (s *Store) Forward(ctx context.Context, index string, from Places) (entries []Entry, next Places, err error) {
	heads, err := s.partitions(ctx, index)
	if err != nil {
		return nil, nil, err
	}
	next = Places{}
	maps.Copy(next, from)
	pages := map[string]indexPage{} // by partition, the one to read
	keys := map[string]string{}     // of full pages, with their partition
	for name, head := range heads {
		place := next[name]
		place.Page = max(place.Page, 1)
		next[name] = place
		switch {
		case place.Page == head.Number:
			pages[name] = head
		case place.Page < head.Number:
			keys[indexPageKey(index, name, place.Page)] = name
		}
	}
	if err := s.forwardPages(ctx, index, keys, pages); err != nil {
		return nil, nil, err
	}
	// A partition whose full page was read to its end continues with the next page.
	keys = map[string]string{}
	for name, page := range pages {
		if place := next[name]; place.Page < heads[name].Number && place.Entry >= len(page.IDs) {
			next[name] = Place{Page: place.Page + 1}
			if place.Page+1 == heads[name].Number {
				pages[name] = heads[name]
			} else {
				keys[indexPageKey(index, name, place.Page+1)] = name
			}
		}
	}
	if err := s.forwardPages(ctx, index, keys, pages); err != nil {
		return nil, nil, err
	}
	moved := false
	for name, page := range pages {
		for at := next[name]; at.Entry < len(page.IDs); at = at.Next() {
			if page.IDs[at.Entry] != "" {
				entries = append(entries, Entry{ID: page.IDs[at.Entry], Partition: name, At: at})
			}
			next[name] = at.Next()
		}
		moved = moved || from[name].Before(next[name])
	}
	if len(entries) == 0 && moved { // all entries of these pages are removed, and there are more pages
		return s.Forward(ctx, index, next)
	}
	return entries, next, nil
}

func (s *Store) forwardPages(ctx context.Context, index string, keys map[string]string, into map[string]indexPage) error {
	if len(keys) == 0 {
		return nil
	}
	list := slices.Collect(maps.Keys(keys))
	docs, err := GetMany[indexPage](ctx, s, list)
	if err != nil {
		return err
	}
	if len(docs) < len(keys) {
		return fmt.Errorf("pages of index %s are missing among %v", index, list)
	}
	for _, doc := range docs {
		into[keys[doc.Key]] = doc.Value
	}
	return nil
}

// Each calls each with all documents of an index, a few hundred at a time, oldest first in each partition. key returns the key of an id's
// document. Documents that do not exist are skipped, and so are those that are appended after Each has begun.
func Each[T any](ctx context.Context, s *Store, index string, key func(id string) string, each func([]Doc[T]) error) error {
	var from Places
	for {
		entries, next, err := s.Forward(ctx, index, from)
		if err != nil || len(entries) == 0 {
			return err
		}
		keys := make([]string, len(entries))
		for i, entry := range entries {
			keys[i] = key(entry.ID)
		}
		docs, err := GetMany[T](ctx, s, keys)
		if err != nil {
			return err
		}
		if err := each(docs); err != nil {
			return err
		}
		from = next
	}
}

// listRounds bounds how many pages one List reads if it finds documents that are not shown.
const listRounds = 5

// List returns up to limit documents of an index, newest first, and the cursor of the next ones. key returns the key of an id's
// document. Documents that do not exist, or for which shown returns false, are skipped. List may return fewer than limit
// documents, or none, although there are more: the list has ended only if next is "".
func List[T any](ctx context.Context, s *Store, index string, limit int, from string, key func(id string) string, shown func(T) bool) (page []T, next string, err error) {
	values := make([]T, 0, limit)
	next = from
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

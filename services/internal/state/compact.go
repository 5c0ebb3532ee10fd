package state

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"time"
)

const (
	// pagesCompacted is how many pages are read at once, with the documents of their entries.
	pagesCompacted = 16
	// nearTop is how many remaining entries a Compactor reads after a wake, from the newest on.
	nearTop = 400
	// compactPause is the time between two passes of a Compactor. The entries of one pause are removed together.
	compactPause = 2 * time.Second
)

// Compactor removes entries of an index whose documents are not listed any more, in the background. After Wake it compacts the
// newest pages, which are read most. All compacts the whole index.
type Compactor[T any] struct {
	store *Store
	index string
	key   func(id string) string
	// unlist reports whether a document's entry is to be removed. It may note that in the document, so that a decision that lists
	// the document again adds an entry. Both are committed together.
	unlist func(*T) bool
	log    *slog.Logger
	woken  chan struct{} // holds a token
}

// NewCompactor makes a Compactor; key and unlist are described at its fields. The caller must call Run.
func NewCompactor[T any](s *Store, index string, key func(id string) string, unlist func(*T) bool) *Compactor[T] {
	c := &Compactor[T]{store: s, index: index, key: key, unlist: unlist, log: s.opts.Log, woken: make(chan struct{}, 1)}
	c.Wake() // for deletions before this process has started
	return c
}

// Wake requests a pass soon. It does not block.
func (c *Compactor[T]) Wake() {
	select {
	case c.woken <- struct{}{}:
	default:
	}
}

// Run makes a pass some time after each wake, until ctx ends.
func (c *Compactor[T]) Run(ctx context.Context) error {
	for {
		select {
		case <-c.woken:
		case <-ctx.Done():
			return nil
		}
		select {
		case <-time.After(compactPause):
		case <-ctx.Done():
			return nil
		}
		if _, err := c.pass(ctx, nearTop); err != nil && ctx.Err() == nil {
			c.log.Warn("an index was not compacted; the next deletion retries it", "index", c.index, "error", err)
		}
	}
}

// All compacts all full pages, and returns how many entries it has removed. Several processes may do so at the same time.
func (c *Compactor[T]) All(ctx context.Context) (removed int, err error) {
	return c.pass(ctx, math.MaxInt)
}

// pass compacts the full pages of each partition, from the newest on, until it has found enough entries that stay.
func (c *Compactor[T]) pass(ctx context.Context, enough int) (removed int, err error) {
	heads, err := c.store.partitions(ctx, c.index)
	if err != nil {
		return 0, err
	}
	for name, head := range heads {
		n, err := c.compactPartition(ctx, name, head.Number-1, enough)
		removed += n
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}

func (c *Compactor[T]) compactPartition(ctx context.Context, name string, from, enough int) (removed int, err error) {
	var run Doc[indexPage] // the newest of a sequence of removed pages
	inRun, stay := false, 0
	endRun := func(before int) error {
		if !inRun {
			return nil
		}
		inRun = false
		return c.link(ctx, run.Key, before)
	}
	for number := from; number > 0 && stay < enough; {
		var keys []string
		for n := number; n > 0 && n > number-pagesCompacted; n-- {
			keys = append(keys, indexPageKey(c.index, name, n))
		}
		pages, err := GetMany[indexPage](ctx, c.store, keys)
		if err != nil {
			return removed, err
		}
		documents, err := c.documents(ctx, pages)
		if err != nil {
			return removed, err
		}
		next := number - len(keys)
		for _, page := range pages {
			if page.Value.Number > number {
				continue // a removed page refers to a page before it
			}
			if !page.Value.Removed {
				n, err := c.compact(ctx, &page, documents)
				if err != nil {
					return removed, err
				}
				removed += n
			}
			if page.Value.Removed {
				if !inRun {
					run, inRun = page, true
				}
				number = page.Value.Before
				next = min(next, number)
				continue
			}
			if err := endRun(page.Value.Number); err != nil {
				return removed, err
			}
			number = page.Value.Number - 1
			for _, id := range page.Value.IDs {
				if id != "" {
					stay++
				}
			}
		}
		number = next
	}
	if stay < enough {
		return removed, endRun(0)
	}
	return removed, nil
}

// documents reads the documents of all entries of pages, by key.
func (c *Compactor[T]) documents(ctx context.Context, pages []Doc[indexPage]) (map[string]Doc[T], error) {
	var keys []string
	for _, page := range pages {
		for _, id := range page.Value.IDs {
			if id != "" {
				keys = append(keys, c.key(id))
			}
		}
	}
	documents := make(map[string]Doc[T], len(keys))
	for chunk := range slices.Chunk(keys, maxReadKeys) {
		found, err := GetMany[T](ctx, c.store, chunk)
		if err != nil {
			return nil, err
		}
		for _, doc := range found {
			documents[doc.Key] = doc
		}
	}
	return documents, nil
}

// compact removes entries of one page. On a conflict with the page or one of its documents, the page stays unchanged.
func (c *Compactor[T]) compact(ctx context.Context, page *Doc[indexPage], documents map[string]Doc[T]) (removed int, err error) {
	var change Change
	compacted := page.Value
	compacted.IDs = slices.Clone(page.Value.IDs)
	left := 0
	for i, id := range compacted.IDs {
		if id == "" {
			continue
		}
		doc, exists := documents[c.key(id)]
		if exists && !c.unlist(&doc.Value) {
			left++
			continue
		}
		if exists {
			change.Update(doc.Key, doc.ETag, doc.Value)
		}
		compacted.IDs[i] = ""
		removed++
	}
	if removed == 0 {
		return 0, nil
	}
	if left == 0 {
		compacted = indexPage{Schema: 1, Number: compacted.Number, IDs: []string{}, Removed: true, Before: compacted.Number - 1}
	}
	change.Update(page.Key, page.ETag, compacted)
	if err := c.store.Commit(ctx, &change); errors.Is(err, ErrConflict) {
		return 0, nil
	} else if err != nil {
		return 0, fmt.Errorf("compact %s: %w", page.Key, err)
	}
	page.Value = compacted
	return removed, nil
}

// link lets a removed page refer to the next older page that has entries.
func (c *Compactor[T]) link(ctx context.Context, key string, before int) error {
	page, err := Get[indexPage](ctx, c.store, key)
	if err != nil || !page.Value.Removed || page.Value.Before == before {
		return err
	}
	page.Value.Before = before
	var change Change
	change.Update(page.Key, page.ETag, page.Value)
	if err := c.store.Commit(ctx, &change); err != nil && !errors.Is(err, ErrConflict) {
		return fmt.Errorf("link %s: %w", key, err)
	}
	return nil
}

// Trim deletes full pages of an index between from, which an earlier Trim has returned, and to. It deletes at most most pages, and
// returns the places that it has reached. No reader may need the entries before them.
func (c *Change) Trim(index string, from, to Places, most int) (trimmed Places) {
	trimmed = Places{}
	for partition, place := range to {
		page := max(from[partition].Page, 1)
		for ; page < place.Page && most > 0; page++ {
			c.add(write{key: indexPageKey(index, partition, page), delete: true, blind: true})
			most--
		}
		trimmed[partition] = Place{Page: page}
	}
	return trimmed
}

package state

import (
	"context"
	"time"
)

// Aggregates that have changed in the last days are in an index for each day, so that a reconciliation finds them without reading
// all documents. These indexes have a time to live.
//
//	index/recent/{kind}/{2006-01-02}@{partition}…

const (
	// notedAgainAfter is the age from which a change of an aggregate is noted. For younger ones the note of the creation is
	// sufficient.
	notedAgainAfter = 12 * time.Hour
	// recentLife is the time to live of the index of a day: longer than MaxRecent.
	recentLife = 5 * 24 * time.Hour
	// MaxRecent is the longest period that Recent can be called with.
	MaxRecent = 72 * time.Hour
)

func recentIndex(kind string, day time.Time) string {
	return "recent/" + kind + "/" + day.UTC().Format(time.DateOnly)
}

// Note adds an aggregate to the recent ones of its kind. For notedAgainAfter from its creation it is not noted again.
func (c *Change) Note(kind, id string, createdAt, now time.Time) {
	if age := now.Sub(createdAt); age == 0 || age > notedAgainAfter {
		c.appends = append(c.appends, indexEntry{recentIndex(kind, now), id, recentLife})
	}
}

// Recent calls each with the ids of the aggregates of a kind that have changed since a time, a few hundred at a time, oldest first
// within a day. An id may come more than once, and so may an id that has changed shortly before that time.
func (s *Store) Recent(ctx context.Context, kind string, since, now time.Time, each func(ids []string) error) error {
	// An aggregate is noted under the day of its creation, and changes for some time after that.
	for day := since.Add(-notedAgainAfter).UTC().Truncate(24 * time.Hour); !day.After(now); day = day.AddDate(0, 0, 1) {
		var from Places
		for {
			entries, next, err := s.Forward(ctx, recentIndex(kind, day), from)
			if err != nil {
				return err
			}
			if len(entries) == 0 {
				break
			}
			ids := make([]string, len(entries))
			for i, entry := range entries {
				ids[i] = entry.ID
			}
			if err := each(ids); err != nil {
				return err
			}
			from = next
		}
	}
	return nil
}

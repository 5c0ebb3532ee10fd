package state

import (
	"context"
	"time"
)

// What changed lately is in an index a day, so that a reconciliation finds it without reading everything. The store forgets
// such an index by itself.
//
//	index/recent/{kind}/{2006-01-02}@{partition}…

const (
	// notedAgainAfter is how old an aggregate must be for a change of it to be noted once more: until then the note of its
	// creation will do.
	notedAgainAfter = 12 * time.Hour
	// recentLife is how long the index of a day is kept: longer than any reconciliation looks back.
	recentLife = 5 * 24 * time.Hour
	// LongestLookBack is how far back Recent can look.
	LongestLookBack = 72 * time.Hour
)

func recentIndex(kind string, day time.Time) string {
	return "recent/" + kind + "/" + day.UTC().Format(time.DateOnly)
}

// Note adds an aggregate to those of its kind that have changed lately; createdAt is when it was created. An aggregate that is
// young was noted when it was created, and is not noted again.
func (c *Change) Note(kind, id string, createdAt, now time.Time) {
	if age := now.Sub(createdAt); age == 0 || age > notedAgainAfter {
		c.appends = append(c.appends, indexEntry{recentIndex(kind, now), id, recentLife})
	}
}

// Recent calls each with the ids of the aggregates of a kind that have changed since a time, up to some hundred at a time,
// oldest first a day; one that has changed often may come more than once, and so may one that changed somewhat before.
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

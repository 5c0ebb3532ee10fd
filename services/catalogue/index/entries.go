package index

import (
	"fmt"

	"boxoffice/services/internal/id"
)

// This file writes the index as changes, for snapshots.

// MaxChunks is the highest number of chunks of a snapshot (see Entries).
const MaxChunks = 1024

// Entries returns one chunk of all that the index knows, as changes that make it again in another index. The chunks are numbered from 0,
// and of is how many there are: a power of two up to MaxChunks. A show or listing is always in the same chunk.
func (x *Index) Entries(chunk, of int) []Change {
	if of < 1 || of > MaxChunks || MaxChunks%of != 0 || chunk < 0 || chunk >= of {
		panic(fmt.Sprintf("there is no chunk %d of %d", chunk, of))
	}
	var entries []Change
	for i := chunk; i < MaxChunks; i += of {
		entries = x.appendBucket(entries, i)
	}
	return entries
}

func (x *Index) appendBucket(entries []Change, i int) []Change {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, s := range x.buckets[i].shows {
		if s.state != nil {
			entries = append(entries, Change{Show: s.state})
		}
	}
	for _, l := range x.buckets[i].listings {
		if l.version > 0 {
			entries = append(entries, Change{Listing: new(l.export())})
		}
		if l.reservationSequence > l.sequence {
			entries = append(entries, Change{Reservation: &Reservation{
				TicketID: l.id, Sequence: l.reservationSequence, Status: l.reservation, At: timeOf(l.reservedAt),
			}})
		}
	}
	return entries
}

// export returns the listing as it was applied; a deleted one without what is not kept.
func (l *listing) export() Listing {
	e := Listing{
		ID: l.id, Title: l.title.Value(), Price: l.price, Currency: l.currency.Value(), UserID: id.User(l.seller.Value()), Place: l.place(),
		FaceValue: l.faceValue, SalesEndAt: timeOf(l.salesEndAt), ResaleOf: l.resaleOf, Status: l.listed, Sequence: l.sequence, Version: l.version,
		Deleted: l.deleted, CreatedAt: timeOf(l.createdAt), UpdatedAt: timeOf(l.updatedAt),
	}
	if l.of != nil {
		e.ShowID = l.of.id
	}
	if l.deleted {
		e.Price, e.Currency = 0, ""
	}
	return e
}

// place is nil if the listing names none.
func (l *listing) place() *Place {
	p := Place{Section: l.section.Value(), Row: l.row.Value(), Number: l.number.Value()}
	if p == (Place{}) {
		return nil
	}
	return &p
}

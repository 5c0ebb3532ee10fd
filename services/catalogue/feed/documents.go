package feed

import (
	"encoding/json"
	"strconv"
	"time"

	"boxoffice/services/catalogue/index"
	"boxoffice/services/internal/state"
)

// The documents of the feed:
//
//	feed/head            head: the epoch and the number of the last batch
//	feed/batch/{n}       batch n, from 1. Numbers go on growing over epochs
//	feed/snapshot        manifest: which batches and which chunks count
//	feed/chunk/{g}/{n}   chunk n, from 0, of the snapshot g
//
// An append changes the head under its ETag. A compaction changes the manifest under its ETag, and never the head, so that neither waits
// for the other. A new epoch changes both in one transaction.
const (
	headKey     = "feed/head"
	manifestKey = "feed/snapshot"
)

func batchKey(number uint64) string { return "feed/batch/" + strconv.FormatUint(number, 10) }

func chunkKey(snapshot uint64, number int) string {
	return "feed/chunk/" + strconv.FormatUint(snapshot, 10) + "/" + strconv.Itoa(number)
}

// head is the end of the feed.
type head struct {
	Schema int `json:"schema"`
	// Epoch is the feed's id until it begins anew. Positions of two epochs cannot be compared.
	Epoch string `json:"epoch"`
	// Last is the number of the last batch. The next one has the following number.
	Last uint64 `json:"last"`
	// ID is that of the last batch; "" if there is none.
	ID string `json:"id,omitempty"`
}

// manifest describes what a start loads: the chunks of the snapshot, then the batches after Position.
type manifest struct {
	Schema int    `json:"schema"`
	Epoch  string `json:"epoch"`
	// First is the first batch of the epoch that is kept, at most Position+1.
	First uint64 `json:"first"`
	// Oldest is the first batch that may still be stored. Those before First are being deleted.
	Oldest uint64 `json:"oldest"`
	// Snapshot is the number of the snapshot that counts, Chunks how many chunks and Entries how many changes it has. 0: none.
	Snapshot uint64 `json:"snapshot,omitempty"`
	Chunks   int    `json:"chunks,omitempty"`
	Entries  int    `json:"entries,omitempty"`
	// Position is the last batch that the snapshot certainly has. It may have changes of batches up to Until, because changes were
	// applied while it was made.
	Position uint64    `json:"position"`
	Until    uint64    `json:"until"`
	MadeAt   time.Time `json:"madeAt,omitzero"`
	// Numbered is the highest number that a snapshot was given.
	Numbered uint64 `json:"numbered,omitempty"`
	// Building is the snapshot that a process makes now.
	Building *building `json:"building,omitempty"`
	// Discarded are snapshots that no longer count, until their chunks are deleted.
	Discarded []discarded `json:"discarded,omitempty"`
	// Marks are ends of the feed at times before, oldest first. They decide which batches are old.
	Marks []mark `json:"marks,omitempty"`
}

// building is a snapshot that is not complete. Chunks bounds the chunks that it may have so far.
type building struct {
	Snapshot uint64    `json:"snapshot"`
	Chunks   int       `json:"chunks"`
	Instance string    `json:"instance"`
	BegunAt  time.Time `json:"begunAt"`
}

type discarded struct {
	Snapshot uint64    `json:"snapshot"`
	Chunks   int       `json:"chunks"`
	At       time.Time `json:"at"`
}

// mark is the number of the last batch at a time.
type mark struct {
	At   time.Time `json:"at"`
	Last uint64    `json:"last"`
}

// discard notes the snapshot that counts, and the one that is being made, as no longer needed.
func (m *manifest) discard(now time.Time) {
	if m.Chunks > 0 {
		m.Discarded = append(m.Discarded, discarded{m.Snapshot, m.Chunks, now})
	}
	if m.Building != nil {
		m.Discarded = append(m.Discarded, discarded{m.Building.Snapshot, m.Building.Chunks, now})
	}
	m.Snapshot, m.Chunks, m.Entries, m.Building = 0, 0, 0, nil
}

// batch is the changes that one transaction has appended.
type batch struct {
	Schema int `json:"schema"`
	// ID is random. By it a process finds out whether an append was committed whose outcome it did not get.
	ID string `json:"id"`
	// After is the id of the batch before. A batch that does not follow the one that a replica has applied last shows that the store
	// was restored from a backup.
	After string `json:"after,omitempty"`
	// At is when the batch was appended, by the clock of the process that did it.
	At      time.Time      `json:"at"`
	Changes []index.Change `json:"changes"`
}

// chunk is a part of a snapshot.
type chunk struct {
	Schema  int            `json:"schema"`
	Changes []index.Change `json:"changes"`
}

// encodeBatch puts encoded changes into a batch. Each was encoded once, when it came.
func encodeBatch(id, after string, at time.Time, changes [][]byte) state.Encoded {
	body := append([]byte(`{"schema":1,"id":"`), id...)
	body = append(body, `","after":"`...)
	body = append(body, after...)
	body = append(body, `","at":"`...)
	body = at.UTC().AppendFormat(body, time.RFC3339Nano)
	body = append(body, `",`...)
	return append(appendChanges(body, changes), '}')
}

func encodeChunk(changes [][]byte) state.Encoded {
	return append(appendChanges([]byte(`{"schema":1,`), changes), '}')
}

func appendChanges(body []byte, changes [][]byte) []byte {
	size := len(body) + 16
	for _, change := range changes {
		size += len(change) + 1
	}
	body = append(make([]byte, 0, size), body...)
	body = append(body, `"changes":[`...)
	for i, change := range changes {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, change...)
	}
	return append(body, ']')
}

func encode(change index.Change) ([]byte, error) { return json.Marshal(change) }
